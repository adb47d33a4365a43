"""Zero what a plan drops where an exported module consumes it: what a slim one must equal."""

from __future__ import annotations

import numpy as np
import torch
from torch import fx
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from modhifi_graph.axes.branches import Branch
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Contraction, find_groups
from modhifi_graph.axes.layout import Layout, kept, leaves
from modhifi_graph.dialects.aten import Lifted, lift
from modhifi_graph.dialects.aten_module import assign
from modhifi_graph.plan import Plan


class Mask(PassBase):
    """Multiply every operand that holds dropped components by ones and zeros, and add zeros in place of dropped branches.

    No parameter changes.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def call(self, graph_module: fx.GraphModule) -> PassResult:
        lifted = lift(graph_module)
        groups = find_groups(couple(lifted.graph))
        keep, removed = self.plan.resolve(groups), self.plan.removed(groups)
        for number, contraction in enumerate(groups.contractions):
            dropped = {factor: keep[factor] for factor in leaves(contraction.layout) if factor in keep}
            if dropped:
                _mask(lifted, contraction, dropped, f"_mask_{number}")
        for branch in removed:
            _mask_branch(lifted, branch)
        graph_module.recompile()
        return PassResult(graph_module, modified=bool(keep or removed))


def _mask_branch(lifted: Lifted, branch: Branch) -> None:
    """Add zeros in place of a branch, which runs all the same."""
    node = lifted.nodes[branch.addition]
    value = node.args[branch.slot]
    assert isinstance(value, fx.Node)
    with lifted.module.graph.inserting_before(node):
        zeros = lifted.module.graph.call_function(torch.ops.aten.zeros_like.default, (value,))
    zeros.meta["val"] = value.meta["val"]
    node.update_arg(branch.slot, zeros)


def _mask(lifted: Lifted, contraction: Contraction, keep: dict[Layout, np.ndarray], name: str) -> None:
    """Zero an activation on its way into a contraction."""
    value, node = contraction.op.inputs[contraction.slot], lifted.nodes[contraction.op]
    assert value is not None
    assert contraction.axis_layout.size is not None
    source = lifted.values[value]
    mask = np.zeros(contraction.axis_layout.size, np.float32)
    mask[kept(contraction.axis_layout, keep)] = 1
    shape = [-1 if i == contraction.axis else 1 for i in range(value.rank or 0)]
    graph = lifted.module.graph
    masked = source.meta["val"]
    assign(lifted.module, name, torch.from_numpy(mask.reshape(shape)).to(masked.device, masked.dtype))
    with graph.inserting_before(node):
        product = graph.call_function(torch.ops.aten.mul.Tensor, (source, graph.get_attr(name)))
    product.meta["val"] = masked
    node.replace_input_with(source, product)
    lifted.values[value] = source
