"""Remove what a plan drops: every weight sliced, every stale parameter rewritten, residual branches bypassed."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.axes.shrink import Shrink
from modhifi_graph.dialects.onnx import interface, lift
from modhifi_graph.dialects.onnx_lowering import Lowering, bypass
from modhifi_graph.plan import Plan


class Slim(ir.passes.InPlacePass):
    """Slice the graph down to what ``plan`` keeps. The model must be normalised, and the plan made for it."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        self._interface = interface(model)
        lifted = lift(model)
        coupling = couple(lifted.graph)
        groups = find_groups(coupling)
        keep, removed = self.plan.resolve(groups), self.plan.removed(groups)
        Lowering(lifted, Shrink(coupling, keep)).run()
        for branch in removed:
            bypass(lifted, branch)
        common.RemoveUnusedNodesPass()(model)
        common.NameFixPass()(model)
        common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
        return ir.passes.PassResult(model, modified=bool(keep or removed))

    def ensures(self, model: ir.Model) -> None:
        if interface(model) != self._interface:
            raise ir.passes.PostconditionError("slimming changed the graph's inputs or outputs")
