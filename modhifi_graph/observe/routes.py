"""The way from a projection to where its output meets another activation: what of a repair can be folded back along it.

A linear map of the components can be folded into the projection if everything on the way commutes with it. Ops that move
positions about, and products with what is the same for every component, commute with any matrix: a repair may **mix**
components. A product with what differs between components (the cosines of a rotary embedding) commutes with one factor a
component only, provided that the whole way is linear: a repair may **scale**. Nothing can be folded through anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modhifi_graph.axes.coupling import Coupling
from modhifi_graph.axes.groups import Groups, picks_matrices
from modhifi_graph.axes.layout import Kind, Layout, factors, find, leaves, terms
from modhifi_graph.graph import Op, Value
from modhifi_graph.observe.consumers import Consumer, consumers_of
from modhifi_graph.observe.sites import bias_of, readers_of

MOVES = """
    Transpose Reshape Flatten Squeeze Unsqueeze Expand Split Unbind Slice Gather Identity Cast Neg
""".split()  # noqa: SIM905
"""Ops that move positions of their first input about, or treat all of them alike."""

JOINS = ("Concat", "Stack", "Add", "Sub")
"""Ops that are linear in all of their inputs together."""

PRODUCTS = ("Mul", "Div")


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear map with a weight, whose output something may be folded into.

    Attributes
    ----------
    consumer : the map.
    bias : (op, slot) of the constant that serves as its bias, or None.
    output : the value that holds the output with its bias.
    """

    consumer: Consumer
    bias: tuple[Op, int] | None
    output: Value


@dataclass(frozen=True, eq=False)
class Route:
    """The way from a projection to an operand.

    Attributes
    ----------
    start : up to this value the positions are only moved about; the operand itself where the route mixes.
    mixes : whether any matrix over the components can be folded into the projection; else one factor a component.
    aside : what else is taken of the values on the way; it must hold other channels of the projection.
    """

    projection: Projection
    start: Value
    mixes: bool
    aside: tuple[Value, ...]


class Routes:
    """Finds the routes of one graph."""

    def __init__(self, groups: Groups) -> None:
        self._coupling: Coupling = groups.coupling
        graph = groups.coupling.graph
        self._place = {value: i for i, op in enumerate(graph.ops) for value in op.outputs}
        self._maker = {value: op for op in graph.ops for value in op.outputs}
        self._readers = readers_of(graph)
        consumers = [c for c in consumers_of(groups).values() if isinstance(c, Consumer)]
        self._ends = _ends(groups, consumers)
        self._computed = _descendants(graph.ops, {c.y for c in consumers})

    def find(self, meeting: Op, operand: Value, factor: Layout) -> Route | str:
        """The route along which ``factor`` comes to an operand of ``meeting``, or why nothing can be folded back along it."""
        pending, mixes, start = {operand}, True, operand
        values: list[Value] = []
        ops = [meeting]
        moved = True  # since the last product that tells components apart, nothing but positions has changed
        while True:
            value = max(pending, key=lambda v: self._place.get(v, -1))
            values.append(value)
            if len(pending) == 1:
                if not moved:
                    start, moved = value, True
                if value in self._ends:
                    return self._checked(self._ends[value], start, mixes, values, ops)
            pending.remove(value)
            op = self._maker.get(value)
            if op is None or op.domain:
                return f"{value.name!r} comes from no projection"
            if picks_matrices(op):
                return f"{op} looks up a matrix for every row, and the slim model may choose others"
            before = self._before(op)
            if before is None:
                return f"{op} on the way from its projection is not linear"
            if op.kind in PRODUCTS and self._tells_apart(op, factor):
                mixes = moved = False
            ops.append(op)
            pending |= before

    def _checked(
        self, end: Projection | str, start: Value, mixes: bool, values: list[Value], ops: list[Op]
    ) -> Route | str:
        """The route, with what its values are read for beside it."""
        if isinstance(end, str):
            return end
        aside = [value for op in ops[1:] for value in op.outputs]
        for value in values:
            for reader in self._readers.get(value, ()):
                if reader in ops or reader.kind == "Shape":
                    continue
                if reader.kind not in MOVES:
                    return f"{reader} reads what lies on the way from {end.consumer.op} too"
                aside.extend(reader.outputs)
        return Route(end, start, mixes, tuple(v for v in dict.fromkeys(aside) if v.name and v not in values))

    def _before(self, op: Op) -> set[Value] | None:
        """The inputs that an op is linear in; None where it is not."""
        if op.kind in MOVES:
            moved, dtype = op.input(0), op.outputs[0].dtype
            return {moved} if moved in self._computed and moved is not None and dtype and dtype.kind == "f" else None
        inputs = [value for value in op.inputs if value is not None]
        linear = [value for value in inputs if value in self._computed]
        if op.kind in JOINS:
            # One summand alone is one to which a number is added.
            return set(inputs) if len(inputs) > 1 and linear == inputs else None
        if op.kind in PRODUCTS:
            return set(linear) if len(linear) == 1 and (op.kind == "Mul" or inputs[0] is linear[0]) else None
        return None

    def _tells_apart(self, op: Op, factor: Layout) -> bool:
        others = [slot for slot, value in enumerate(op.inputs) if value not in self._computed]
        axes = [axis for slot in others for axis in self._coupling.operand(op, slot) or ()]
        return any(factor in leaves(axis) for axis in axes)

    def alike(self, a: Value, b: Value) -> bool:
        """Whether two values have the same axes, position for position."""
        first, second = self._coupling.axes(a), self._coupling.axes(b)
        if first is None or second is None or len(first) != len(second):
            return False
        return all(_same(x, y) for x, y in zip(first, second, strict=True))


def _same(a: Layout, b: Layout) -> bool:
    """Whether two layouts are made of the same factors in the same way."""
    a, b = find(a), find(b)
    if a is b or a.kind is not b.kind or a.kind is Kind.LEAF:
        return a is b
    flat = terms if a.kind is Kind.SUM else factors
    first, second = list(flat([a])), list(flat([b]))
    return len(first) == len(second) and all(_same(x, y) for x, y in zip(first, second, strict=True))


def _ends(groups: Groups, consumers: list[Consumer]) -> Mapping[Value, Projection | str]:
    """Where routes end: the outputs of weighted contractions, with their biases."""
    graph = groups.coupling.graph
    readers = readers_of(graph)
    found: dict[Value, Projection | str] = {}
    for contraction, consumer in consumers_of(groups).items():
        if isinstance(consumer, str):
            found[contraction.op.outputs[0]] = f"{contraction.op}: {consumer}"
    for consumer in consumers:
        with_bias = bias_of(consumer, readers, graph.outputs)
        if consumer.parts > 1 or with_bias is None:
            found[consumer.y] = f"{consumer.op} is not one matrix with a bias"
        else:
            found[with_bias[1]] = Projection(consumer, *with_bias)
    return found


def _descendants(ops: tuple[Op, ...], made: set[Value]) -> set[Value]:
    """What is computed from ``made``."""
    found = set(made)
    for op in ops:
        if any(value in found for value in op.inputs):
            found.update(op.outputs)
    return found
