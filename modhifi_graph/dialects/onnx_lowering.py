"""Lowering: what an ONNX node must say once its axes have shrunk.

Weights are sliced by the layouts of their axes. What is left is the numbers that exporters write into graphs: target
shapes, split sizes, starts and ends, pads, group counts. Each is recomputed from the layouts, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modhifi_graph.axes.coupling import Coupling
from modhifi_graph.axes.layout import Layout, kept, leaves, length
from modhifi_graph.axes.rules import RULES
from modhifi_graph.dialects.onnx import Lifted
from modhifi_graph.graph import Op


@dataclass(frozen=True)
class Lowering:
    """One plan being lowered onto one model, in place.

    ``keep`` maps each pruned factor to the positions that stay.
    """

    lifted: Lifted
    coupling: Coupling
    keep: Mapping[Layout, np.ndarray]

    def run(self) -> None:
        """Slice every constant and rewrite every stale parameter."""
        sliced: dict[tuple[str, tuple[bytes, ...]], ir.Value] = {}
        for op in self.coupling.graph.ops:
            for slot in range(len(op.inputs)):
                self._slice(op, slot, sliced)
            self._attributes(op)
            if op.kind in REWRITES and not op.domain:
                REWRITES[op.kind](self, op)
        self._forget_shapes()

    def changed(self, layout: Layout) -> bool:
        return any(factor in self.keep for factor in leaves(layout))

    def after(self, layout: Layout) -> int | None:
        return length(layout, {factor: len(positions) for factor, positions in self.keep.items()})

    def kept(self, layout: Layout) -> np.ndarray:
        return kept(layout, self.keep)

    def replace_input(self, op: Op, slot: int, array: np.ndarray) -> None:
        """Give the node its own constant in ``slot``."""
        node = self.lifted.nodes[op]
        self._attach(node, slot, new_initialiser(self.lifted.model, array, f"{node.name or op.kind}_input{slot}"))

    def set_integers(self, op: Op, attribute: str, slot: int, numbers: list[int]) -> None:
        """Write an integer parameter where this opset keeps it."""
        node = self.lifted.nodes[op]
        value = op.input(slot)
        if attribute in op.attributes or (value is None and op.opset < 13 and op.kind == "Split"):
            node.attributes[attribute] = ir.AttrInt64s(attribute, numbers)
        else:
            dtype = value.dtype if value is not None and value.dtype is not None else np.dtype(np.int64)
            self.replace_input(op, slot, np.asarray(numbers, dtype))

    def _attach(self, node: ir.Node, slot: int, value: ir.Value) -> None:
        if slot >= len(node.inputs):
            node.resize_inputs(slot + 1)
        node.replace_input_with(slot, value)

    def _slice(self, op: Op, slot: int, sliced: dict[tuple[str, tuple[bytes, ...]], ir.Value]) -> None:
        value, axes = op.inputs[slot], self.coupling.operand(op, slot)
        if value is None or axes is None or not value.is_constant or not any(map(self.changed, axes)):
            return
        positions = [self.kept(axis) for axis in axes]
        key = (value.name, tuple(p.tobytes() for p in positions))
        if key not in sliced:
            array = value.array()
            for axis, chosen in enumerate(positions):
                if len(chosen) < array.shape[axis]:
                    array = np.take(array, chosen, axis=axis)
            # The first slice keeps the parameter's name, so that people find their weights again.
            taken = any(name == value.name for name, _ in sliced)
            sliced[key] = new_initialiser(self.lifted.model, array, f"{value.name}_slim" if taken else value.name)
        self._attach(self.lifted.nodes[op], slot, sliced[key])

    def _attributes(self, op: Op) -> None:
        """Attributes that count the positions of a factor (``group``, ``num_groups``)."""
        binding = self.coupling.bindings.get(op)
        if binding is None or op.domain:
            return
        for attribute, name in RULES[op.kind].attributes.items():
            factor = binding.factors[name]
            if self.changed(factor):
                count = self.after(factor)
                assert count is not None
                self.lifted.nodes[op].attributes[attribute] = ir.AttrInt64(attribute, count)

    def _forget_shapes(self) -> None:
        """Intermediate shapes are stale; inference finds them again."""
        for op in self.coupling.graph.ops:
            for value in op.outputs:
                axes = self.coupling.axes(value)
                result = self.lifted.values[value]
                if axes is not None and any(map(self.changed, axes)):
                    result.shape = ir.Shape([self.after(axis) for axis in axes])


def new_initialiser(model: ir.Model, array: np.ndarray, name: str) -> ir.Value:
    """Register a constant under ``name``, or the next free name after it."""
    taken, base, count = model.graph.initializers, name, 2
    while name in taken and taken[name].uses():
        name, count = f"{base}_{count}", count + 1
    if name in taken:
        del taken[name]
    value = ir.Value(name=name, const_value=ir.tensor(np.ascontiguousarray(array), name=name))
    value.shape, value.type = ir.Shape(array.shape), ir.TensorType(ir.DataType.from_numpy(array.dtype))
    model.graph.register_initializer(value)
    return value


def _target_shape(lowering: Lowering, op: Op, slot: int) -> None:
    """Rewrite the entries of a target shape that name an axis which has shrunk.

    An entry that mixes a run-time length with a pruned factor (``batch * heads``) becomes -1, which the runtime infers.
    A target that is computed at run time keeps its other entries: ``Where(stale, new, computed)``.
    """
    axes = lowering.coupling.axes(op.outputs[0])
    target = op.input(slot)
    if axes is None or target is None or not any(map(lowering.changed, axes)):
        return
    extra = len(axes) - (int(target.shape[0]) if target.shape and isinstance(target.shape[0], int) else len(axes))
    relevant = axes[extra:]
    stale = np.array([lowering.changed(axis) for axis in relevant])
    new = np.array([-1 if (n := lowering.after(axis)) is None else n for axis in relevant], np.int64)
    if target.is_constant:
        lowering.replace_input(op, slot, np.where(stale, new, target.array()))
        return
    model, node = lowering.lifted.model, lowering.lifted.nodes[op]
    constants = [
        new_initialiser(model, array, f"{node.name}_{name}") for array, name in ((stale, "stale"), (new, "new"))
    ]
    mended = ir.node("Where", [*constants, node.inputs[slot]], name=f"{node.name}_shape")
    mended.outputs[0].name = f"{node.name}_slim_shape"
    node.prepend(mended)
    node.replace_input_with(slot, mended.outputs[0])


def _split(lowering: Lowering, op: Op) -> None:
    axes = lowering.coupling.operand(op, 0)
    where = int(op.attributes.get("axis", 0))
    if axes is None or not lowering.changed(axes[where]):
        return
    parts = [lowering.coupling.axes(value) for value in op.outputs]
    sizes = [lowering.after(part[where]) for part in parts if part is not None]
    lowering.lifted.nodes[op].attributes.pop("num_outputs", None)
    lowering.set_integers(op, "split", 1, [n for n in sizes if n is not None])


def _slice(lowering: Lowering, op: Op) -> None:
    axes = lowering.coupling.operand(op, 0)
    if axes is None or not any(map(lowering.changed, axes)):
        return
    starts, ends = op.parameter("starts", 1), op.parameter("ends", 2)
    which = op.parameter("axes", 3)
    assert starts is not None and ends is not None
    touched = which if which is not None else np.arange(len(starts))
    if not any(lowering.changed(axes[int(axis)]) for axis in touched):
        return
    first, last = list(map(int, starts)), list(map(int, ends))
    for k, axis in enumerate(touched):
        layout = axes[int(axis)]
        if lowering.changed(layout):
            begin, end, _ = slice(first[k], last[k]).indices(layout.size or 0)
            first[k], last[k] = (int(np.searchsorted(lowering.kept(layout), bound)) for bound in (begin, end))
    lowering.set_integers(op, "starts", 1, first)
    lowering.set_integers(op, "ends", 2, last)


def _gather(lowering: Lowering, op: Op) -> None:
    axes, index = lowering.coupling.operand(op, 0), op.input(1)
    assert index is not None
    layout = axes[int(op.attributes.get("axis", 0))] if axes is not None else None
    if layout is None or not index.is_constant or not lowering.changed(layout):
        return
    positions = lowering.kept(layout)
    numbers = index.array() % (layout.size or 1)
    stays = np.searchsorted(positions, np.intersect1d(numbers, positions))
    lowering.replace_input(op, 1, (stays if numbers.ndim else stays[0]).astype(numbers.dtype))


def _pad(lowering: Lowering, op: Op) -> None:
    axes, results = lowering.coupling.operand(op, 0), lowering.coupling.axes(op.outputs[0])
    if axes is None or results is None or not any(map(lowering.changed, results)):
        return
    amounts = op.parameter("pads", 1)
    assert amounts is not None
    which = op.parameter("axes", 3) if op.input(3) is not None else None
    where = [int(a) % len(axes) for a in which] if which is not None else list(range(len(axes)))
    new = [int(n) for n in amounts]
    for k, axis in enumerate(where):
        if lowering.changed(results[axis]):
            positions, size = lowering.kept(results[axis]), axes[axis].size or 0
            new[k] = int((positions < amounts[k]).sum())
            new[k + len(where)] = int((positions >= amounts[k] + size).sum())
    lowering.set_integers(op, "pads", 1, new)


REWRITES: Mapping[str, Callable[[Lowering, Op], None]] = {
    "Reshape": lambda lowering, op: _target_shape(lowering, op, 1),
    "Expand": lambda lowering, op: _target_shape(lowering, op, 1),
    "ConstantOfShape": lambda lowering, op: _target_shape(lowering, op, 0),
    "Resize": lambda lowering, op: _target_shape(lowering, op, 3),
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
}
