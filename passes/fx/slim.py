"""Remove the components that a plan drops from an exported module."""

from __future__ import annotations

from torch import fx
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.axes.shrink import Shrink
from modhifi_graph.dialects.aten import lift
from modhifi_graph.dialects.aten_lowering import Lowering
from modhifi_graph.plan import Plan


class Slim(PassBase):
    """Slice a functional module, in place, down to what ``plan`` keeps."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def call(self, graph_module: fx.GraphModule) -> PassResult:
        lifted = lift(graph_module)
        coupling = couple(lifted.graph)
        keep = self.plan.resolve(find_groups(coupling))
        Lowering(lifted, Shrink(coupling, keep)).run()
        return PassResult(graph_module, modified=bool(keep))
