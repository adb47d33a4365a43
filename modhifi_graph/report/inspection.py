"""What can be pruned in a model, what cannot, and why: the rows that are shown, and the questions that they answer."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from modhifi_graph.axes.branches import find_branches
from modhifi_graph.axes.cost import Cost
from modhifi_graph.axes.coupling import Pinned
from modhifi_graph.axes.groups import Contraction, Group, Groups, Use
from modhifi_graph.axes.layout import Layout, leaves, render
from modhifi_graph.errors import InputError
from modhifi_graph.files import atomic_write
from modhifi_graph.graph import Op, Value

NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
SUGGESTIONS = 5


@dataclass(frozen=True)
class GroupRow:
    """One group.

    Attributes
    ----------
    name : the parameter that produces it first; `--only`, `--skip` and plans go by this name.
    size : number of components.
    kind : "channels", "hidden", "heads" or "head dims".
    produced_by, consumed_by : the parameters and ops, as "parameter axis 0 (Conv 'name')".
    macs : multiply-accumulates of the ops it takes part in, of one sample and with everything whole.
    """

    name: str
    size: int
    kind: str
    produced_by: tuple[str, ...]
    consumed_by: tuple[str, ...]
    macs: int


@dataclass(frozen=True)
class PinnedRow:
    """A factor that a weight produces, like a group, but that stays whole: each reason with the op that gives it."""

    name: str
    size: int | None
    reasons: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class BranchRow:
    """One residual branch that may go as a whole, by the name of its last weight, and what that saves with all else whole."""

    name: str
    macs: int
    params: int


@dataclass(frozen=True)
class KeptAddition:
    """An addition of layers' results no summand of which may go, and why."""

    op: str
    reason: str


@dataclass(frozen=True)
class FactorReason:
    """One factor of an axis: its length, the group it belongs to, or why it belongs to none."""

    size: int | None
    group: str | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class AxisReason:
    """One axis: its layout, with group names on the factors, and what becomes of every factor."""

    axis: int
    layout: str
    factors: tuple[FactorReason, ...]


@dataclass(frozen=True)
class Explanation:
    """What the axes of one parameter or value are made of; `where` is the op that reads it, for a parameter."""

    name: str
    where: str | None
    axes: tuple[AxisReason, ...]


