"""Repair a slim model in closed form, from calibration inputs alone."""

from __future__ import annotations

from typing import Unpack

import onnx_ir as ir

from modhifi_graph.axes.groups import Groups
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.plan import Plan
from modhifi_graph.repair import compensation, methods

METHODS = methods.METHODS


class Compensate(ir.passes.InPlacePass):
    """Refit what ``Slim(plan)`` left, so that it computes what the dense model does as nearly as least squares can.

    Parameters
    ----------
    dense : the normalised model that was slimmed.
    groups : its groups.
    plan : what stayed.
    method : one of :data:`METHODS`.
    given : as :func:`modhifi_graph.repair.compensation.compensate` takes it by name.
    """

    def __init__(
        self, dense: ir.Model, groups: Groups, plan: Plan, method: str = "joint", **given: Unpack[compensation.Given]
    ) -> None:
        super().__init__()
        self._dense, self._groups, self._plan, self._method, self._given = dense, groups, plan, method, given

    def requires(self, model: ir.Model) -> None:
        if self._method not in METHODS:
            raise ir.passes.PreconditionError(f"compensation {self._method!r} is none of {', '.join(METHODS)}")
        if self._method in methods.SEQUENTIAL and not self._given.get("batches"):
            raise ir.passes.PreconditionError(f"{self._method} compensation needs calibration inputs")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        self._shapes = _shapes(model)
        changed = compensation.compensate(
            lift(self._dense), self._groups, lift(model), self._plan, self._method, **self._given
        )
        return ir.passes.PassResult(model, modified=changed > 0)

    def ensures(self, model: ir.Model) -> None:
        after = _shapes(model)
        if any(after[name] != shape for name, shape in self._shapes.items() if name in after):
            raise ir.passes.PostconditionError("compensation changed the shape of a weight")


def _shapes(model: ir.Model) -> dict[str, tuple[int, ...]]:
    return {name: tuple(v.const_value.shape.numpy()) for name, v in model.graph.initializers.items() if v.const_value}
