"""Where a slim model can be repaired: its consumers, the bias that goes with each, and the stream that each joins."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Groups, find_groups
from modhifi_graph.axes.layout import Layout, kept
from modhifi_graph.dialects.program import Program, Stepper
from modhifi_graph.graph import Graph, Op, Value
from modhifi_graph.observe.consumers import Consumer, consumers_of


@dataclass(frozen=True, eq=False)
class Site:
    """A consumer of the slim model and where its target is found.

    Attributes
    ----------
    consumer : in the slim model.
    bias : (op, slot) of the constant that serves as its bias: its own slot, or an addition right after a MatMul; None where
        there is none and none can be given.
    output : the value that holds the output with its bias.
    stream : (the sum, the other summand) where the output joins a stream that does not depend on it, else None.
    late : whether the other summand is computed after the consumer, from what is not repaired on the way.
    channels : positions of the dense output's channels that the slim one has.
    normalised : whether a batch norm is all that reads the output.
    clip : (low, high) where all that reads the target is one activation that clips (ReLU, ReLU6, Clip), else None.
    mixing : what the slim output's channels are made of where they are not just ``channels``: a matrix of shape (dense
        channels, slim channels), or None.
    """

    consumer: Consumer
    bias: tuple[Op, int] | None
    output: Value
    stream: tuple[Value, Value] | None
    channels: np.ndarray
    normalised: bool
    clip: tuple[float, float] | None
    mixing: np.ndarray | None = None
    late: bool = False

    @property
    def reads(self) -> list[str]:
        """What is looked at in the slim model to repair it: its input, and the other summand of its stream."""
        return [self.consumer.x.name, *([self.stream[1].name] if self.stream else [])]

    @property
    def target(self) -> Value:
        """What the repair aims at, in the dense model by the same name: the stream the output joins, or the output."""
        return self.stream[0] if self.stream else self.output

    @property
    def channel_axis(self) -> int:
        return channel_axis(self.consumer)


def channel_axis(consumer: Consumer) -> int:
    """The axis of the output that holds its channels, counted from the front for convolutions, else from the back."""
    if consumer.op.kind == "Conv":
        return 1
    return -2 if consumer.op.kind == "MatMul" and consumer.contraction.slot == 1 else -1


def broadcast_channels(consumer: Consumer, numbers: np.ndarray) -> np.ndarray:
    """One number a channel, shape (channels,), in the shape that broadcasts against the output."""
    if consumer.stacked:
        return numbers.reshape(consumer.parts, 1, -1)
    axes = consumer.y.rank or 1
    return numbers.reshape([-1 if axis == channel_axis(consumer) % axes else 1 for axis in range(axes)])


def constant_bias(bias: tuple[Op, int] | None, consumer: Consumer) -> np.ndarray:
    """The bias as it is, shape (G, o); zeros where there is none."""
    value = bias[0].input(bias[1]) if bias is not None else None
    if bias is None or value is None:
        return np.zeros((consumer.parts, consumer.outputs))
    beta = bias[0].attributes.get("beta", 1.0) if bias[0].kind == "Gemm" else 1.0
    return value.array().astype(np.float64).reshape(consumer.parts, consumer.outputs) * beta


def sites(
    dense: Groups,
    slim: Graph,
    keep: Mapping[Layout, np.ndarray],
    mixing: Mapping[str, np.ndarray] | None = None,
) -> Iterator[Site]:
    """The sites of a slim model in the order in which it runs; ``keep`` are the dense factors that were cut.

    ``mixing`` has, by the name of a dense output, a square matrix over its channels that the slim output is made with.
    """
    values = {value.name: value for value in dense.coupling.graph.values()}
    readers = readers_of(slim)
    place = {op: i for i, op in enumerate(slim.ops)}
    position = {value: place[op] for op in slim.ops for value in op.outputs}
    found = [c for c in consumers_of(find_groups(couple(slim))).values() if isinstance(c, Consumer)]
    later = _Later(slim, position, {place[consumer.op] for consumer in found})
    for consumer in sorted(found, key=lambda c: place[c.op]):
        found_bias = bias_of(consumer, readers, slim.outputs)
        if found_bias is None:
            continue
        bias, output = found_bias
        value = values.get(output.name)
        axes = dense.coupling.axes(value) if value is not None else None
        if axes is not None and consumer.stacked and len(kept(axes[-3], keep)) != axes[-3].size:
            continue  # matrices of the stack went: what is left has no target of the same shape
        if axes is not None:
            channels = kept(axes[channel_axis(consumer)], keep)
            stream = None if output in slim.outputs else _stream(output, readers, later, place[consumer.op])
            target = stream[0] if stream else output
            clip = None if target in slim.outputs else _clip(readers.get(target, []))
            normalised = [op.kind for op in readers.get(output, [])] == ["BatchNormalization"]
            mixed = (mixing or {}).get(consumer.y.name)
            columns = None if mixed is None else mixed[:, channels]
            late = stream is not None and position.get(stream[1], -1) > place[consumer.op]
            yield Site(consumer, bias, output, stream, channels, normalised, clip, columns, late)


def readers_of(graph: Graph) -> dict[Value, list[Op]]:
    """The ops that read each value, those that do so from inside a subgraph included."""
    readers: dict[Value, list[Op]] = {}
    for op in graph.ops:
        for value in {v for v in (*op.inputs, *op.captured) if v is not None}:
            readers.setdefault(value, []).append(op)
    return readers


def bias_of(
    consumer: Consumer, readers: Mapping[Value, list[Op]], outputs: Sequence[Value]
) -> tuple[tuple[Op, int] | None, Value] | None:
    """The bias and the value that holds the output with it; None where the op adds something that is no bias."""
    op, y = consumer.op, consumer.y
    if op.kind == "Conv":
        own = op.input(2)
        return ((op, 2), y) if own is None or own.is_constant else None
    if op.kind == "Gemm":
        own = op.input(2)
        return ((op, 2), y) if own is None or (own.is_constant and _size(own) == consumer.outputs) else None
    ops = readers.get(y, [])
    alone = len(ops) == 1 and y not in outputs and not consumer.stacked
    if alone and ops[0].kind == "Add" and y.shape is not None and channel_axis(consumer) == -1:
        for slot, value in enumerate(ops[0].inputs):
            if value is not None and value.is_constant and value.shape == y.shape[-1:]:
                return (ops[0], slot), ops[0].outputs[0]
    return None, y


def takes_bias(consumer: Consumer, graph: Graph) -> bool:
    """Whether a constant can be added to every channel of what a layer gives."""
    found = bias_of(consumer, readers_of(graph), graph.outputs)
    return found is not None and found[0] is not None


def _size(value: Value) -> int | None:
    """The number of elements, where every axis but the last has length one."""
    shape = value.shape or ()
    return shape[-1] if shape and set(shape[:-1]) <= {1} and isinstance(shape[-1], int) else None


@dataclass(frozen=True)
class _Later:
    """What is computed after an op; ``position`` tells by which op a value is made, ``repaired`` which ops are consumers."""

    graph: Graph
    position: Mapping[Value, int]
    repaired: Collection[int]

    def is_settled(self, value: Value, start: int) -> bool:
        """Whether ``value`` is there before op ``start`` runs, or comes of what is, without any consumer."""
        pending, seen = [value], {value}
        while pending:
            number = self.position.get(pending.pop(), -1)
            if number < start:
                continue
            if number in self.repaired or number == start:
                return False
            op = self.graph.ops[number]
            fresh = [v for v in (*op.inputs, *op.captured) if v is not None and v not in seen]
            seen.update(fresh)
            pending.extend(fresh)
        return True


def _stream(value: Value, readers: Mapping[Value, list[Op]], later: _Later, start: int) -> tuple[Value, Value] | None:
    """The addition that is all that reads ``value``, and its other summand, if that is settled before op ``start`` runs."""
    ops = readers.get(value, [])
    if len(ops) != 1 or ops[0].kind != "Add":
        return None
    others = [v for v in ops[0].inputs if v is not None and v is not value]
    if len(others) != 1 or others[0].is_constant or others[0].shape is None or value.shape is None:
        return None
    if len(others[0].shape) != len(value.shape) or not later.is_settled(others[0], start):
        return None
    if any(
        a != b and (1 in (a, b) or (isinstance(a, int) and isinstance(b, int)))
        for a, b in zip(others[0].shape, value.shape, strict=True)
    ):
        return None  # one of them is broadcast: the sum has positions that the output does not have
    return ops[0].outputs[0], others[0]


def _clip(ops: Sequence[Op]) -> tuple[float, float] | None:
    """The bounds of the one activation among ``ops`` if it clips and its bounds are constants."""
    if len(ops) != 1 or ops[0].kind not in ("Relu", "Clip"):
        return None
    op = ops[0]
    if op.kind == "Relu":
        return 0.0, math.inf
    bounds = [op.attributes.get("min", -math.inf), op.attributes.get("max", math.inf)]  # before opset 11
    for slot in (1, 2):
        value = op.input(slot)
        if value is None:
            continue
        if not value.is_constant or value.array().size != 1:
            return None
        bounds[slot - 1] = value.array().item()
    return float(bounds[0]), float(bounds[1])


class Editor:
    """Writes repaired weights into a model, and into a run of it that is under way."""

    def __init__(self, program: Program, stepper: Stepper | None = None) -> None:
        self._program = program
        self._stepper = stepper

    def weight(self, site: Site, weight: np.ndarray) -> None:
        """Give the site's op W, shape (G, o, p)."""
        slot = site.consumer.contraction.other
        like = site.consumer.op.inputs[slot]
        assert like is not None
        self._program.assign(site.consumer.op, slot, site.consumer.parameter(weight, like.array()), self._stepper)

    def bias(self, site: Site, bias: np.ndarray) -> None:
        """Give the site the bias b, shape (G, o), where it can have one."""
        if site.bias is None:
            return
        op, slot = site.bias
        weight = site.consumer.op.inputs[site.consumer.contraction.other]
        assert weight is not None
        beta = op.attributes.get("beta", 1.0) if op.kind == "Gemm" else 1.0
        old = op.input(slot)
        shape = (-1,) if old is None else old.array().shape
        self._program.assign(op, slot, (bias.reshape(shape) / (beta or 1.0)).astype(weight.dtype), self._stepper)

    def current_bias(self, site: Site) -> np.ndarray:
        """The bias as it is, shape (G, o); zeros where there is none."""
        return constant_bias(site.bias, site.consumer)
