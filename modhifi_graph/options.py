"""What a run was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from modhifi_graph.errors import InputError
from modhifi_graph.fidelity.compensation import METHODS
from modhifi_graph.fidelity.scores import CRITERIA
from modhifi_graph.fidelity.selection import Budget, Limits
from modhifi_graph.images import Preprocess
from modhifi_graph.plan import Plan


@dataclass(frozen=True)
class Options:
    """The parameters of :func:`modhifi_graph.optimize` by their names; checked when made."""

    budget: Budget | None
    plan: Plan | None
    criterion: str = "obs"
    compensation: str = "joint"
    samples: int | None = None
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    fold_batchnorm: bool = True
    preprocess: Preprocess | None = None
    threads: int = 0
    bench_seconds: float = 2.0
    batch: int = 1
    device: str | None = None

    def __post_init__(self) -> None:
        if (self.budget is None) == (self.plan is None):
            raise InputError("give exactly one of macs, params, keep and plan")
        if self.budget is not None and not 0 < self.budget.fraction <= 1:
            raise InputError(
                f"{self.budget.kind} is {self.budget.fraction:g}; expected a fraction above 0 and at most 1"
            )
        if self.criterion not in CRITERIA:
            raise InputError(f"criterion {self.criterion!r} is unknown; choose one of {', '.join(CRITERIA)}")
        if self.compensation not in METHODS:
            raise InputError(f"compensation {self.compensation!r} is unknown; choose one of {', '.join(METHODS)}")

    @property
    def needs_data(self) -> bool:
        return self.compensation != "none" or (self.plan is None and self.criterion not in ("magnitude", "random"))

    @property
    def needs_analysis(self) -> bool:
        return self.plan is None or self.compensation in ("bias", "scalar", "lstsq")

    def settings(self, samples: int) -> dict[str, Any]:
        """What a plan says about how it was made."""
        assert self.budget is not None
        return {
            self.budget.kind: self.budget.fraction,
            "criterion": self.criterion,
            "compensation": self.compensation,
            "seed": self.seed,
            "samples": samples,
            "fold_batchnorm": self.fold_batchnorm,
        }


def budget_of(macs: float | None, params: float | None, keep: float | None, budget: Budget | None) -> Budget | None:
    """The one budget among these, or None; InputError where there are several."""
    given = [Budget(k, v) for k, v in {"macs": macs, "params": params, "keep": keep}.items() if v is not None]
    given += [budget] if budget is not None else []
    if len(given) > 1:
        raise InputError("give exactly one of macs, params, keep and plan")
    return given[0] if given else None
