"""What a run was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from modhifi_graph.errors import InputError
from modhifi_graph.inputs.images import Preprocess
from modhifi_graph.plan import Plan
from modhifi_graph.repair import local
from modhifi_graph.repair.compensation import METHODS
from modhifi_graph.scoring import hifi
from modhifi_graph.scoring.analysis import PRICES
from modhifi_graph.scoring.scores import CRITERIA
from modhifi_graph.select.budget import Budget, Limits
from modhifi_graph.select.goal import Goal

DEFAULTS = {"default": ("obs", "joint"), "paper": ("fidelity", "scalar")}
"""The criterion and the compensation of each mode."""

ONE_OF = "give exactly one of macs, params, keep, speedup, latency, fidelity and plan"

PERCENTILE = 0.1
"""The paper removes between 0.01 and 0.2 in a round."""


@dataclass(frozen=True)
class Options:
    """The parameters of :func:`modhifi_graph.optimize` by their names; checked when made."""

    budget: Budget | None = None
    plan: Plan | None = None
    goal: Goal | None = None
    criterion: str = "obs"
    compensation: str = "joint"
    mode: str = "default"
    percentile: float = PERCENTILE
    rounds: int | None = None
    hifi_sets: str = "layer"
    reestimate_batchnorm: bool = False
    samples: int | None = None
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    fold_batchnorm: bool = True
    preprocess: Preprocess | None = None
    threads: int = 0
    bench_seconds: float = 2.0
    batch: int = 1
    device: str | None = None
    depth: bool | None = None
    mirror: bool | None = None
    prices: str = "output"
    backend: str = "onnxruntime"
    details: bool = False

    def __post_init__(self) -> None:
        if self.mode not in DEFAULTS:
            raise InputError(f"mode {self.mode!r} is unknown; choose one of {', '.join(DEFAULTS)}")
        if self.mode == "paper":
            self._check_paper()
        elif self.rounds is not None:
            raise InputError("rounds are the paper's: give mode paper with them")
        elif sum(given is not None for given in (self.budget, self.plan, self.goal)) != 1:
            raise InputError(ONE_OF)
        if self.budget is not None and not 0 < self.budget.fraction <= 1:
            raise InputError(
                f"{self.budget.kind} is {self.budget.fraction:g}; expected a fraction above 0 and at most 1"
            )
        if self.mode == "paper" and self.goal is not None:
            raise InputError("mode paper does not look at latency: give macs, params or rounds")
        if self.criterion not in CRITERIA:
            raise InputError(f"criterion {self.criterion!r} is unknown; choose one of {', '.join(CRITERIA)}")
        if self.compensation not in METHODS:
            raise InputError(f"compensation {self.compensation!r} is unknown; choose one of {', '.join(METHODS)}")
        branches = self.depth or (self.plan is not None and self.plan.branches)
        if branches and self.compensation in local.METHODS:
            raise InputError(
                f"compensation {self.compensation!r} repairs only what lost inputs, not what reads a stream without a branch; "
                "choose joint, sequential or none"
            )
        if self.prices not in PRICES:
            raise InputError(f"prices {self.prices!r} is unknown; choose one of {', '.join(PRICES)}")
        if self.depth and self.prices == "local":
            raise InputError("what a branch is worth is measured on the outputs: give depth or prices local, not both")
        if self.depth and self.budget is not None and self.budget.kind == "keep":
            raise InputError("depth competes for multiply-accumulates or parameters: give macs or params, not keep")

    def _check_paper(self) -> None:
        if self.plan is not None or (self.budget is not None and self.budget.kind == "keep"):
            raise InputError("mode paper finds out itself how much of each group stays: give macs, params or rounds")
        if self.budget is not None and self.rounds is not None:
            raise InputError("mode paper goes on until a budget is met: give macs or params, or rounds, not both")
        if self.rounds is not None and self.rounds < 1:
            raise InputError(f"rounds is {self.rounds}; expected at least 1")
        if not 0 < self.percentile < 1:
            raise InputError(f"percentile is {self.percentile:g}; expected a fraction between 0 and 1")
        if self.hifi_sets not in hifi.SETS:
            raise InputError(f"hifi_sets {self.hifi_sets!r} is unknown; choose one of {', '.join(hifi.SETS)}")
        if self.criterion not in hifi.CRITERIA:
            raise InputError(f"criterion {self.criterion!r} is none of mode paper's: {', '.join(hifi.CRITERIA)}")
        if self.compensation not in ("none", *local.METHODS):
            raise InputError(
                f"compensation {self.compensation!r} is none of mode paper's: none, {', '.join(local.METHODS)}"
            )

    @property
    def deep(self) -> bool:
        """Whether branches may go: where nobody said so, if time is what counts and it is known what they are worth."""
        if self.depth is not None:
            return self.depth
        measured = self.criterion not in ("magnitude", "random") and self.prices == "output"
        return self.goal is not None and measured and self.compensation not in local.METHODS

    @property
    def needs_data(self) -> bool:
        scored = self.plan is None and (self.deep or self.criterion not in ("magnitude", "random"))
        return scored or self.compensation != "none" or self.reestimate_batchnorm

    @property
    def needs_analysis(self) -> bool:
        return self.plan is None or self.compensation in ("bias", "scalar", "lstsq")

    def settings(self, samples: int) -> dict[str, Any]:
        """What a plan says about how it was made."""
        paper = {
            "mode": self.mode,
            "percentile": self.percentile,
            "rounds": self.rounds,
            "hifi_sets": self.hifi_sets,
        }
        return {
            **({} if self.budget is None else {self.budget.kind: self.budget.fraction}),
            **({} if self.goal is None else {self.goal.kind: self.goal.value, "backend": self.backend}),
            **(paper if self.mode == "paper" else {}),
            "criterion": self.criterion,
            "compensation": self.compensation,
            "seed": self.seed,
            "samples": samples,
            "fold_batchnorm": self.fold_batchnorm,
            **({"reestimate_batchnorm": True} if self.reestimate_batchnorm else {}),
            **({"depth": True} if self.deep else {}),
            **({"prices": self.prices} if self.prices != "output" else {}),
        }


def made(
    *,
    budget: Budget | Goal | None = None,
    macs: float | None = None,
    params: float | None = None,
    keep: float | None = None,
    speedup: float | None = None,
    latency: float | None = None,
    fidelity: float | None = None,
    mode: str = "default",
    criterion: str | None = None,
    compensation: str | None = None,
    reestimate_batchnorm: bool | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    align: int | None = None,
    min_keep: int = 1,
    **others: Any,
) -> Options:
    """Options from the parameters of :func:`modhifi_graph.optimize`, with the defaults of the mode."""
    default_criterion, default_compensation = DEFAULTS.get(mode, ("", ""))
    aims = {"speedup": speedup, "latency": latency, "fidelity": fidelity}
    goals = [Goal(kind, value) for kind, value in aims.items() if value is not None]
    goals += [budget] if isinstance(budget, Goal) else []
    counted = budget_of(macs, params, keep, None if isinstance(budget, Goal) else budget)
    if len(goals) + (counted is not None) > 1:
        raise InputError(ONE_OF)
    return Options(
        budget=counted,
        goal=goals[0] if goals else None,
        mode=mode,
        criterion=criterion or default_criterion,
        compensation=compensation or default_compensation,
        reestimate_batchnorm=mode == "paper" if reestimate_batchnorm is None else reestimate_batchnorm,
        limits=Limits(tuple(only), tuple(skip), 1 if align is None and mode == "paper" else align, min_keep),
        **others,
    )


def budget_of(macs: float | None, params: float | None, keep: float | None, budget: Budget | None) -> Budget | None:
    """The one budget among these, or None; InputError where there are several."""
    given = [Budget(k, v) for k, v in {"macs": macs, "params": params, "keep": keep}.items() if v is not None]
    given += [budget] if budget is not None else []
    if len(given) > 1:
        raise InputError(ONE_OF)
    return given[0] if given else None
