"""Lengths that a graph reads at run time: which axes may not change under the computation that reads them.

``Shape`` of a pruned axis gives the slim length. Where that number only ends in a target shape (``Reshape``,
``Expand``, ``ConstantOfShape``), lowering rewrites the entry. Anywhere else (a scale of 1 / sqrt(d), a loop bound, a
range) it would change what the graph computes, so the axis is pinned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from modhifi_graph.axes.layout import Layout, leaves
from modhifi_graph.graph import Graph, Op, Value

Source = tuple[Value, int]
"""A value and the number of one of its axes."""

Entry = int | frozenset[Source]
"""A number, or the axes from whose lengths one is computed at run time."""

Entries = list[Entry]
"""Every element of an integer tensor of rank 0 or 1."""

TARGETS: Mapping[str, int] = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0, "Resize": 3}
"""Ops that take a target shape, and in which input; see the lowering of each."""

LONGEST = 64
"""More elements than any vector of lengths has."""

_NOTHING: frozenset[Source] = frozenset()
_CARRIERS = ("Identity", "Squeeze", "Unsqueeze", "Reshape")


@dataclass(frozen=True)
class LengthsRead:
    """What a graph reads of its own shapes.

    Attributes
    ----------
    entries : the elements of every vector of lengths.
    escaping : the axes whose lengths something other than a target shape reads, and which op does.
    """

    entries: dict[Value, Entries] = field(default_factory=dict)
    escaping: list[tuple[Source, Op]] = field(default_factory=list)


def lengths_read(graph: Graph) -> LengthsRead:
    """Follow every length that is read from the ``Shape`` to whoever uses it."""
    found = LengthsRead()
    entries, outputs = found.entries, set(graph.outputs)
    for op in graph.ops:
        escaping: list[Value] = [value for value in op.captured if value in entries]
        carried = _lengths(op) if op.kind in ("Shape", "Size") and not op.domain else _carry(op, entries)
        if carried is not None:
            entries[op.outputs[0]] = carried
            escaping += [result for result in op.outputs if result in outputs]
        else:
            target = None if op.domain else TARGETS.get(op.kind)
            escaping += [v for slot, v in enumerate(op.inputs) if v is not None and v in entries and slot != target]
        if op.kind == "Size" and not op.domain:
            escaping.append(op.outputs[0])  # a product of lengths is no entry of a target shape
        sources = dict.fromkeys(source for value in escaping for entry in entries[value] for source in _sources(entry))
        found.escaping.extend((source, op) for source in sources)
    return found


def _sources(entry: Entry) -> frozenset[Source]:
    return _NOTHING if isinstance(entry, int) else entry


def _lengths(op: Op) -> Entries:
    value = op.input(0)
    if value is None or value.shape is None:
        return []
    read = [frozenset([(value, i)]) for i in range(len(value.shape))]
    if op.kind == "Size":
        return [_NOTHING.union(*read)]
    return [*read[op.attributes.get("start", 0) : op.attributes.get("end")]]


def _carry(op: Op, entries: Mapping[Value, Entries]) -> Entries | None:
    """What the output's elements were computed from, for ops that only arrange integers; None for others."""
    values = [value for value in op.inputs if value is not None]
    if op.domain or not values or not any(value in entries for value in values):
        return None
    if op.kind == "Concat":
        parts = [_of(value, entries) for value in values]
        return None if None in parts else [entry for part in parts for entry in part or []]
    if op.kind == "Where" and values[0] not in entries:
        chosen, other = (_of(value, entries) for value in values[1:])
        return None if chosen is None or other is None or len(chosen) != len(other) else _either(chosen, other)
    if values[0] not in entries:
        return None
    integers = op.outputs[0].dtype is not None and np.issubdtype(op.outputs[0].dtype, np.integer)
    if op.kind in _CARRIERS or (op.kind == "Cast" and integers):
        return entries[values[0]]
    return _select(op, entries[values[0]]) if op.kind in ("Gather", "Slice") else None


def _either(a: Entries, b: Entries) -> Entries:
    return [x if x == y else _sources(x) | _sources(y) for x, y in zip(a, b, strict=True)]


def _of(value: Value, entries: Mapping[Value, Entries]) -> Entries | None:
    """The entries of any integer vector: no element is a length unless we saw it read."""
    if value in entries:
        return entries[value]
    size = None if value.shape is None else value.shape[0] if value.shape else 1
    if not isinstance(size, int) or size > LONGEST:
        return None
    return [int(n) for n in np.atleast_1d(value.array())] if value.is_constant else [_NOTHING] * size


def _select(op: Op, entries: Entries) -> Entries | None:
    numbers = np.arange(len(entries))
    try:
        if op.kind == "Gather":
            return [entries[i] for i in np.atleast_1d(numbers[op.parameter("indices", 1)])]
        starts, ends, steps = op.parameter("starts", 1), op.parameter("ends", 2), op.parameter("steps", 4)
        if starts is None or ends is None:
            return None
        return entries[int(starts[0]) : int(ends[0]) : 1 if steps is None else int(steps[0])]
    except (ValueError, IndexError):
        return None


def unwritable(
    op: Op, data: Sequence[Layout] | None, results: Sequence[Layout], entries: Mapping[Value, Entries]
) -> Iterator[Layout]:
    """Axes of an op with a target shape that no entry of it could name once they shrink.

    Such an axis nests a factor in a length known only at run time (``batch * heads``). ``Reshape`` can say 0 or -1,
    if that is what the target said before; ``Expand`` can say 1, if its input has the axis already.
    """
    target = op.input(TARGETS[op.kind])
    if target is None:
        return
    said = _of(target, entries)
    for back, axis in enumerate(reversed(results), 1):
        if axis.size is not None and (said is not None or target.is_constant):
            continue
        if all(factor.size is None for factor in leaves(axis)):
            continue
        entry = said[-back] if said is not None and back <= len(said) else None
        carried = data is not None and back <= len(data) and list(leaves(data[-back])) == list(leaves(axis))
        if not (op.kind == "Reshape" and entry in (0, -1)) and not (op.kind == "Expand" and carried):
            yield axis
