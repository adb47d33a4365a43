"""What stands between one linear map and the next, if it works on every number by itself: its values and its slopes.

An activation may be one op (ReLU), several (GELU as exporters write it), or read other activations (a gate). Each op of the
table gives its value and, by the chain rule, its derivative with respect to the one value that the region starts from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from modhifi_graph.graph import Op, Value

Dual = tuple[torch.Tensor, torch.Tensor | None]
"""A value and its slope; None where it does not depend on where the region starts."""

Rule = Callable[[Op, Sequence[Dual]], Dual]


@dataclass(frozen=True, eq=False)
class Region:
    """The ops between two linear maps.

    Attributes
    ----------
    start, end : what the region reads, and the one value of it that is read outside.
    ops : in order.
    others : activations from elsewhere that they read.
    """

    start: Value
    end: Value
    ops: tuple[Op, ...]
    others: tuple[Value, ...]

    def __call__(self, start: torch.Tensor, others: Mapping[Value, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The region's value and its slope at every number of ``start``."""
        known: dict[Value, Dual] = {value: (array, None) for value, array in others.items()}
        known[self.start] = start, torch.ones_like(start)
        for op in self.ops:
            given = [known[v] if v in known else (_constant(v, start), None) for v in op.inputs if v is not None]
            if "scalar" in op.attributes:
                given.append((torch.tensor(op.attributes["scalar"]).to(start), None))
            known[op.outputs[0]] = POINTWISE[op.kind](op, given)
        value, slope = known[self.end]
        assert slope is not None
        return value, slope.expand_as(value)


def region(start: Value, end: Value, readers: Mapping[Value, Sequence[Op]], place: Mapping[Op, int]) -> Region | None:
    """The region between two values, if all that depends on ``start`` are ops of the table up to ``end``.

    ``place`` says where each op is in the order of the graph.
    """
    ops: dict[Op, None] = {}
    inside, pending = {start}, [start]
    while pending:
        for op in readers.get(pending.pop(), ()):
            if op in ops:
                continue
            if not is_pointwise(op):
                return None
            ops[op] = None
            result = op.outputs[0]
            if not _same_shape(result, start):
                return None
            inside.add(result)
            if result is not end:
                pending.append(result)
    if end not in inside:
        return None
    given = dict.fromkeys(v for op in ops for v in op.inputs if v is not None and v not in inside)
    return Region(start, end, tuple(sorted(ops, key=place.__getitem__)), tuple(v for v in given if not v.is_constant))


def _same_shape(a: Value, b: Value) -> bool:
    """Whether two values surely have the same shape; only the batch may be unknown."""
    return a.shape is not None and a.shape == b.shape and None not in a.shape[1:]


def is_pointwise(op: Op) -> bool:
    """Whether the table has the op, as it is written here."""
    count = sum(value is not None for value in op.inputs) + ("scalar" in op.attributes)
    if op.kind not in POINTWISE or op.domain or len(op.outputs) != 1:
        return False
    if op.kind in BINARY:
        return count == 2
    if op.kind == "Clip":
        return all(value is None or value.is_constant for value in op.inputs[1:])
    return count == 1


