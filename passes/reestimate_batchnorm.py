"""Take the statistics of batch norms anew from calibration inputs: what a pruned network's layers now give out."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from modhifi_graph.dialects.onnx import interface, lift
from modhifi_graph.interface import Feeds
from modhifi_graph.repair.batchnorm import reestimate


class ReestimateBatchNorm(ir.passes.InPlacePass):
    """Give every inference-mode ``BatchNormalization`` the mean and variance of what it reads on ``batches``."""

    def __init__(self, batches: Sequence[Feeds], *, threads: int = 0) -> None:
        super().__init__()
        self._batches, self._threads = batches, threads

    def requires(self, model: ir.Model) -> None:
        if not self._batches:
            raise ir.passes.PreconditionError("re-estimating batch norms needs calibration inputs")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        self._interface = interface(model)
        count = reestimate(lift(model), self._batches, threads=self._threads)
        return ir.passes.PassResult(model, modified=count > 0)

    def ensures(self, model: ir.Model) -> None:
        if interface(model) != self._interface:
            raise ir.passes.PostconditionError("re-estimation changed the graph's inputs or outputs")
