"""Take the statistics of an exported module's batch norms anew from calibration inputs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from modhifi_graph.dialects.aten import lift
from modhifi_graph.interface import Feeds
from modhifi_graph.repair.batchnorm import reestimate


class ReestimateBatchNorm(PassBase):
    """Give every batch norm of a functional module the mean and variance of what it reads on ``batches``, in place."""

    def __init__(self, batches: Sequence[Feeds]) -> None:
        self._batches = batches

    def call(self, graph_module: fx.GraphModule) -> PassResult:
        return PassResult(graph_module, modified=reestimate(lift(graph_module), self._batches) > 0)