def _constant(value: Value, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(value.array()).to(like)


def _scaled(slope: torch.Tensor | None, by: torch.Tensor | float) -> torch.Tensor | None:
    return None if slope is None else slope * by


def _sum(a: torch.Tensor | None, b: torch.Tensor | None) -> torch.Tensor | None:
    return b if a is None else a if b is None else a + b


def _function(value: Callable[[torch.Tensor], torch.Tensor], slope: Callable[[torch.Tensor], torch.Tensor]) -> Rule:
    return lambda op, given: (value(given[0][0]), _scaled(given[0][1], slope(given[0][0])))


def _between(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return ((x > low) & (x < high)).to(x)


def _clip(op: Op, given: Sequence[Dual]) -> Dual:
    (x, slope), bounds = given[0], iter(given[1:])
    low, high = op.attributes.get("min", -math.inf), op.attributes.get("max", math.inf)
    low = float(next(bounds)[0]) if op.input(1) is not None else low
    high = float(next(bounds)[0]) if op.input(2) is not None else high
    return x.clamp(low, high), _scaled(slope, _between(x, low, high))


def _leaky(op: Op, given: Sequence[Dual]) -> Dual:
    alpha = op.attributes.get("alpha", 0.01)
    x, slope = given[0]
    return torch.nn.functional.leaky_relu(x, alpha), _scaled(slope, torch.where(x > 0, 1.0, alpha).to(x))


def _hard_sigmoid(op: Op, given: Sequence[Dual]) -> Dual:
    alpha, beta = op.attributes.get("alpha", 0.2), op.attributes.get("beta", 0.5)
    line, slope = alpha * given[0][0] + beta, _scaled(given[0][1], alpha)
    return line.clamp(0, 1), _scaled(slope, _between(line, 0, 1))


def _hard_swish(op: Op, given: Sequence[Dual]) -> Dual:
    x, slope = given[0]
    inside = (x / 3 + 0.5) * _between(x, -3, 3) + (x >= 3).to(x)
    return torch.nn.functional.hardswish(x), _scaled(slope, inside)


def _gelu(op: Op, given: Sequence[Dual]) -> Dual:
    x, slope = given[0]
    how = op.attributes.get("approximate", "none")
    how = how.decode() if isinstance(how, bytes) else how
    normal = torch.exp(-x * x / 2) / math.sqrt(
        2 * math.pi
    )  # close enough to the slope of the approximation by tanh, too
    rise = 0.5 * (1 + torch.erf(x / math.sqrt(2))) + x * normal
    return torch.nn.functional.gelu(x, approximate=how), _scaled(slope, rise)


def _mul(op: Op, given: Sequence[Dual]) -> Dual:
    (a, da), (b, db) = given
    return a * b, _sum(_scaled(da, b), _scaled(db, a))


def _div(op: Op, given: Sequence[Dual]) -> Dual:
    (a, da), (b, db) = given
    return a / b, _sum(_scaled(da, 1 / b), _scaled(db, -a / b**2))


def _add(op: Op, given: Sequence[Dual]) -> Dual:
    (a, da), (b, db) = given
    return a + b, _sum(da, db)


def _sub(op: Op, given: Sequence[Dual]) -> Dual:
    (a, da), (b, db) = given
    return a - b, _sum(da, _scaled(db, -1.0))


def _sigmoid_slope(x: torch.Tensor) -> torch.Tensor:
    y = torch.sigmoid(x)
    return y * (1 - y)


def _swish_slope(x: torch.Tensor) -> torch.Tensor:
    y = torch.sigmoid(x)
    return y + x * y * (1 - y)


BINARY = ("Add", "Sub", "Mul", "Div")
POINTWISE: Mapping[str, Rule] = {
    "Add": _add,
    "Clip": _clip,
    "Div": _div,
    "Erf": _function(torch.erf, lambda x: 2 / math.sqrt(math.pi) * torch.exp(-x * x)),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Identity": _function(lambda x: x, torch.ones_like),
    "LeakyRelu": _leaky,
    "Mul": _mul,
    "Neg": _function(torch.neg, lambda x: -torch.ones_like(x)),
    "Relu": _function(torch.relu, lambda x: (x > 0).to(x)),
    "Sigmoid": _function(torch.sigmoid, _sigmoid_slope),
    "Softplus": _function(torch.nn.functional.softplus, torch.sigmoid),
    "Sub": _sub,
    "Swish": _function(torch.nn.functional.silu, _swish_slope),
    "Tanh": _function(torch.tanh, lambda x: 1 - torch.tanh(x) ** 2),
}
"""By ONNX kind; a slope is with respect to the region's start."""
