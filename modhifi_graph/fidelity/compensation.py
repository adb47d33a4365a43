"""Sequential compensation: walk the dense and the slim model in step, and refit one consumer after the other.

Every consumer of the slim model is regressed onto what the dense model computes there, reading what the slim model really
feeds it, so that errors made upstream are repaired downstream. Where its output is added to a stream, the target is the
dense stream minus the slim one: the branch also makes up for what the stream has lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Groups, find_groups
from modhifi_graph.axes.layout import kept
from modhifi_graph.dialects.onnx import Lifted, lift
from modhifi_graph.dialects.onnx_lowering import new_initialiser
from modhifi_graph.dialects.onnx_stepper import Feeds, Stepper
from modhifi_graph.fidelity.consumers import Consumer, consumers_of
from modhifi_graph.fidelity.observe import sample_rows
from modhifi_graph.fidelity.regression import Regression
from modhifi_graph.graph import Graph, Op, Value
from modhifi_graph.plan import Plan

RIDGE = 1e-4
CHANNELS_FIRST = ("Conv",)


@dataclass(frozen=True, eq=False)
class Site:
    """A consumer of the slim model and where its target is found.

    Attributes
    ----------
    consumer : in the slim model.
    bias : the addition of a constant right after a MatMul, which serves as its bias; None where the op has a slot for one.
    output : name of the value that holds the output with its bias.
    stream : (name of the sum, name of the other summand) where the output joins a stream, else None.
    channels : positions of the dense output's channels that the slim one has.
    """

    consumer: Consumer
    bias: Op | None
    output: str
    stream: tuple[str, str] | None
    channels: np.ndarray


def compensate(
    dense: ir.Model,
    slim: ir.Model,
    plan: Plan,
    batches: Sequence[Feeds],
    *,
    ridge: float = RIDGE,
    seed: int = 0,
    threads: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Refit the consumers of ``slim`` in place, in the order in which they run; returns how many were refitted.

    Time: two forward passes plus O(rows * p * (p + o)) a consumer. Memory: both frontiers for all batches.
    """
    lifted = lift(slim)
    sites = list(_sites(lift(dense), lifted, plan))
    wanted = {site.stream[0] if site.stream else site.output for site in sites}
    reference = Stepper(dense, batches, wanted, threads)
    needed = {s.consumer.x.name for s in sites} | {s.stream[1] for s in sites if s.stream}
    stepper = Stepper(slim, batches, needed, threads)
    random = np.random.default_rng(seed)
    for number, site in enumerate(sites):
        fitted = _regress(site, reference, stepper, random)
        _refit(site, fitted, lifted, stepper, ridge)
        progress(number + 1, len(sites))
    return len(sites)


def _regress(site: Site, reference: Stepper, stepper: Stepper, random: np.random.Generator) -> Regression:
    name = site.stream[0] if site.stream else site.output
    inputs = stepper.values(site.consumer.x.name)
    others = stepper.values(site.stream[1]) if site.stream else [None] * len(inputs)
    targets = reference.values(name)
    axis = 1 if site.consumer.op.kind in CHANNELS_FIRST else -1
    fitted: Regression | None = None
    for x, other, target in zip(inputs, others, targets, strict=True):
        wanted = np.take(target, site.channels, axis=axis).astype(np.float32)
        if other is not None:
            wanted = wanted - other
        rows, picks = sample_rows(site.consumer, x, wanted, len(inputs), random)
        expected = site.consumer.output_rows(torch.from_numpy(wanted), picks)
        fitted = fitted.add(rows, expected) if fitted else Regression.of(rows, expected)
    reference.release(name)
    assert fitted is not None
    return fitted


