"""What a run was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from modhifi_graph.errors import InputError
from modhifi_graph.inputs.image_folders import Preprocess
from modhifi_graph.options.option import either
from modhifi_graph.options.table import AIMS, BUDGETS, GOALS, MODE, OPTIONS, PAPER
from modhifi_graph.plan import Plan
from modhifi_graph.repair import methods
from modhifi_graph.scoring import criteria
from modhifi_graph.select.budget import Budget, Limits
from modhifi_graph.select.goal import Goal

ONE_OF = f"give exactly one of {either([option.name for option in AIMS], 'and')}"

LATER = ("samples", "threads")
"""Checked where they are used, as there messages can name the file."""


@dataclass(frozen=True)
class Options:
    """The parameters of :func:`modhifi_graph.optimize` by their names; checked when made."""

    budget: Budget | None = None
    plan: Plan | None = None
    goal: Goal | None = None
    criterion: str = "obs"
    compensation: str = "joint"
    mode: str = "default"
    percentile: float = 0.1
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
        MODE.check(self.mode)
        if self.mode == "paper":
            self._check_paper()
        elif self.rounds is not None:
            raise InputError("rounds are the paper's: give mode paper with them")
        elif sum(given is not None for given in (self.budget, self.plan, self.goal)) != 1:
            raise InputError(ONE_OF)
        self._check_each()
        self._check_depth()

    def _check_each(self) -> None:
        """Every option by itself, as the table has it."""
        counted = {} if self.budget is None else {self.budget.kind: self.budget.fraction}
        values = {**vars(self), **vars(self.limits), **counted}
        for option in OPTIONS:
            if option.name in LATER or (option in PAPER and self.mode != "paper"):
                continue
            option.check(values.get(option.name))

    def _check_paper(self) -> None:
        if self.plan is not None or (self.budget is not None and self.budget.kind == "keep"):
            raise InputError("mode paper finds out itself how much of each group stays: give macs, params or rounds")
        if self.budget is not None and self.rounds is not None:
            raise InputError("mode paper goes on until a budget is met: give macs or params, or rounds, not both")
        if self.goal is not None:
            raise InputError("mode paper does not look at latency: give macs, params or rounds")
        if self.criterion not in criteria.READINGS:
            raise InputError(f"criterion {self.criterion!r} is none of mode paper's: {', '.join(criteria.READINGS)}")
        if self.compensation not in ("none", *methods.LOCAL):
            raise InputError(
                f"compensation {self.compensation!r} is none of mode paper's: none, {', '.join(methods.LOCAL)}"
            )

    def _check_depth(self) -> None:
        branches = self.depth or (self.plan is not None and self.plan.branches)
        if branches and self.compensation in methods.LOCAL:
            raise InputError(
                f"compensation {self.compensation!r} repairs only what lost inputs, not what reads a stream without a branch; "
                "choose joint, sequential or none"
            )
        if self.depth and self.prices == "local":
            raise InputError("what a branch is worth is measured on the outputs: give depth or prices local, not both")
        if self.depth and self.budget is not None and self.budget.kind == "keep":
            raise InputError("depth competes for multiply-accumulates or parameters: give macs or params, not keep")

    @property
    def deep(self) -> bool:
        """Whether branches may go: where nobody said so, if time is what counts and it is known what they are worth."""
        if self.depth is not None:
            return self.depth
        measured = self.criterion not in criteria.UNOBSERVED and self.prices == "output"
        return self.goal is not None and measured and self.compensation not in methods.LOCAL

    @property
    def needs_data(self) -> bool:
        scored = self.plan is None and (self.deep or self.criterion not in criteria.UNOBSERVED)
        return scored or self.compensation != "none" or self.reestimate_batchnorm

    @property
    def needs_analysis(self) -> bool:
        return self.plan is None or self.compensation in methods.LOCAL

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


def made(**given: Any) -> Options:
    """Options from the parameters of :func:`modhifi_graph.optimize`, with the defaults of the table and those of the mode."""
    asked = {**{option.name: option.default for option in OPTIONS}, **given}
    for option in OPTIONS:
        if option.of_mode and asked[option.name] in (None, ""):
            asked[option.name] = option.of_mode.get(asked["mode"])
    budget = asked.pop("budget")
    goals = [Goal(option.name, value) for option in GOALS if (value := asked.pop(option.name)) is not None]
    goals += [budget] if isinstance(budget, Goal) else []
    counts = {option.name: asked.pop(option.name) for option in BUDGETS}
    counted = budget_of(None if isinstance(budget, Goal) else budget, **counts)
    if len(goals) + (counted is not None) > 1:
        raise InputError(ONE_OF)
    limits = Limits(tuple(asked.pop("only")), tuple(asked.pop("skip")), asked.pop("align"), asked.pop("min_keep"))
    return Options(budget=counted, goal=goals[0] if goals else None, limits=limits, **asked)


def budget_of(budget: Budget | None = None, **fractions: float | None) -> Budget | None:
    """The one budget among these, or None; InputError where there are several. ``fractions`` are by kind."""
    given = [Budget(kind, fraction) for kind, fraction in fractions.items() if fraction is not None]
    given += [budget] if budget is not None else []
    if len(given) > 1:
        raise InputError(ONE_OF)
    return given[0] if given else None