@dataclass(frozen=True)
class Inspection:
    """The groups of a model, and what is pinned.

    Attributes
    ----------
    label : what messages call the model.
    macs, params : multiply-accumulates of one sample, and elements of all constants, after normalisation.
    groups, pinned : in order of their first producer.
    branches, additions : residual branches, and the additions that have none; in the order in which they run.
    """

    label: str
    macs: int
    params: int
    groups: tuple[GroupRow, ...]
    pinned: tuple[PinnedRow, ...]
    branches: tuple[BranchRow, ...]
    additions: tuple[KeptAddition, ...]
    _found: Groups = field(repr=False, compare=False)

    @classmethod
    def of(cls, label: str, groups: Groups) -> Inspection:
        """What the groups of a normalised model are made of; ``label`` is what messages call it."""
        cost, branches = Cost(groups), find_branches(groups)
        return cls(
            label=label,
            macs=cost.macs(),
            params=cost.params(),
            groups=tuple(_row(group, cost) for group in groups.groups),
            pinned=tuple(PinnedRow(p.name, p.size, tuple(map(_reason, p.reasons))) for p in groups.pinned),
            branches=tuple(BranchRow(branch.name, *cost.bill(branch)({})) for branch in branches.found),
            additions=tuple(KeptAddition(str(refused.addition), refused.reason) for refused in branches.refused),
            _found=groups,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values: model, macs, params, groups, pinned, branches and additions."""
        return {
            "model": self.label,
            "macs": self.macs,
            "params": self.params,
            "groups": [dataclasses.asdict(row) for row in self.groups],
            "pinned": [
                {"name": row.name, "size": row.size, "reasons": [{"reason": r, "op": op} for r, op in row.reasons]}
                for row in self.pinned
            ],
            "branches": [dataclasses.asdict(row) for row in self.branches],
            "additions": [dataclasses.asdict(row) for row in self.additions],
        }

    def why(self, name: str) -> tuple[Explanation, ...]:
        """Explain the axes of a parameter, of a value or of what produces a group.

        A parameter that several ops read has one explanation for each: constants do not tie their readers together.

        Raises
        ------
        InputError
            The model has nothing of that name; the message suggests similar ones.
        """
        group = self._found.by_name().get(name)
        pinned = next((p for p in self._found.pinned if p.name == name), None)
        wanted = name
        if group is not None:
            wanted = group.producers[0].value.name
        elif pinned is not None:
            wanted = self._producer(pinned.factor)
        found = tuple(self._explanations(wanted))
        if not found:
            names = {*self._found.by_name(), *(value.name for value in self._found.coupling.graph.values())}
            close = difflib.get_close_matches(name, sorted(names), SUGGESTIONS, cutoff=0.5)
            hint = f"similar names: {', '.join(close)}" if close else "modhifi-graph inspect lists the groups"
            raise InputError(f"{self.label}: the normalised model has no parameter or value {name!r}; {hint}")
        return found

    def to_graphml(self, path: str | os.PathLike[str]) -> None:
        """Write ops and groups as a directed graph: data flow, what produces each group, what it is consumed by.

        Nodes have `type` ("op" or "group"), `label` and `kind`, groups also `size` and `macs`; edges have `type`
        ("data", "produces" or "consumes") and `label`.
        """
        import networkx

        graph = networkx.MultiDiGraph()
        ops = self._found.coupling.graph.ops
        ids = {op: f"op{i}" for i, op in enumerate(ops)}
        makers = {value: op for op in ops for value in op.outputs}
        for op in ops:
            graph.add_node(ids[op], type="op", label=_xml(op.name or op.kind), kind=op.kind)
        for op in ops:
            for value in dict.fromkeys((*op.inputs, *op.captured)):
                if value in makers:
                    graph.add_edge(ids[makers[value]], ids[op], type="data", label=_xml(value.name))
        for i, (row, group) in enumerate(zip(self.groups, self._found.groups, strict=True)):
            node = f"group{i}"
            graph.add_node(node, type="group", label=_xml(row.name), kind=row.kind, size=row.size, macs=row.macs)
            for use in group.producers:
                graph.add_edge(ids[use.op], node, type="produces", label=_xml(use.value.name))
            for contraction in group.consumers:
                graph.add_edge(node, ids[contraction.op], type="consumes", label=_xml(_consumer(contraction)))
        with atomic_write(path) as temporary:
            networkx.write_graphml(graph, temporary)

    def _producer(self, factor: Layout) -> str:
        coupling = self._found.coupling
        for op in coupling.graph.ops:
            for slot, value in enumerate(op.inputs):
                if value is not None and value.is_constant:
                    axes = coupling.operand(op, slot) or ()
                    if any(factor in set(leaves(axis)) for axis in axes):
                        return value.name
        return ""

    def _explanations(self, name: str) -> Iterator[Explanation]:
        coupling = self._found.coupling
        for op in coupling.graph.ops:
            for slot, value in enumerate(op.inputs):
                if value is not None and value.is_constant and value.name == name:
                    yield Explanation(name, str(op), self._axes(coupling.operand(op, slot) or ()))
        for value in coupling.graph.values():
            if value.name == name and not value.is_constant:
                yield Explanation(name, None, self._axes(coupling.axes(value) or ()))

    def _axes(self, axes: Any) -> tuple[AxisReason, ...]:
        groups = {group.factor: group.name for group in self._found.groups}
        return tuple(
            AxisReason(i, render(axis, groups), tuple(self._factor(factor) for factor in dict.fromkeys(leaves(axis))))
            for i, axis in enumerate(axes)
        )

    def _factor(self, factor: Layout) -> FactorReason:
        group = next((group.name for group in self._found.groups if group.factor is factor), None)
        if group is not None:
            return FactorReason(factor.size, group, ())
        reasons = tuple(str(why) for why in self._found.reasons.get(factor, ()))
        produced_and_consumed = any(pinned.factor is factor for pinned in self._found.pinned)
        if not produced_and_consumed:
            reasons += (self._missing(factor),)
        return FactorReason(factor.size, None, reasons)

    def _missing(self, factor: Layout) -> str:
        if any(factor in set(leaves(contraction.layout)) for contraction in self._found.contractions):
            return "no weight produces it"
        return "no contraction consumes it"


def _row(group: Group, cost: Cost) -> GroupRow:
    produced = dict.fromkeys(_produced(use) for use in group.producers)
    consumed = dict.fromkeys(_consumer(contraction) for contraction in group.consumers)
    macs = cost.governed(group.factor)
    return GroupRow(group.name, group.size, group.kind, tuple(produced), tuple(consumed), macs)


def _produced(use: Use) -> str:
    return f"{use.value.name} axis {use.axis} ({use.op})"


def _consumer(contraction: Contraction) -> str:
    other = _input(contraction.op, contraction.other)
    return f"{other.name} axis {contraction.other_axis} ({contraction.op})"


def _input(op: Op, slot: int) -> Value:
    value = op.inputs[slot]
    assert value is not None
    return value


def _reason(why: Pinned) -> tuple[str, str | None]:
    return why.reason, None if why.op is None else str(why.op)


def _xml(text: str) -> str:
    """The text without the control characters that XML cannot hold."""
    return NOT_IN_XML.sub("?", text)
