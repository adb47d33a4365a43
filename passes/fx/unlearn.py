"""Make an exported classifier forget a class, in closed form."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects.aten import lift
from modhifi_graph.forget.forgetting import Forgotten, How, forget_class
from modhifi_graph.interface import Feeds


class Unlearn(PassBase):
    """Edit the weights of a functional module, in place; parameters as for :class:`modhifi_graph.passes.unlearn.Unlearn`."""

    done: Forgotten

    def __init__(self, forget: Sequence[Feeds], remain: Sequence[Feeds] = (), how: How | None = None) -> None:
        self._forget, self._remain, self._how = forget, remain, how or How()

    def call(self, graph_module: fx.GraphModule) -> PassResult:
        program = lift(graph_module)
        groups = find_groups(couple(program.graph))
        self.done = forget_class(program, groups, self._forget, self._remain, self._how)
        return PassResult(graph_module, modified=True)
