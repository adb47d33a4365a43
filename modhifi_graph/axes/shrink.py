"""A plan applied to layouts: how long every axis will be, and which numbers of an op go stale with it.

Both dialects write these numbers back in their own way. Nothing here is guessed: every number is counted from the positions
that stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from modhifi_graph.axes.coupling import Coupling
from modhifi_graph.axes.layout import Layout, kept, leaves, length
from modhifi_graph.axes.rules import RULES
from modhifi_graph.axes.slicing import pad_amounts, sliced_axes
from modhifi_graph.graph import Op, Value


@dataclass(frozen=True)
class Shrink:
    """The positions that stay of each pruned factor of a coupled graph.

    ``keep`` has them in the order they are to have: a permutation of all of them reorders the components and changes
    nothing that the graph computes.
    """

    coupling: Coupling
    keep: Mapping[Layout, np.ndarray]

    def changed(self, layout: Layout) -> bool:
        return any(factor in self.keep for factor in leaves(layout))

    def after(self, layout: Layout) -> int | None:
        """The length that an axis will have; None where it is known only at run time."""
        return length(layout, {factor: len(positions) for factor, positions in self.keep.items()})

    def kept(self, layout: Layout) -> np.ndarray:
        return kept(layout, self.keep)

    def count(self, layout: Layout, start: int, end: int) -> int:
        """How many of the positions from ``start`` to ``end`` stay."""
        positions = self.kept(layout)
        return int(((positions >= start) & (positions < end)).sum())

    def axes(self, op: Op) -> list[Layout]:
        """The axes of the first input; none where nothing about it changes or is known."""
        axes = list(self.coupling.operand(op, 0) or ())
        return axes if any(map(self.changed, axes)) else []

    def results(self, op: Op) -> list[Layout]:
        """The axes of the first output; none where nothing about it changes or is known."""
        axes = list(self.coupling.axes(op.outputs[0]) or ())
        return axes if any(map(self.changed, axes)) else []

    def constants(self) -> Iterator[tuple[Op, int, Value, list[np.ndarray]]]:
        """Every use of a constant that shrinks, with the positions of each axis that stay."""
        for op in self.coupling.graph.ops:
            for slot, value in enumerate(op.inputs):
                axes = self.coupling.operand(op, slot)
                if value is not None and value.is_constant and axes is not None and any(map(self.changed, axes)):
                    yield op, slot, value, [self.kept(axis) for axis in axes]

    def attributes(self, op: Op) -> dict[str, int]:
        """Attributes that count the positions of a factor (``group``, ``num_groups``), where they change."""
        binding = self.coupling.bindings.get(op)
        if binding is None or op.domain:
            return {}
        found = {}
        for attribute, name in RULES[op.kind].attributes.items():
            count = self.after(binding.factors[name])
            if self.changed(binding.factors[name]) and count is not None:
                found[attribute] = count
        return found

    def split(self, op: Op) -> list[int] | None:
        """The lengths of the parts of a Split; None where they stay."""
        axes, where = self.axes(op), int(op.attributes.get("axis", 0))
        if not axes or not self.changed(axes[where]):
            return None
        parts = (self.coupling.axes(value) for value in op.outputs)
        lengths = [self.after(part[where]) for part in parts if part is not None]
        return [n for n in lengths if n is not None]

    def bounds(self, op: Op) -> tuple[list[int], list[int]] | None:
        """The starts and ends of a Slice; None where they stay."""
        axes = self.axes(op)
        touched = sliced_axes(op, len(axes)) if axes else []
        if not any(self.changed(axes[axis]) for axis in touched):
            return None
        starts, ends = op.parameter("starts", 1), op.parameter("ends", 2)
        assert starts is not None and ends is not None, "an axis sliced at run time is pinned"
        first, last = list(map(int, starts)), list(map(int, ends))
        for k, axis in enumerate(touched):
            if self.changed(axes[axis]):
                begin, end, _ = slice(first[k], last[k]).indices(axes[axis].size or 0)
                first[k] = self.count(axes[axis], 0, begin)
                last[k] = first[k] + self.count(axes[axis], begin, end)
        return first, last

    def indices(self, op: Op) -> np.ndarray | None:
        """The constant indices of a Gather; None where they stay."""
        axes, index = self.axes(op), op.input(1)
        layout = axes[int(op.attributes.get("axis", 0))] if axes else None
        if layout is None or index is None or not index.is_constant or not self.changed(layout):
            return None
        numbers = index.array() % (layout.size or 1)
        first, end = int(numbers.min()), int(numbers.max()) + 1
        begin = self.count(layout, 0, first)
        stays = np.arange(begin, begin + self.count(layout, first, end))
        return np.asarray(stays if numbers.ndim else stays[0], index.array().dtype)

    def pads(self, op: Op) -> list[tuple[int, int]] | None:
        """How much a Pad adds before and after every axis; None where that stays."""
        axes, results = self.coupling.operand(op, 0), self.coupling.axes(op.outputs[0])
        if axes is None or results is None or not any(map(self.changed, results)):
            return None
        amounts = pad_amounts(op, len(axes))
        for i, (before, after) in enumerate(amounts):
            if (before or after) and self.changed(results[i]):
                total = results[i].size or 0
                amounts[i] = self.count(results[i], 0, before), self.count(results[i], total - after, total)
        return amounts
