"""The main job, stage by stage: load, couple, observe, score, plan, slim, verify, compensate, check, time.

Data flows one way: each stage is a function of the ones before it; this module only calls them in order and keeps the books.
What depends on the kind of model is its front end's. What comes before a plan is done once, whatever number of plans follows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from modhifi_graph.axes.branches import find_branches
from modhifi_graph.axes.cost import Cost
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects.program import Program
from modhifi_graph.frontends.frontend import Finished, FrontEnd, Optimized
from modhifi_graph.inputs.mirror_images import with_mirrors
from modhifi_graph.jobs.calibrate import calibrated
from modhifi_graph.jobs.rounds import Pruned, prune, replay
from modhifi_graph.latency.search import Race, Search
from modhifi_graph.options.request import Options
from modhifi_graph.plan import Plan
from modhifi_graph.progress import Progress, silent
from modhifi_graph.prove.verification import Verification
from modhifi_graph.repair.batchnorm import reestimate
from modhifi_graph.repair.compensation import compensate
from modhifi_graph.report.figures import output_fidelity, sizes, warnings
from modhifi_graph.scoring.analysis import Analysis, analyse, unobserved
from modhifi_graph.select.allocation import plan_of, select_all
from modhifi_graph.select.attempts import best_share
from modhifi_graph.select.budget import Budget
from modhifi_graph.select.goal import Goal


def run(front_end: Callable[[], FrontEnd], calib: Any, options: Options, progress: Progress | None = None) -> Optimized:
    """The whole job on the model that ``front_end`` opens; gives what its front end hands back."""
    return Job(front_end, calib, options, progress).run()


@dataclass(frozen=True, eq=False)
class Repaired:
    """A plan carried out: the slim program, the finished model, the proof of both, and the fidelity of its outputs."""

    plan: Plan
    slim: Program
    finished: Finished
    verified: Verification
    fidelity: float | None
    seconds: dict[str, float]


class Job:
    """A model that is opened, coupled and scored, and the slim models that are made of it."""

    def __init__(
        self, front_end: Callable[[], FrontEnd], calib: Any, options: Options, progress: Progress | None = None
    ) -> None:
        self.options = options
        self._say: Progress = progress or silent
        self._clock = clock = Clock()
        with clock("load"):
            self._front = front_end()
        with clock("inputs"):
            self._data = calibrated(self._front, calib, options, self._say)
            if self._data is not None and options.mode == "default":
                self._data = with_mirrors(self._data, self._front.program.graph, options.mirror)
            self._batches = list(self._data.feeds) if self._data is not None else []
        with clock("couple"):
            self._groups = find_groups(couple(self._front.program.graph))
            self._cost = Cost(self._groups)
        with clock("score"):
            self._pruned = self._rounds()
            self._analysis = self._pruned.analysis if self._pruned else self._scored()

    def run(self) -> Optimized:
        """The one slim model that the options ask for."""
        if self.options.goal is not None:
            return self.reach(self.options.goal)
        with self._clock("plan"):
            plan = self._pruned.plan if self._pruned else self.options.plan
            if plan is None:
                assert self.options.budget is not None
                plan = self.selected(self.options.budget)
        return self.hand_back(self.repaired(plan))

    def reach(self, goal: Goal) -> Optimized:
        """The slim model that reaches a goal, or comes nearest to it."""
        return self.hand_back(*self.searched(self.race(), goal), goal)

    def searched(self, race: Race, goal: Goal) -> tuple[Repaired, Search]:
        """The plan for a goal, carried out, and how it was found."""
        made: list[Repaired] = []

        def fidelity(plan: Plan) -> float:
            made.append(self.repaired(plan))
            return made[-1].fidelity or 0.0

        with self._clock("plan"):
            judge = fidelity if self._data is not None else None
            found = race.fastest(goal.value, fidelity) if goal.kind == "fidelity" else race.reach(goal, judge)
        known = [repaired for repaired in made if repaired.plan is found.plan]
        return known[0] if known else self.repaired(found.plan), found

    def front(self, goals: Sequence[Goal]) -> list[Optimized]:
        """One slim model for each goal; the latency model is made once."""
        race = self.race()
        return [self.hand_back(*self.searched(race, goal), goal) for goal in goals]

    def selected(self, budget: Budget, *, deep: bool = True) -> Plan:
        """The plan that meets a budget, of branches too where they have prices, unless they are to stay."""
        assert self._analysis is not None
        rankings, branches = self._analysis.rankings, self._analysis.branches if deep else {}
        removed, gone = select_all(rankings, branches, self._cost, budget, self.options.limits)
        samples = self._data.samples if self._data is not None else 0
        return plan_of(rankings, removed, self.options.settings(samples), gone)

    def race(self, backend: str | None = None) -> Race:
        """What plans for a goal are found in, on another backend than that of the options where one is given."""
        assert self._analysis is not None
        options = self.options if backend is None else replace(self.options, backend=backend)
        with self._clock("latency"):
            return self._front.race(self._groups, self._analysis, self._batches, options, self._say)

    def slim(self, plan: Plan) -> Program:
        """The slim model of a plan as it is before repair."""
        return self._front.slimmed(plan)

    def repaired(self, plan: Plan) -> Repaired:
        """Carry out a plan: slim, verify, compensate, check."""
        options, clock = self.options, Clock()
        with clock("slim"):
            slim = self.slim(plan)
        with clock("verify"):
            verified = self._front.verified(slim, plan, self._batches, options)
        with clock("compensate"):
            if self._pruned:
                replay(self._front, self._groups, slim, plan, self._pruned.repairs, self._batches, options)
            else:
                compensate(
                    self._front.program,
                    self._groups,
                    slim,
                    plan,
                    options.compensation,
                    batches=self._batches,
                    moments=self._analysis.moments if self._analysis is not None else None,
                    seed=options.seed,
                    threads=options.threads,
                    progress=lambda done, total: self._say("compensate", done, total),
                )
            if options.reestimate_batchnorm:
                reestimate(slim, self._batches, threads=options.threads)
        with clock("check"):
            finished = self._front.finish(slim)
            fidelity = output_fidelity(partial(finished.answers, threads=options.threads), self._batches)
        return Repaired(plan, slim, finished, verified, fidelity, clock.seconds)

    def hand_back(self, made: Repaired, searched: Search | None = None, goal: Goal | None = None) -> Optimized:
        """Time a finished model and report on it."""
        options, clock, data = self.options, Clock(), self._data
        with clock("time"):
            timed = made.finished.latency(self._batches, options) if options.bench_seconds > 0 else {}
        layers = None
        if options.details and options.bench_seconds > 0:
            with clock("layers"):
                layers = self._front.layers(made.slim, self._batches, options)
        report = {
            **sizes(self._groups, made.plan, self._cost, self._analysis, details=options.details),
            "bytes": dict(zip(("before", "after"), made.finished.sizes, strict=True)),
            **({"rounds": self._pruned.rounds} if self._pruned else {}),
            **({"search": searched.to_json()} if searched else {}),
            **timed,
            **({"layers": layers} if layers is not None else {}),
            "fidelity": made.fidelity,
            "calibration": data.to_json() if data is not None else None,
            "warnings": [
                *([data.warning] if data is not None and data.warning else []),
                *warnings(self._groups, made.plan, options.budget, self._cost, self._analysis),
                *(_out_of_reach(searched, goal, options.backend) if searched and goal else []),
            ],
            "verify": made.verified.to_json(),
            "seconds": {**self._clock.seconds, **made.seconds, **clock.seconds},
            "plan": made.plan.to_json(),
        }
        accuracy = made.finished.accuracy(options.threads)
        return made.finished.hand_back(made.plan, report if accuracy is None else {**report, "accuracy": accuracy})

    def _rounds(self) -> Pruned | None:
        """What the rounds of mode "paper" come to; None in any other."""
        if self.options.mode != "paper" or not self._data:
            return None
        return prune(self._front, self._groups, self._cost, self._data, self.options, self._say)

    def _scored(self) -> Analysis | None:
        options, groups = self.options, self._groups
        if not options.needs_analysis:
            return None
        if self._data is None:
            return unobserved(groups, options.criterion, options.limits.allows, options.seed)
        branches = [b for b in find_branches(groups).found if options.limits.allows_branch(b)] if options.deep else []
        return analyse(
            self._front.program,
            groups,
            self._data.feeds,
            criterion=options.criterion,
            wanted=options.limits.allows,
            branches=branches,
            prices=options.prices,
            seed=options.seed,
            threads=options.threads,
            progress=self._say,
        )


class Clock:
    """Seconds spent in each stage, in the order in which they ran."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)


def _out_of_reach(searched: Search, goal: Goal, backend: str) -> list[str]:
    if searched.met:
        return []
    best = best_share(searched.attempts, goal)
    if goal.kind == "speedup":
        return [f"the speed-up {goal.value:g} was out of reach on {backend}; {best:.3f} is the best found"]
    return [f"a latency of {goal.value:g} ms was out of reach on {backend}; {best:.3f} ms is the best found"]
