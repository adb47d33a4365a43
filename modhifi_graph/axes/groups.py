"""Groups: the factors that can be pruned. A weight produces them, a contraction consumes them, nothing pins them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from modhifi_graph.axes.coupling import Coupling, Pinned
from modhifi_graph.axes.layout import Layout, leaves, nested_twice, run_length
from modhifi_graph.axes.notation import Run
from modhifi_graph.graph import Op, Value

LOOKUPS = ("Gather", "GatherND")
"""Ops that look positions of a table up."""


@dataclass(frozen=True, eq=False)
class Use:
    """One axis of one constant: the parameter ``value`` in input ``slot`` of ``op``."""

    op: Op
    slot: int
    value: Value
    axis: int
    layout: Layout


@dataclass(frozen=True, eq=False)
class Contraction:
    """A sum of products over a factor: where components are consumed.

    ``slot`` and ``other`` are the inputs that are contracted; ``axis`` and ``other_axis`` the axes of theirs that hold
    the contracted ``layout`` (and, in a grouped convolution, the group number outside it). ``weighted`` says that
    ``other`` is a constant; otherwise two activations meet.
    """

    op: Op
    slot: int
    axis: int
    axis_layout: Layout
    other: int
    other_axis: int
    other_layout: Layout
    weighted: bool
    layout: Layout


@dataclass(frozen=True, eq=False)
class Group:
    """One prunable factor; its positions are the components.

    Attributes
    ----------
    name : the parameter that produces it, with a suffix where that axis holds several factors.
    factor : the leaf of the layouts.
    size : number of components.
    kind : "channels", "hidden", "heads" or "head dims".
    producers : the parameter axes that produce it.
    consumers : the contractions that consume it.
    """

    name: str
    factor: Layout
    size: int
    kind: str
    producers: tuple[Use, ...]
    consumers: tuple[Contraction, ...]

    @property
    def channels(self) -> int:
        """How many neighbouring channels each component is: 64 for a head of 64 dimensions, 1 for most."""
        return math.gcd(*(run_length(use.layout, self.factor) for use in self.producers))


@dataclass(frozen=True, eq=False)
class PinnedFactor:
    """A factor that a weight produces, like a group's, but that must stay whole."""

    name: str
    factor: Layout
    size: int | None
    reasons: tuple[Pinned, ...]


@dataclass(frozen=True, eq=False)
class Groups:
    """Everything that can be pruned in a graph, and what cannot, with the reasons."""

    coupling: Coupling
    groups: tuple[Group, ...]
    pinned: tuple[PinnedFactor, ...]
    contractions: tuple[Contraction, ...]
    reasons: dict[Layout, tuple[Pinned, ...]] = field(default_factory=dict)

    def by_name(self) -> dict[str, Group]:
        return {group.name: group for group in self.groups}


def find_groups(coupling: Coupling) -> Groups:
    """Walk the coupled graph once and collect groups in order of their first producer."""
    contractions = [c for op in coupling.graph.ops for c in contractions_of(coupling, op)]
    produced: dict[Layout, list[Use]] = defaultdict(list)
    for op in coupling.graph.ops:
        for use in _produced(coupling, op):
            for factor in dict.fromkeys(leaves(use.layout)):
                produced[factor].append(use)
    consumed: dict[Layout, list[Contraction]] = defaultdict(list)
    for contraction in contractions:
        for factor in dict.fromkeys(leaves(contraction.layout)):
            consumed[factor].append(contraction)
    reasons = _reasons([*coupling.pins, *_uncountable(contractions)])
    names, kinds = _names(produced), _attention(coupling)
    groups, pinned = [], []
    for factor, uses in produced.items():
        why = reasons.get(factor, ())
        if why and (factor in consumed or any(reason.op is not None for reason in why)):
            pinned.append(PinnedFactor(names[factor], factor, factor.size, why))
        if why or factor not in consumed:
            continue
        assert factor.size is not None
        ops = {use.op for use in uses} | {contraction.op for contraction in consumed[factor]}
        kind = kinds.get(factor) or ("hidden" if all(_multiplies(op) for op in ops) else "channels")
        groups.append(Group(names[factor], factor, factor.size, kind, tuple(uses), tuple(consumed[factor])))
    return Groups(coupling, tuple(groups), tuple(pinned), tuple(contractions), reasons)


def contractions_of(coupling: Coupling, op: Op) -> list[Contraction]:
    """The contractions of one op: names that two inputs share and no output has (a recurrence adds one each weight)."""
    binding = coupling.bindings.get(op)
    if binding is None:
        return []
    spec = binding.spec
    outputs = frozenset().union(*(spec.names(operand) for operand in spec.outputs))
    found = []
    for slot in range(len(op.inputs)):
        for other in range(slot + 1, len(op.inputs)):
            x, w = op.inputs[slot], op.inputs[other]
            if x is None or w is None:
                continue
            shared = (spec.names(spec.inputs[slot]) & spec.names(spec.inputs[other])) - outputs
            for name in sorted(shared & binding.factors.keys()):
                first, second = (slot, other) if not x.is_constant else (other, slot)
                axis, other_axis = (_axis_of(coupling, op, s, name) for s in (first, second))
                axes, other_axes = coupling.operand(op, first), coupling.operand(op, second)
                if axes is None or other_axes is None or (x.is_constant and w.is_constant):
                    continue
                found.append(
                    Contraction(
                        op,
                        slot=first,
                        axis=axis,
                        axis_layout=axes[axis],
                        other=second,
                        other_axis=other_axis,
                        other_layout=other_axes[other_axis],
                        weighted=x.is_constant or w.is_constant,
                        layout=binding.factors[name],
                    )
                )
    return found


