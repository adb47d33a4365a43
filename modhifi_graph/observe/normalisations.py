"""What normalisations divide by: the smallest norm at any position, as calibration inputs show it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from modhifi_graph.dialects.program import Program
from modhifi_graph.graph import Graph, Op, Value
from modhifi_graph.interface import Feeds


@dataclass(frozen=True)
class NormInput:
    """One normalisation ``y = gamma u / |u|``, after centring where it centres.

    Attributes
    ----------
    name, kind : of the op; a normalisation that is spelt out is an "RMSNormalization" named by its mean of squares.
    smallest : the least norm that it divides by: the root of the mean square over what is normalised together, with epsilon.
    gamma : the largest absolute scale.
    lipschitz : ``gamma / smallest``; of a batch norm, whose divisors are constants, the largest ``|gamma| / deviation``.
    """

    name: str
    kind: str
    smallest: float
    gamma: float
    lipschitz: float


@dataclass(frozen=True)
class _Site:
    """A normalisation whose squared norms are measured from one value."""

    name: str
    kind: str
    value: Value
    squares: Callable[[torch.Tensor], torch.Tensor]
    gamma: float
    epsilon: float


def norm_inputs(program: Program, batches: Sequence[Feeds], threads: int = 0) -> list[NormInput]:
    """Every normalisation of a program in the order of the graph, measured in one pass over ``batches``."""
    found = [(op, _batch_norm(op) or _site(op, program.graph)) for op in program.graph.ops]
    sites = [site for _, site in found if isinstance(site, _Site)]
    least = dict.fromkeys(sites, math.inf)
    if sites:
        for values in program.results(batches, list(dict.fromkeys(site.value.name for site in sites)), threads):
            for site in sites:
                least[site] = min(least[site], float(site.squares(values[site.value.name].double()).min()))
    return [s if isinstance(s, NormInput) else _seen(s, least[s]) for _, s in found if s is not None]


def _seen(site: _Site, square: float) -> NormInput:
    smallest = math.sqrt(max(0.0, square) + site.epsilon)
    return NormInput(site.name, site.kind, smallest, site.gamma, site.gamma / max(smallest, 1e-300))


def _batch_norm(op: Op) -> NormInput | None:
    if op.kind != "BatchNormalization" or not all(v is not None and v.is_constant for v in op.inputs[1:5]):
        return None
    gamma, _, _, variance = (np.asarray(v.array(), dtype=np.float64) for v in op.inputs[1:5] if v is not None)
    deviation = np.sqrt(variance + float(op.attributes.get("epsilon", 1e-5)))
    gain = float(np.abs(gamma / deviation).max())
    return NormInput(op.name or op.outputs[0].name, op.kind, float(deviation.min()), float(np.abs(gamma).max()), gain)


def _site(op: Op, graph: Graph) -> _Site | None:
    name, value = op.name or (op.outputs[0].name if op.outputs else ""), op.input(0)
    if value is None:
        return None
    if op.kind in _SQUARES:
        squares = _SQUARES[op.kind](op.attributes)
        return _Site(name, op.kind, value, squares, _largest(op.input(1)), float(op.attributes.get("epsilon", 1e-5)))
    if op.kind == "ReduceMean" and (gamma := _spelt_out(op, graph)) is not None:
        return _Site(name, "RMSNormalization", op.outputs[0], lambda squares: squares, *gamma)
    return None


def _layer(attributes: Mapping[str, object]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda u: u.flatten(int(str(attributes.get("axis", -1))) % u.dim()).var(-1, correction=0)


def _rms(attributes: Mapping[str, object]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda u: u.flatten(int(str(attributes.get("axis", -1))) % u.dim()).square().mean(-1)


def _group(attributes: Mapping[str, object]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda u: u.reshape(len(u), int(str(attributes.get("num_groups", 1))), -1).var(-1, correction=0)


_SQUARES: dict[str, Callable[[Mapping[str, object]], Callable[[torch.Tensor], torch.Tensor]]] = {
    "LayerNormalization": _layer,
    "RMSNormalization": _rms,
    "GroupNormalization": _group,
    "InstanceNormalization": lambda attributes: lambda u: u.flatten(2).var(-1, correction=0),
}
"""From the attributes of an op to the squared norms of its input, one for everything that is normalised together."""


def _spelt_out(mean: Op, graph: Graph) -> tuple[float, float] | None:
    """The largest scale and the epsilon, where a mean of squares becomes the divisor of what was squared."""
    square = next((op for op in graph.ops if mean.inputs[0] in op.outputs), None)
    if square is None or square.kind not in ("Pow", "Mul"):
        return None
    power = square.inputs[1]
    if square.kind == "Mul" and power is not square.inputs[0]:
        return None
    if square.kind == "Pow" and (power is None or not power.is_constant or power.array().item() != 2):
        return None
    epsilon, gamma = 0.0, 1.0
    kinds = ("Add", "Sqrt", "Reciprocal", "Div", "Mul")
    rooted, value = False, mean.outputs[0]
    for _ in range(6):
        op = next(iter(_readers(graph, value)), None)
        if op is None or op.kind not in kinds:
            break
        other = next((v for v in op.inputs if v is not value), None)
        if op.kind == "Add" and not rooted and other is not None and other.is_constant:
            epsilon += float(np.asarray(other.array()).max())
        elif op.kind == "Sqrt":
            rooted = True
        elif op.kind == "Mul" and other is not None and other.is_constant:
            gamma = _largest(other)
            break
        elif not (op.kind == "Reciprocal" or (op.kind in ("Mul", "Div") and other is square.inputs[0])):
            break
        value = op.outputs[0]
    return (gamma, epsilon) if rooted else None


def _readers(graph: Graph, value: Value) -> Iterator[Op]:
    return (op for op in graph.ops if value in op.inputs)


def _largest(scale: Value | None) -> float:
    """The largest absolute value of a constant; 1 where there is none."""
    return float(np.abs(scale.array()).max()) if scale is not None and scale.is_constant else 1.0
