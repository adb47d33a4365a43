"""Coupling: the rules of every op applied to one graph, so that axes which must agree share their layout.

Constants do not couple. Exporters share one zero bias or one mask among many layers; two ops that read the same
constant are not tied by it, so every use of a constant has axes of its own, and lowering gives it an array of its own
where they differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from modhifi_graph.axes.binding import Axes, Binding, bind
from modhifi_graph.axes.layout import Layout, leaf, leaves
from modhifi_graph.axes.movement import MOVEMENT
from modhifi_graph.axes.rules import RULES, Rule, Unknown
from modhifi_graph.axes.shapes import TARGETS, lengths_read, unwritable
from modhifi_graph.graph import Graph, Op, Value

GRAPH_INPUT = "the graph's input"
GRAPH_OUTPUT = "the graph's output"


@dataclass(frozen=True)
class Pinned:
    """Why an axis stays whole: the reason, and the op that gave it (None for the graph's interface)."""

    reason: str
    op: Op | None = None

    def __str__(self) -> str:
        return self.reason if self.op is None else f"{self.reason} ({self.op})"


@dataclass(eq=False)
class Coupling:
    """The layouts of every axis of a graph.

    Attributes
    ----------
    graph : the graph.
    bindings : for each op with a rule, what the rule's names stand for.
    pins : every layout that must stay whole, with the reason, in the order found.
    """

    graph: Graph
    bindings: dict[Op, Binding] = field(default_factory=dict)
    pins: list[tuple[Layout, Pinned]] = field(default_factory=list)
    _values: dict[Value, list[Layout]] = field(default_factory=dict)
    _uses: dict[tuple[Op, int], list[Layout]] = field(default_factory=dict)

    def axes(self, value: Value) -> Axes:
        """The layouts of an activation's axes; None where its rank is unknown."""
        if value.shape is None:
            return None
        if value not in self._values:
            self._values[value] = [leaf(dim if isinstance(dim, int) else None) for dim in value.shape]
        return self._values[value]

    def operand(self, op: Op, slot: int) -> Axes:
        """The layouts of an input's axes: a constant's are the use's own. None where left out or of unknown rank."""
        value = op.input(slot)
        if value is None or value.shape is None:
            return None
        if not value.is_constant:
            return self.axes(value)
        if (op, slot) not in self._uses:
            self._uses[op, slot] = [leaf(dim if isinstance(dim, int) else None) for dim in value.shape]
        return self._uses[op, slot]

    def operands(self, op: Op) -> list[Axes]:
        return [self.operand(op, slot) for slot in range(len(op.inputs))]

    def results(self, op: Op) -> list[Axes]:
        return [self.axes(value) for value in op.outputs]

    def pin_all(self, axes: Sequence[Layout] | None, why: Pinned) -> None:
        self.pins.extend((layout, why) for layout in axes or ())


def couple(graph: Graph) -> Coupling:
    """Apply every op's rule once, in order. The cost is near linear in the number of axes."""
    coupling = Coupling(graph)
    for value in graph.inputs:
        coupling.pin_all(coupling.axes(value), Pinned(f"{GRAPH_INPUT} {value.name!r}"))
    for op in graph.ops:
        _apply(coupling, op)
    for value in graph.outputs:
        coupling.pin_all(coupling.axes(value), Pinned(f"{GRAPH_OUTPUT} {value.name!r}"))
    _pin_lengths(coupling)
    return coupling


def _pin_lengths(coupling: Coupling) -> None:
    """Pin what is read at run time, what is known only at run time, and what no target shape could say."""
    read = lengths_read(coupling.graph)
    for (value, axis), op in read.escaping:
        axes = coupling.axes(value)
        coupling.pin_all(axes[axis : axis + 1] if axes else None, Pinned("its length is read at run time", op))
    open_axes = [
        axis
        for value in coupling.graph.values()
        if not value.is_constant
        for axis in coupling.axes(value) or ()
        if axis.size is None
    ]
    dynamic = {factor: None for axis in open_axes for factor in leaves(axis) if factor.size is None}
    coupling.pin_all(list(dynamic), Pinned("its length is known only at run time"))
    for op in coupling.graph.ops:
        if op.kind in TARGETS and not op.domain:
            mixed = unwritable(op, coupling.operand(op, 0), coupling.axes(op.outputs[0]) or (), read.entries)
            coupling.pin_all(list(mixed), Pinned("nested in a length computed at run time", op))


def _apply(coupling: Coupling, op: Op) -> None:
    inputs, outputs = coupling.operands(op), coupling.results(op)

    def pin(layout: Layout, reason: str) -> None:
        coupling.pins.append((layout, Pinned(reason, op)))

    try:
        rule = _rule(op)
        if isinstance(rule, Rule):
            coupling.bindings[op] = bind(rule, op, inputs, outputs, pin)
        else:
            MOVEMENT[op.kind](op, inputs, outputs, pin)
    except (Unknown, KeyError, IndexError, ValueError) as error:
        reason = str(error) if isinstance(error, Unknown) else f"it is not as the standard has it: {error}"
        for axes in [*inputs, *outputs]:
            coupling.pin_all(axes, Pinned(reason, op))
    for value in op.captured:
        coupling.pin_all(coupling.axes(value), Pinned("read by a subgraph", op))


def _rule(op: Op) -> Rule | None:
    """The op's rule, or None where it has a mover; :class:`Unknown` where it has neither."""
    if op.domain:
        raise Unknown(op.attributes.get("boundary") or f"nothing is known about ops of domain {op.domain!r}")
    if op.captured or (op.kind not in RULES and op.kind not in MOVEMENT):
        raise Unknown("nothing is known about this op")
    return RULES.get(op.kind)
