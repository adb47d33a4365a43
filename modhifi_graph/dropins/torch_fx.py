"""The whole job as one pass over a ``torch.fx`` graph module."""

from __future__ import annotations

from typing import Any

from torch import fx
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from modhifi_graph.select.budget import Budget


class ModHiFi(PassBase):
    """Prune a graph module to a budget, repair and verify it.

    Parameters
    ----------
    inputs : example inputs: a tensor, a tuple of arguments, or a dict.
    budget : ``Macs(0.5)``, ``Params(0.5)`` or ``Keep(0.5)``.
    calib : unlabelled inputs; see :func:`modhifi_graph.optimize` for what happens without.
    options : as :func:`modhifi_graph.optimize` takes them.

    Examples
    --------
    >>> PassManager(passes=[ModHiFi(images, Macs(0.5), calib=loader), other])(graph_module)  # doctest: +SKIP
    """

    def __init__(self, inputs: Any, budget: Budget, *, calib: Any = None, **options: Any) -> None:
        self._inputs, self._budget, self._calib = inputs, budget, calib
        self._options = {"bench_seconds": 0.0, **options}

    def call(self, graph_module: fx.GraphModule) -> PassResult:
        # The job is made of passes; it is imported when it runs, so that they can be imported without it.
        from modhifi_graph.jobs.optimize import optimize

        slim = optimize(graph_module, self._inputs, calib=self._calib, budget=self._budget, **self._options)
        return PassResult(slim.model, modified=bool(slim.plan))
