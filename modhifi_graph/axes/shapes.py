"""Lengths that a graph reads at run time: which axes may not change under the computation that reads them.

``Shape`` of a pruned axis gives the slim length. Where that number only ends in a target shape (``Reshape``, ``Expand``,
``ConstantOfShape``), lowering rewrites the entry. Anywhere else (a scale of 1 / sqrt(d), a loop bound, a range) it would
change what the graph computes, so the axis is pinned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from modhifi_graph.graph import Graph, Op, Value

Source = tuple[Value, int]
"""A value and the number of one of its axes."""

Entries = list[frozenset[Source]]
"""For every element of a one-axis integer tensor, the axes whose lengths it was computed from."""

TARGETS: Mapping[str, int] = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0, "Resize": 3}
"""Ops that take a target shape, and in which input; see the lowering of each."""

_CARRIERS = {"Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape"}


def lengths_read(graph: Graph) -> Iterator[tuple[Source, Op]]:
    """Every static axis whose length is read at run time by something other than a target shape, and by which op."""
    entries: dict[Value, Entries] = {}
    outputs = set(graph.outputs)
    for op in graph.ops:
        if op.kind == "Shape" and not op.domain:
            entries[op.outputs[0]] = _read(op)
            continue
        tainted = [(slot, value) for slot, value in enumerate(op.inputs) if value is not None and value in entries]
        if not tainted:
            yield from _escaping(op, [v for v in op.captured if v in entries], entries)
            continue
        carried = _carry(op, entries)
        if carried is not None:
            entries[op.outputs[0]] = carried
        else:
            escaping = [value for slot, value in tainted if TARGETS.get(op.kind) != slot]
            yield from _escaping(op, escaping, entries)
        yield from _escaping(op, [result for result in op.outputs if result in outputs], entries)


def _escaping(op: Op, values: list[Value], entries: Mapping[Value, Entries]) -> Iterator[tuple[Source, Op]]:
    for value in values:
        for source in frozenset().union(*entries.get(value, [])):
            yield source, op


def _read(op: Op) -> Entries:
    value = op.input(0)
    if value is None or value.shape is None:
        return []
    axes = range(len(value.shape))[slice(op.attributes.get("start", 0), op.attributes.get("end"))]
    return [frozenset([(value, i)] if isinstance(value.shape[i], int) else []) for i in axes]


def _carry(op: Op, entries: Mapping[Value, Entries]) -> Entries | None:
    """What the output's elements were computed from, for ops that only arrange integers; None for others."""
    first = op.input(0)
    if first is None:
        return None
    if op.kind == "Concat":
        return [entry for value in op.inputs if value is not None for entry in _of(value, entries)]
    if op.kind in _CARRIERS and first in entries and op.kind != "Cast":
        return entries[first]
    if op.kind == "Cast" and op.outputs[0].dtype is not None and np.issubdtype(op.outputs[0].dtype, np.integer):
        return entries.get(first)
    if op.kind in ("Gather", "Slice") and first in entries:
        return _select(op, entries[first])
    return None


def _of(value: Value, entries: Mapping[Value, Entries]) -> Entries:
    if value in entries:
        return entries[value]
    size = value.shape[0] if value.shape else 1
    return [frozenset()] * (size if isinstance(size, int) else 1)


def _select(op: Op, entries: Entries) -> Entries | None:
    numbers = np.arange(len(entries))
    try:
        if op.kind == "Gather":
            index = op.parameter("indices", 1)
            assert index is not None
            numbers = np.atleast_1d(numbers[index])
        else:
            starts, ends, steps = op.parameter("starts", 1), op.parameter("ends", 2), op.parameter("steps", 4)
            assert starts is not None and ends is not None
            numbers = numbers[int(starts[0]) : int(ends[0]) : 1 if steps is None else int(steps[0])]
    except (ValueError, AssertionError, IndexError):
        return None
    return [entries[i] for i in numbers.ravel()]
