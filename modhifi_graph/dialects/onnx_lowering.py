"""Lowering: what an ONNX node must say once its axes have shrunk.

Weights are sliced by the layouts of their axes. What is left is the numbers that exporters write into graphs: target
shapes, split sizes, starts and ends, pads, group counts. Each is recomputed from the layouts, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modhifi_graph.axes.coupling import Coupling
from modhifi_graph.axes.layout import Layout, kept, leaves, length
from modhifi_graph.axes.rules import RULES
from modhifi_graph.axes.selection import pad_amounts, sliced_axes
from modhifi_graph.axes.shapes import TARGETS
from modhifi_graph.dialects.onnx import Lifted
from modhifi_graph.dialects.onnx_constants import new_initialiser, replace_constant
from modhifi_graph.graph import Op

__all__ = ["REWRITES", "Lowering", "new_initialiser"]

COPIED, INFERRED, BROADCAST = 0, -1, 1
"""What an entry of a target shape says, where it says no length."""


@dataclass(frozen=True)
class Lowering:
    """One plan being lowered onto one model, in place.

    ``keep`` maps each pruned factor to the positions that stay, in the order they are to have: a permutation of all of
    them reorders the components and changes nothing that the graph computes.
    """

    lifted: Lifted
    coupling: Coupling
    keep: Mapping[Layout, np.ndarray]

    def run(self) -> None:
        """Slice every constant and rewrite every stale parameter."""
        self._slice()
        for op in self.coupling.graph.ops:
            self._attributes(op)
            if op.kind in REWRITES and not op.domain:
                REWRITES[op.kind](self, op)
        self._update_shapes()

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

    def set_integers(self, op: Op, parameter: str, slot: int, numbers: Sequence[int]) -> None:
        """Write an integer parameter where this opset keeps it: an attribute or an input."""
        node, value = self.lifted.nodes[op], op.input(slot)
        if parameter in op.attributes or slot_is_attribute(op, parameter):
            node.attributes[parameter] = ir.AttrInt64s(parameter, list(numbers))
        else:
            dtype = value.dtype if value is not None and value.dtype is not None else np.dtype(np.int64)
            self.replace_input(op, slot, np.asarray(numbers, dtype))

    def replace_input(self, op: Op, slot: int, array: np.ndarray) -> None:
        """Give the node its own constant in ``slot``."""
        node = self.lifted.nodes[op]
        replace_constant(self.lifted.model, node, slot, array, f"{node.name or op.kind}_input{slot}")

    def _slice(self) -> None:
        """Slice every constant by the layouts of its axes; equal slices of one constant stay one."""
        uses: dict[tuple[str, tuple[bytes, ...]], list[tuple[ir.Node, int]]] = {}
        arrays: dict[tuple[str, tuple[bytes, ...]], np.ndarray] = {}
        for op in self.coupling.graph.ops:
            for slot, value in enumerate(op.inputs):
                axes = self.coupling.operand(op, slot)
                if value is None or axes is None or not value.is_constant or not any(map(self.changed, axes)):
                    continue
                positions = [self.kept(axis) for axis in axes]
                key = (value.name, tuple(chosen.tobytes() for chosen in positions))
                if key not in arrays:
                    arrays[key] = value.array()[np.ix_(*positions)]
                uses.setdefault(key, []).append((self.lifted.nodes[op], slot))
        # First let go of every old constant, so that the first slice keeps the name people know.
        for readers in uses.values():
            for node, slot in readers:
                node.replace_input_with(slot, None)
        for key, readers in uses.items():
            constant = new_initialiser(self.lifted.model, arrays[key], key[0])
            for node, slot in readers:
                node.replace_input_with(slot, constant)

    def _attributes(self, op: Op) -> None:
        """Attributes that count the positions of a factor (``group``, ``num_groups``)."""
        binding = self.coupling.bindings.get(op)
        if binding is None or op.domain:
            return
        for attribute, name in RULES[op.kind].attributes.items():
            factor = binding.factors[name]
            if self.changed(factor):
                count = self.after(factor)
                assert count is not None, "a pruned factor has a length"
                self.lifted.nodes[op].attributes[attribute] = ir.AttrInt64(attribute, count)

    def _update_shapes(self) -> None:
        """Write the new lengths; the names of the others stay."""
        for op in self.coupling.graph.ops:
            for value in op.outputs:
                axes, result = self.coupling.axes(value), self.lifted.values[value]
                if axes is not None and result.shape is not None and any(map(self.changed, axes)):
                    pairs = zip(axes, result.shape, strict=True)
                    result.shape = ir.Shape([self.after(a) if self.changed(a) else dim for a, dim in pairs])


def slot_is_attribute(op: Op, parameter: str) -> bool:
    """Whether a parameter that the op leaves out would be an attribute in its opset."""
    return op.opset < 13 and (op.kind, parameter) in (("Split", "split"), ("Squeeze", "axes"))


def _target_shape(lowering: Lowering, op: Op) -> None:
    """Rewrite a target shape: every entry that names a length known now says the new one.

    An axis that nests a pruned factor in an open length is inferred or copied (``Reshape``), or broadcast (``Expand``);
    coupling pinned those that could not be. The other entries stay, also where they are computed at run time.
    """
    results, slot = lowering.coupling.axes(op.outputs[0]), TARGETS[op.kind]
    target = op.input(slot)
    if results is None or target is None or not any(map(lowering.changed, results)):
        return
    described = _described(op, list(results))
    lengths = [lowering.after(axis) for axis in described]
    if target.is_constant:
        old = [int(entry) for entry in target.array()]
        unsaid = BROADCAST if op.kind == "Expand" else INFERRED
        changed = [lowering.changed(axis) for axis in described]
        kept_entry = [entry if entry == COPIED or not c else unsaid for entry, c in zip(old, changed, strict=True)]
        new = [kept_entry[i] if n is None else n for i, n in enumerate(lengths)]
        lowering.replace_input(op, slot, np.array(new, np.int64))
    elif None not in lengths:
        lowering.replace_input(op, slot, np.array(lengths, np.int64))
    else:
        carried = [op.kind == "Expand" and lowering.changed(axis) for axis in described]
        known = np.array([n is not None or c for n, c in zip(lengths, carried, strict=True)])
        numbers = np.array([BROADCAST if n is None else n for n in lengths], np.int64)
        _mend(lowering, op, slot, known, numbers)


def _described(op: Op, results: list[Layout]) -> Sequence[Layout]:
    """The axes that the entries of a target shape speak of."""
    target = op.input(TARGETS[op.kind])
    assert target is not None
    if op.kind == "Resize" and op.attributes.get("axes"):
        return [results[int(axis)] for axis in op.attributes["axes"]]
    count = target.shape[0] if target.shape else None
    return results[len(results) - count :] if isinstance(count, int) else results


def _mend(lowering: Lowering, op: Op, slot: int, known: np.ndarray, numbers: np.ndarray) -> None:
    """Overwrite the known entries of a target that is computed at run time: ``Where(known, numbers, computed)``."""
    model, node = lowering.lifted.model, lowering.lifted.nodes[op]
    name = node.name or op.kind
    condition, new = new_initialiser(model, known, f"{name}_known"), new_initialiser(model, numbers, f"{name}_lengths")
    mended = ir.node("Where", [condition, new, node.inputs[slot]], name=f"{name}_slim_shape")
    mended.outputs[0].name = f"{name}_slim_shape"
    mended.outputs[0].shape, mended.outputs[0].type = ir.Shape(numbers.shape), ir.TensorType(ir.DataType.INT64)
    node.prepend(mended)
    node.replace_input_with(slot, mended.outputs[0])


def _split(lowering: Lowering, op: Op) -> None:
    axes, where = lowering.axes(op), int(op.attributes.get("axis", 0))
    if not axes or not lowering.changed(axes[where]):
        return
    sizes = [lowering.after(part[where]) for value in op.outputs if (part := lowering.coupling.axes(value)) is not None]
    lowering.lifted.nodes[op].attributes.pop("num_outputs", None)
    lowering.set_integers(op, "split", 1, [size for size in sizes if size is not None])


def _slice(lowering: Lowering, op: Op) -> None:
    axes = lowering.axes(op)
    touched = sliced_axes(op, len(axes)) if axes else []
    if not any(lowering.changed(axes[axis]) for axis in touched):
        return
    starts, ends = op.parameter("starts", 1), op.parameter("ends", 2)
    assert starts is not None and ends is not None, "an axis sliced at run time is pinned"
    first, last = list(map(int, starts)), list(map(int, ends))
    for k, axis in enumerate(touched):
        if lowering.changed(axes[axis]):
            begin, end, _ = slice(first[k], last[k]).indices(axes[axis].size or 0)
            first[k] = lowering.count(axes[axis], 0, begin)
            last[k] = first[k] + lowering.count(axes[axis], begin, end)
    lowering.set_integers(op, "starts", 1, first)
    lowering.set_integers(op, "ends", 2, last)


def _gather(lowering: Lowering, op: Op) -> None:
    axes, index = lowering.axes(op), op.input(1)
    layout = axes[int(op.attributes.get("axis", 0))] if axes else None
    if layout is None or index is None or not index.is_constant or not lowering.changed(layout):
        return
    numbers = index.array() % (layout.size or 1)
    first, end = int(numbers.min()), int(numbers.max()) + 1
    begin = lowering.count(layout, 0, first)
    stays = np.arange(begin, begin + lowering.count(layout, first, end))
    lowering.replace_input(op, 1, (stays if numbers.ndim else stays[0]).astype(index.array().dtype))


def _pad(lowering: Lowering, op: Op) -> None:
    axes, results = lowering.coupling.operand(op, 0), lowering.coupling.axes(op.outputs[0])
    if axes is None or results is None or not any(map(lowering.changed, results)):
        return
    amounts = pad_amounts(op, len(axes))
    for i, (before, after) in enumerate(amounts):
        if (before or after) and lowering.changed(results[i]):
            total = results[i].size or 0
            amounts[i] = lowering.count(results[i], 0, before), lowering.count(results[i], total - after, total)
    given = op.parameter("axes", 3)
    touched = list(range(len(axes))) if given is None else [int(axis) for axis in given]
    lowering.set_integers(op, "pads", 1, [amounts[axis][end] for end in (0, 1) for axis in touched])


def _squeeze(lowering: Lowering, op: Op) -> None:
    """Name the axes that go: an axis pruned down to one component must not go with them."""
    axes = lowering.axes(op)
    if axes and op.parameter("axes", 1) is None:
        lowering.set_integers(op, "axes", 1, [i for i, axis in enumerate(axes) if axis.size == 1])


REWRITES: Mapping[str, Callable[[Lowering, Op], None]] = {
    **dict.fromkeys(TARGETS, _target_shape),
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "Squeeze": _squeeze,
}