def _refit(site: Site, fitted: Regression, lifted: Lifted, stepper: Stepper, ridge: float) -> None:
    op, node = site.consumer.op, lifted.nodes[site.consumer.op]
    slot = site.consumer.contraction.other
    value = op.inputs[slot]
    assert value is not None
    old = value.array()
    weight = torch.from_numpy(site.consumer.weight(old).astype(np.float64))
    intercept = site.bias is not None or op.kind in ("Conv", "Gemm")
    solved, bias = fitted.solve(weight, ridge, intercept)
    _set(lifted, stepper, node, slot, site.consumer.parameter(solved.numpy(), old))
    if site.bias is not None:
        where = 1 if site.bias.inputs[1] is not None and site.bias.inputs[1].is_constant else 0
        like = site.bias.inputs[where]
        assert like is not None
        _set(lifted, stepper, lifted.nodes[site.bias], where, bias.numpy().reshape(-1).astype(old.dtype))
    elif intercept:
        scaled = bias.numpy().reshape(-1) / (op.attributes.get("beta", 1.0) if op.kind == "Gemm" else 1.0)
        _set(lifted, stepper, node, 2, scaled.astype(old.dtype))


def _set(lifted: Lifted, stepper: Stepper, node: ir.Node, slot: int, array: np.ndarray) -> None:
    """Give the node a constant of its own in the model and in the run."""
    if slot >= len(node.inputs):
        node.resize_inputs(slot + 1)
    old = node.inputs[slot]
    name = old.name if old is not None else f"{node.inputs[1].name}_bias"
    if old is not None and len(old.uses()) == 1 and old.is_initializer():
        old.const_value = ir.tensor(np.ascontiguousarray(array), name=old.name)
        old.shape = ir.Shape(array.shape)
        stepper.replace(old.name, array)
        return
    new = new_initialiser(lifted.model, array, name)
    node.replace_input_with(slot, new)
    stepper.rewire(node.outputs[0].name, slot, new.name, array)


def _sites(dense: Lifted, slim: Lifted, plan: Plan) -> Iterator[Site]:
    groups, slim_groups = find_groups(couple(dense.graph)), find_groups(couple(slim.graph))
    keep = plan.resolve(groups)
    values = {value.name: value for value in dense.graph.values()}
    readers = _readers(slim.graph)
    order = {value: i for i, op in enumerate(slim.graph.ops) for value in op.outputs}
    order.update(dict.fromkeys(slim.graph.inputs, -1))
    for consumer in consumers_of(slim_groups).values():
        if not isinstance(consumer, Consumer):
            continue
        bias = None if consumer.op.kind in ("Conv", "Gemm") else _constant_addition(consumer.y, readers)
        output = bias.outputs[0] if bias else consumer.y
        axes = groups.coupling.axes(values[output.name])
        assert axes is not None
        channels = kept(axes[1 if consumer.op.kind in CHANNELS_FIRST else -1], keep)
        yield Site(consumer, bias, output.name, _stream(output, readers, order), channels)


def _readers(graph: Graph) -> dict[Value, list[Op]]:
    readers: dict[Value, list[Op]] = {}
    for op in graph.ops:
        for value in {v for v in op.inputs if v is not None}:
            readers.setdefault(value, []).append(op)
    for value in graph.outputs:
        readers.setdefault(value, [])
    return readers


def _constant_addition(value: Value, readers: dict[Value, list[Op]]) -> Op | None:
    """The one reader of ``value``, if it adds a constant along the last axis."""
    ops = readers.get(value, [])
    if len(ops) != 1 or ops[0].kind != "Add" or value.shape is None:
        return None
    constants = [v for v in ops[0].inputs if v is not None and v.is_constant]
    fits = [c for c in constants if c.shape and c.shape[-1] == value.shape[-1] and c.rank == 1]
    return ops[0] if fits else None


def _stream(value: Value, readers: dict[Value, list[Op]], order: dict[Value, int]) -> tuple[str, str] | None:
    """The addition that ``value`` goes into, where the other summand is there before it."""
    ops = readers.get(value, [])
    if len(ops) != 1 or ops[0].kind != "Add":
        return None
    others = [v for v in ops[0].inputs if v is not None and v is not value]
    if len(others) != 1 or others[0].is_constant or others[0].shape is None or value.shape is None:
        return None
    if len(others[0].shape) != len(value.shape) or order.get(others[0], 0) > order[value]:
        return None
    return ops[0].outputs[0].name, others[0].name