def _axis_of(coupling: Coupling, op: Op, slot: int, name: str) -> int:
    """Which axis of an input the factor ``name`` is in."""
    terms = coupling.bindings[op].spec.inputs[slot] or ()
    value = op.inputs[slot]
    assert value is not None
    assert value.shape is not None
    position = next(i for i, term in enumerate(terms) if not isinstance(term, Run) and name in term.names)
    runs_before = any(isinstance(term, Run) for term in terms[:position])
    return position + (len(value.shape) - len(terms) if runs_before else 0)


def _produced(coupling: Coupling, op: Op) -> list[Use]:
    """The axes of an op's constants that make new axes of its output: a weight's outputs, a table's columns."""
    if op.kind == "Gather" and not op.domain:
        table, axes = op.inputs[0], coupling.operand(op, 0)
        if table is None or not table.is_constant or axes is None:
            return []
        where = int(op.attributes.get("axis", 0)) % len(axes)
        return [Use(op, 0, table, i, layout) for i, layout in enumerate(axes) if i != where]
    binding = coupling.bindings.get(op)
    if binding is None:
        return []
    spec = binding.spec
    carried = frozenset().union(
        *(spec.names(t) for t, v in zip(spec.inputs, op.inputs, strict=False) if v is not None and not v.is_constant)
    )
    made = frozenset().union(*(spec.names(operand) for operand in spec.outputs)) - carried
    uses = []
    for slot, value in enumerate(op.inputs):
        if value is None or not value.is_constant:
            continue
        for name in sorted(spec.names(spec.inputs[slot]) & made & binding.factors.keys()):
            axis = _axis_of(coupling, op, slot, name)
            uses.append(Use(op, slot, value, axis, binding.factors[name]))
    return uses


def _uncountable(contractions: list[Contraction]) -> Iterator[tuple[Layout, Pinned]]:
    """Contracted axes on which a component has no fixed set of positions."""
    for contraction in contractions:
        axis = contraction.axis_layout
        if axis.size is None:
            yield axis, Pinned("contracted with a length known only at run time", contraction.op)
        for factor in nested_twice(axis):
            yield factor, Pinned("nested in itself", contraction.op)


def _reasons(pins: Iterable[tuple[Layout, Pinned]]) -> dict[Layout, tuple[Pinned, ...]]:
    found: dict[Layout, dict[str, Pinned]] = defaultdict(dict)
    for layout, why in pins:
        for factor in leaves(layout):
            found[factor].setdefault(str(why), why)
    return {factor: tuple(reasons.values()) for factor, reasons in found.items()}


def _names(produced: dict[Layout, list[Use]]) -> dict[Layout, str]:
    """A stable, unique name for every factor: its first weight (a table only for want of one), and which factor it is."""
    names: dict[Layout, str] = {}
    taken: set[str] = set()
    for factor, uses in produced.items():
        use = next((use for use in uses if use.op.kind not in LOOKUPS), uses[0])
        siblings = list(dict.fromkeys(leaves(use.layout)))
        name = use.value.name if len(siblings) == 1 else f"{use.value.name}/{siblings.index(factor)}"
        base, count = name, 2
        while name in taken:
            name, count = f"{base}#{count}", count + 1
        taken.add(name)
        names[factor] = name
    return names


def picks_matrices(op: Op) -> bool:
    """Whether an op looks up weights, as a mixture of experts does: what it gives is no activation."""
    table = op.input(0)
    return op.kind in LOOKUPS and table is not None and table.is_constant and (table.rank or 0) > 2


def _multiplies(op: Op) -> bool:
    return op.kind in ("MatMul", "Gemm", "GroupedMatMul") or picks_matrices(op)


def _attention(coupling: Coupling) -> dict[Layout, str]:
    """What people call the factors on which two activations meet: those that both have and keep are heads."""
    kinds: dict[Layout, str] = {}
    weights = {value for op in coupling.graph.ops for value in op.inputs if value is not None and value.is_constant}
    weights |= {value for op in coupling.graph.ops if picks_matrices(op) for value in op.outputs}
    for op, binding in coupling.bindings.items():
        meet = op.kind in ("MatMul", "Einsum") and not any(value is None or value in weights for value in op.inputs)
        if not meet and op.kind != "ScaledDotProductAttention":
            continue
        everywhere = frozenset.intersection(*map(binding.spec.names, (*binding.spec.inputs, *binding.spec.outputs)))
        named = [(name, [axis]) for name, axis in binding.factors.items()] + list(binding.runs.items())
        for name, axes in sorted(named, key=lambda pair: pair[0] not in everywhere):
            for factor in (factor for axis in axes for factor in leaves(axis)):
                kinds.setdefault(factor, "heads" if name in everywhere else "head dims")
    return kinds
