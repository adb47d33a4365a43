"""Remove what a plan drops from an exported module."""

from __future__ import annotations

from torch import fx
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.axes.shrink import Shrink
from modhifi_graph.dialects.aten import lift
from modhifi_graph.dialects.aten_lowering import Lowering, bypass
from modhifi_graph.dialects.aten_module import tidy
from modhifi_graph.plan import Plan


class Slim(PassBase):
    """Slice a functional module, in place, down to what ``plan`` keeps."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def call(self, graph_module: fx.GraphModule) -> PassResult:
        lifted = lift(graph_module)
        coupling = couple(lifted.graph)
        groups = find_groups(coupling)
        keep, removed = self.plan.resolve(groups), self.plan.removed(groups)
        Lowering(lifted, Shrink(coupling, keep)).run()
        for branch in removed:
            bypass(lifted, branch)
        if removed:
            tidy(graph_module)
        return PassResult(graph_module, modified=bool(keep or removed))
