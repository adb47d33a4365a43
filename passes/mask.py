"""Zero what a plan drops, where it is consumed: the oracle that a slim graph must equal."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from modhifi_graph.axes.branches import Branch
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Contraction, find_groups
from modhifi_graph.axes.layout import Layout, kept, leaves
from modhifi_graph.dialects.onnx import Lifted, lift
from modhifi_graph.dialects.onnx_constants import new_initialiser
from modhifi_graph.graph import Value
from modhifi_graph.plan import Plan


class Mask(ir.passes.InPlacePass):
    """Zero every dropped component at each contraction that consumes it; no weight changes its shape.

    Where the other operand is a weight its rows are zeroed, otherwise the operand is multiplied by a mask of 0 and 1. What a
    dropped branch adds is replaced by zeros.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        lifted = lift(model)
        groups = find_groups(couple(lifted.graph))
        keep, removed = self.plan.resolve(groups), self.plan.removed(groups)
        weights: dict[tuple[ir.Node, int], np.ndarray] = {}
        for contraction in groups.contractions:
            dropped = {factor: keep[factor] for factor in leaves(contraction.layout) if factor in keep}
            if not dropped:
                continue
            if contraction.weighted:
                node, weight = lifted.nodes[contraction.op], _operand(contraction, contraction.other)
                array = weights.setdefault((node, contraction.other), weight.array().copy())
                array *= _mask(contraction.other_layout, dropped, contraction.other_axis, array.ndim).astype(
                    array.dtype
                )
            else:
                _mask_operand(lifted, contraction, dropped)
        for (node, slot), array in weights.items():
            old = node.inputs[slot]
            assert old is not None
            node.replace_input_with(slot, new_initialiser(model, array, f"{old.name}_masked"))
        for branch in removed:
            _mask_branch(lifted, branch)
        common.RemoveUnusedNodesPass()(model)
        common.NameFixPass()(model)
        return ir.passes.PassResult(model, modified=bool(keep or removed))


def _operand(contraction: Contraction, slot: int) -> Value:
    value = contraction.op.inputs[slot]
    assert value is not None, "a contraction has both its operands"
    return value


def _mask(layout: Layout, keep: dict[Layout, np.ndarray], axis: int, rank: int) -> np.ndarray:
    """Ones where components of an axis stay and zeros elsewhere, shaped to broadcast along it."""
    assert layout.size is not None, "an axis contracted at a length known only at run time is pinned"
    mask = np.zeros(layout.size)
    mask[kept(layout, keep)] = 1
    return mask.reshape([-1 if i == axis else 1 for i in range(rank)])


def _mask_operand(lifted: Lifted, contraction: Contraction, keep: dict[Layout, np.ndarray]) -> None:
    node, value = lifted.nodes[contraction.op], _operand(contraction, contraction.slot)
    operand, dtype = node.inputs[contraction.slot], value.dtype or _operand(contraction, contraction.other).dtype
    assert operand is not None
    mask = _mask(contraction.axis_layout, keep, contraction.axis, value.rank or 0).astype(dtype or np.float32)
    name = f"{node.name or node.op_type}_masked"
    masked = ir.node("Mul", [operand, new_initialiser(lifted.model, mask, f"{name}_by")], name=name)
    masked.outputs[0].name = name
    masked.outputs[0].shape, masked.outputs[0].type = operand.shape, operand.type
    node.prepend(masked)
    node.replace_input_with(contraction.slot, masked.outputs[0])


def _mask_branch(lifted: Lifted, branch: Branch) -> None:
    """Add zeros in place of a branch, which runs all the same."""
    node = lifted.nodes[branch.addition]
    value, dtype = node.inputs[branch.slot], branch.value.dtype
    assert value is not None
    name = f"{node.name or node.op_type}_branch"
    never = new_initialiser(lifted.model, np.zeros((), bool), f"{name}_stays")
    zeros = ir.node(
        "Where", [never, value, new_initialiser(lifted.model, np.zeros((), dtype), f"{name}_zero")], name=name
    )
    zeros.outputs[0].name, zeros.outputs[0].shape, zeros.outputs[0].type = name, value.shape, value.type
    node.prepend(zeros)
    node.replace_input_with(branch.slot, zeros.outputs[0])
