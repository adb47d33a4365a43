"""Make a classifier forget a class, in closed form."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects.onnx import interface, lift
from modhifi_graph.forget.forgetting import Forgotten, How, forget_class
from modhifi_graph.interface import Feeds


class Unlearn(ir.passes.InPlacePass):
    """Edit the weights of a normalised classifier so that it no longer knows a class.

    Parameters
    ----------
    forget : batches of samples of the class.
    remain : batches of samples of all else; see :func:`modhifi_graph.unlearn` for what it costs to leave them out.
    how : the mode and its settings.

    Attributes
    ----------
    done : what the last call did: the class, and the class scores of both sets before and after.
    """

    done: Forgotten

    def __init__(self, forget: Sequence[Feeds], remain: Sequence[Feeds] = (), how: How | None = None) -> None:
        super().__init__()
        self._forget, self._remain, self._how = forget, remain, how or How()

    def requires(self, model: ir.Model) -> None:
        if not self._forget:
            raise ir.passes.PreconditionError("there are no samples to forget")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        self._interface = interface(model)
        program = lift(model)
        groups = find_groups(couple(program.graph))
        self.done = forget_class(program, groups, self._forget, self._remain, self._how)
        return ir.passes.PassResult(model, modified=True)

    def ensures(self, model: ir.Model) -> None:
        if interface(model) != self._interface:
            raise ir.passes.PostconditionError("unlearning changed the graph's inputs or outputs")
