"""Lowering: what an ONNX node must say once its axes have shrunk.

Weights are sliced by the layouts of their axes. What is left is the numbers that exporters write into graphs: target
shapes, split sizes, starts and ends, pads, group counts. Each is recomputed from the layouts, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modhifi_graph.axes.branches import Branch
from modhifi_graph.axes.coupling import Coupling
from modhifi_graph.axes.layout import Layout
from modhifi_graph.axes.shapes import TARGETS
from modhifi_graph.axes.shrink import Shrink
from modhifi_graph.dialects.onnx import Lifted
from modhifi_graph.dialects.onnx_constants import new_initialiser, replace_constant
from modhifi_graph.graph import Op

__all__ = ["REWRITES", "Lowering", "bypass", "new_initialiser"]

COPIED, INFERRED, BROADCAST = 0, -1, 1
"""What an entry of a target shape says, where it says no length."""


@dataclass(frozen=True)
class Lowering:
    """One plan being lowered onto one model, in place."""

    lifted: Lifted
    shrink: Shrink

    @property
    def coupling(self) -> Coupling:
        return self.shrink.coupling

    def run(self) -> None:
        """Slice every constant and rewrite every stale parameter."""
        self._slice()
        for op in self.coupling.graph.ops:
            for attribute, count in self.shrink.attributes(op).items():
                self.lifted.nodes[op].attributes[attribute] = ir.AttrInt64(attribute, count)
            if op.kind in REWRITES and not op.domain:
                REWRITES[op.kind](self, op)
        self._update_shapes()

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
        for op, slot, value, positions in self.shrink.constants():
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

    def _update_shapes(self) -> None:
        """Write the new lengths; the names of the others stay."""
        for op in self.coupling.graph.ops:
            for value in op.outputs:
                axes, result = self.coupling.axes(value), self.lifted.values[value]
                if axes is not None and result.shape is not None and any(map(self.shrink.changed, axes)):
                    pairs = zip(axes, result.shape, strict=True)
                    result.shape = ir.Shape(
                        [self.shrink.after(a) if self.shrink.changed(a) else dim for a, dim in pairs]
                    )


def bypass(lifted: Lifted, branch: Branch) -> None:
    """Let everything that reads a sum read its stream instead; the branch is left for dead."""
    node = lifted.nodes[branch.addition]
    stream = node.inputs[1 - branch.slot]
    assert stream is not None, "an addition has both its inputs"
    ir.convenience.replace_all_uses_with(node.outputs[0], stream)


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
    if results is None or target is None or not any(map(lowering.shrink.changed, results)):
        return
    described = _described(op, list(results))
    lengths = [lowering.shrink.after(axis) for axis in described]
    if target.is_constant:
        old = [int(entry) for entry in target.array()]
        unsaid = BROADCAST if op.kind == "Expand" else INFERRED
        changed = [lowering.shrink.changed(axis) for axis in described]
        kept_entry = [entry if entry == COPIED or not c else unsaid for entry, c in zip(old, changed, strict=True)]
        new = [kept_entry[i] if n is None else n for i, n in enumerate(lengths)]
        lowering.replace_input(op, slot, np.array(new, np.int64))
    elif None not in lengths:
        lowering.replace_input(op, slot, np.array(lengths, np.int64))
    else:
        carried = [op.kind == "Expand" and lowering.shrink.changed(axis) for axis in described]
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
    sizes = lowering.shrink.split(op)
    if sizes is not None:
        lowering.lifted.nodes[op].attributes.pop("num_outputs", None)
        lowering.set_integers(op, "split", 1, sizes)


def _slice(lowering: Lowering, op: Op) -> None:
    bounds = lowering.shrink.bounds(op)
    if bounds is not None:
        lowering.set_integers(op, "starts", 1, bounds[0])
        lowering.set_integers(op, "ends", 2, bounds[1])


def _gather(lowering: Lowering, op: Op) -> None:
    indices = lowering.shrink.indices(op)
    if indices is not None:
        lowering.replace_input(op, 1, indices)


def _pad(lowering: Lowering, op: Op) -> None:
    amounts, given = lowering.shrink.pads(op), op.parameter("axes", 3)
    if amounts is not None:
        touched = range(len(amounts)) if given is None else [int(axis) for axis in given]
        lowering.set_integers(op, "pads", 1, [amounts[axis][end] for end in (0, 1) for axis in touched])


def _squeeze(lowering: Lowering, op: Op) -> None:
    """Name the axes that go: an axis pruned down to one component must not go with them."""
    axes = lowering.shrink.axes(op)
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
