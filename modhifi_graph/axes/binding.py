"""Applying a rule: the names of a line become layouts, unified with the axes of the op's operands."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from modhifi_graph.axes.layout import Layout, leaf, product
from modhifi_graph.axes.notation import Axis, Operand, Run, Spec, parse
from modhifi_graph.axes.rules import Rule, Unknown
from modhifi_graph.axes.unify import Clash, unify
from modhifi_graph.graph import Op

Axes = Sequence[Layout] | None
"""The layouts of one operand's axes; None where its rank is unknown or it is left out."""

Pin = Callable[[Layout, str], None]
"""Records that an axis must stay whole, and why."""


@dataclass
class Binding:
    """What the names of a rule stand for in one op: a layout for a factor, several for a run."""

    spec: Spec
    factors: dict[str, Layout] = field(default_factory=dict)
    runs: dict[str, list[Layout]] = field(default_factory=dict)


def bind(rule: Rule, op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> Binding:
    """Unify the axes of ``op`` as ``rule`` says. Raises :class:`Unknown` where the rule does not fit the op."""
    spec = parse(rule.spec(op) if callable(rule.spec) else rule.spec)
    binding = Binding(spec)
    # An output without a name is left out.
    named = [pattern if value.name else None for pattern, value in zip(spec.outputs, op.outputs, strict=False)]
    if len(spec.outputs) < len(op.outputs):
        raise Unknown(f"it has {len(op.outputs)} outputs where {len(spec.outputs)} were expected")
    operands = [*_match(spec.inputs, inputs, "input"), *_match(named, outputs, "output")]
    sizes = dict(rule.sizes(op))
    for terms, axes in operands:
        _solve(terms, axes, sizes)
    binding.factors = {name: leaf(size) for name, size in sizes.items()}
    # Outputs bind a run first: broadcasting makes them the longest.
    for terms, axes in reversed(operands):
        _unify_operand(binding, terms, axes, pin)
    fixed = rule.fixed(op) if callable(rule.fixed) else rule.fixed
    for name, reason in fixed.items():
        for layout in [*binding.runs.get(name, ()), *([binding.factors[name]] if name in binding.factors else [])]:
            pin(layout, reason)
    return binding


def _match(patterns: Sequence[Operand], operands: Sequence[Axes], side: str) -> list[tuple[Operand, list[Layout]]]:
    if len(patterns) < len(operands):
        raise Unknown(f"it has {len(operands)} {side}s where {len(patterns)} were expected")
    matched: list[tuple[Operand, list[Layout]]] = []
    for pattern, axes in zip(patterns, operands, strict=False):
        if pattern is None:
            continue
        if axes is None:
            raise Unknown(f"the rank of an {side} is not known")
        fixed = sum(isinstance(term, Axis) for term in pattern)
        if len(axes) < fixed or (len(axes) > fixed and fixed == len(pattern)):
            raise Unknown(f"an {side} has {len(axes)} axes where {fixed} were expected")
        matched.append((pattern, list(axes)))
    return matched


def _split(pattern: Operand, axes: list[Layout]) -> tuple[list[tuple[Axis, Layout]], tuple[str, list[Layout]] | None]:
    """Pair the plain terms with axes; what is left in the middle belongs to the run."""
    terms = pattern or ()
    where = next((i for i, term in enumerate(terms) if isinstance(term, Run)), len(terms))
    tail = len(terms) - where - 1 if where < len(terms) else 0
    pairs = [(t, a) for t, a in zip(terms[:where], axes, strict=False) if isinstance(t, Axis)]
    if where == len(terms):
        return pairs, None
    end = len(axes) - tail
    pairs += [(t, a) for t, a in zip(terms[where + 1 :], axes[end:], strict=True) if isinstance(t, Axis)]
    run = terms[where]
    assert isinstance(run, Run)
    return pairs, (run.name, axes[where:end])


def _solve(pattern: Operand, axes: list[Layout], sizes: dict[str, int]) -> None:
    """Learn factor lengths from axes in which at most one is missing."""
    for term, axis in _split(pattern, axes)[0]:
        for name in term.names:
            if name.isdigit():
                sizes[name] = int(name)
        missing = [name for name in term.names if name not in sizes]
        known = math.prod(sizes[name] for name in term.names if name in sizes)
        if len(missing) == 1 and axis.size is not None:
            if axis.size % known:
                raise Unknown(f"an axis of length {axis.size} is not a multiple of {known}")
            sizes[missing[0]] = axis.size // known


def _unify_operand(binding: Binding, pattern: Operand, axes: list[Layout], pin: Pin) -> None:
    pairs, run = _split(pattern, axes)
    for term, axis in pairs:
        for name in term.names:
            if name not in binding.factors:
                binding.factors[name] = leaf(None)
            if name.isdigit() and name != "1":
                pin(binding.factors[name], "a fixed number of parts")
        unify_or_pin(product(binding.factors[name] for name in term.names), axis, pin)
    if run is None:
        return
    name, members = run
    reference = binding.runs.setdefault(name, members)
    if len(members) > len(reference):
        raise Unknown("an input has more axes than the output")
    for mine, theirs in zip(reversed(members), reversed(reference), strict=False):
        broadcast(mine, theirs, pin)


def broadcast(mine: Layout, theirs: Layout, pin: Pin) -> None:
    """Unify two axes of which one may have length one; where that is not known, what it may stretch to stays whole."""
    if mine.size == 1 or theirs.size == 1:
        return
    if (mine.size is None) != (theirs.size is None):
        for layout in (mine, theirs):
            pin(layout, "broadcast against a length known only at run time")
    unify_or_pin(mine, theirs, pin)


def unify_or_pin(a: Layout, b: Layout, pin: Pin) -> None:
    """Unify, or keep both axes whole with the reason why they do not fit together."""
    try:
        unify(a, b)
    except Clash as clash:
        pin(a, str(clash))
        pin(b, str(clash))


def unify_pairs(left: Sequence[Layout], right: Sequence[Layout], pin: Pin) -> None:
    """Unify the axes of two operands that must have the same shape."""
    if len(left) != len(right):
        raise Unknown(f"{len(left)} axes do not fit {len(right)}")
    for a, b in zip(left, right, strict=True):
        unify_or_pin(a, b, pin)


def known(axes: Axes) -> list[Layout]:
    """The axes of an operand whose rank must be known."""
    if axes is None:
        raise Unknown("a rank is not known")
    return list(axes)
