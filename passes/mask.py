"""Zero the components that a plan drops, where they are consumed: the oracle that a slim graph must equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Contraction, find_groups
from modhifi_graph.axes.layout import kept, leaves
from modhifi_graph.dialects.onnx import Lifted, lift
from modhifi_graph.dialects.onnx_lowering import new_initialiser
from modhifi_graph.plan import Plan


class Mask(ir.passes.InPlacePass):
    """Zero every dropped component at each contraction that consumes it; shapes and node count of weights are unchanged.

    Where the other operand is a weight its rows are zeroed, otherwise the operand is multiplied by a 0/1 mask.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        lifted = lift(model)
        groups = find_groups(couple(lifted.graph))
        keep = self.plan.resolve(groups)
        weights: dict[tuple[ir.Node, int], np.ndarray] = {}
        for contraction in groups.contractions:
            dropped = {factor: keep[factor] for factor in leaves(contraction.layout) if factor in keep}
            if not dropped:
                continue
            if contraction.weighted:
                node = lifted.nodes[contraction.op]
                value = contraction.op.inputs[contraction.other]
                assert value is not None
                array = weights.setdefault((node, contraction.other), value.array().copy())
                positions = kept(contraction.other_layout, dropped)
                array *= _mask(array.shape, contraction.other_axis, positions, array.dtype)
            else:
                _mask_operand(lifted, contraction, kept(contraction.axis_layout, dropped))
        for (node, slot), array in weights.items():
            node.replace_input_with(slot, new_initialiser(model, array, f"{node.inputs[slot].name}_masked"))
        return ir.passes.PassResult(model, modified=bool(keep))


def _mask(shape: Sequence[int], axis: int, positions: np.ndarray, dtype: Any) -> np.ndarray:
    """Ones at ``positions`` of ``axis``, zeros elsewhere, shaped to broadcast against ``shape``."""
    mask = np.zeros(shape[axis], dtype)
    mask[positions] = 1
    return mask.reshape([-1 if i == axis else 1 for i in range(len(shape))])


def _mask_operand(lifted: Lifted, contraction: Contraction, positions: np.ndarray) -> None:
    node = lifted.nodes[contraction.op]
    operand, value = node.inputs[contraction.slot], contraction.op.inputs[contraction.slot]
    assert operand is not None and value is not None and value.shape is not None
    sizes = [dim if isinstance(dim, int) else 0 for dim in value.shape]
    constant = new_initialiser(
        lifted.model, _mask(sizes, contraction.axis, positions, value.dtype), f"{node.name}_mask"
    )
    masked = ir.node("Mul", [operand, constant], name=f"{node.name}_masked")
    masked.outputs[0].name = f"{node.name}_masked"
    masked.outputs[0].shape, masked.outputs[0].type = operand.shape, operand.type
    node.prepend(masked)
    node.replace_input_with(contraction.slot, masked.outputs[0])
