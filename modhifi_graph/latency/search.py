"""Closed loop: select by predicted latency, compile, time against the original in turns, correct, until the goal is met."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir

from modhifi_graph.accounting import Cost
from modhifi_graph.axes.groups import Groups
from modhifi_graph.dialects.onnx import Lifted
from modhifi_graph.exporters.backend import Engine, backend
from modhifi_graph.fidelity.analysis import Analysis
from modhifi_graph.fidelity.selection import Budget, Limits, plan_of, select_all
from modhifi_graph.latency.goal import Goal
from modhifi_graph.latency.model import at_widths, measured
from modhifi_graph.latency.steps import best_step
from modhifi_graph.latency.timer import Pieces, Timer
from modhifi_graph.plan import Plan
from modhifi_graph.progress import Progress, silent
from modhifi_graph.timing import compare

ATTEMPTS = 8
AIM = 1.02
"""A little beyond what was asked for: what is met by a hair is not met the next time it is timed."""

NEAR = (1.005, 1.035)
"""Within these bounds, relative to what was asked for, the loop ends."""

MET, BEYOND = 0.99, 1.06
"""From the first on what was asked for is reached, as well as it can be told; up to the other no finer step is tried."""

TIGHT = 0.85
"""A fidelity is kept closely enough where so much of the error that it allows is made use of."""

CLOSE = 1.03
"""Two speed-ups no further apart than this are one, where the fastest is looked for."""

BUILDS, SECONDS, RUNS = 3, 0.6, 10
"""Each attempt is compiled and timed so often, for so long and so many runs at least: where a compiler puts things in memory
differs from time to time, and so do their times."""


@dataclass(frozen=True)
class Attempt:
    """One plan.

    Attributes
    ----------
    fraction : of the dense time, as predicted, in (0, 1].
    speedup, interval : median of the dense engine over the slim one's, and its 95 % confidence interval.
    milliseconds : median of the slim engine.
    fidelity : of the outputs after repair; None where a plan was only timed.
    step : of which multiples the widths are.
    """

    fraction: float
    speedup: float
    interval: tuple[float, float]
    milliseconds: float
    fidelity: float | None = None
    step: int = 1


@dataclass(frozen=True, eq=False)
class Search:
    """What the loop has come to: the plan, every attempt in order, and which of them the plan is of, if any."""

    plan: Plan
    attempts: tuple[Attempt, ...]
    met: bool
    chosen: int | None

    @classmethod
    def of(cls, found: Sequence[tuple[Attempt, Plan]], taken: tuple[Attempt, Plan], *, met: bool) -> Search:
        """One of several attempts."""
        number = next(number for number, (attempt, _) in enumerate(found) if attempt is taken[0])
        return cls(taken[1], tuple(attempt for attempt, _ in found), met, number)

    def to_json(self) -> dict[str, object]:
        tried = [{**asdict(attempt), "chosen": number == self.chosen} for number, attempt in enumerate(self.attempts)]
        return {"met": self.met, "attempts": tried}


class Race:
    """The dense engine, and the slim ones that run against it.

    Widths are multiples of the step that the hardware has, as measured; where the goal lies between two such plans, of half of
    it.

    Parameters
    ----------
    original : what slim engines are timed against: the dense model as it was handed in.
    slimmed : makes the slim model of a plan; it need not be repaired, which changes no shape.
    feeds : one batch, as it is timed.
    name : of the backend.
    """

    def __init__(
        self,
        dense: Lifted,
        original: onnx.ModelProto,
        slimmed: Callable[[Plan], Lifted],
        groups: Groups,
        analysis: Analysis,
        feeds: Mapping[str, np.ndarray],
        limits: Limits,
        settings: Mapping[str, object],
        *,
        name: str = "onnxruntime",
        threads: int = 0,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        timer, cost = Timer(name, threads=threads), Cost(groups)
        self.step = limits.align or best_step(
            groups.groups,
            lambda counts: sum(Pieces(at_widths(dense, groups, counts), feeds).times(timer).values()),
            cost.macs,
        )
        self._limits = limits
        whole = timer.beside(ir.to_proto(dense.model), feeds)
        self._model = measured(dense, groups, feeds, timer, whole, self.step, seed=seed, progress=progress)
        self._backend, self._threads = backend(name), threads
        self._original, self._slimmed, self._analysis, self._settings = original, slimmed, analysis, settings
        self._feeds, self._seed, self._progress = feeds, seed, progress

    def reach(self, goal: Goal) -> Search:
        """The plan that loses least fidelity for the milliseconds it saves, and reaches a speed-up or a latency."""
        wanted = 1 / goal.value if goal.kind == "speedup" else goal.value / self._model.total()[0]
        fraction, step, found = min(1.0, wanted), self.step, list[tuple[Attempt, Plan]]()
        while len(found) < ATTEMPTS:
            plan = self.plan(fraction, step)
            if any(plan.groups == tried.groups for _, tried in found):  # as near as this step comes
                near_enough = MET <= share(_best(found, goal)[0], goal) <= BEYOND
                if near_enough or step == 1 or self._limits.align is not None:
                    break
                step //= 2
                continue
            found.append((self.timed(plan, fraction, step), plan))
            self._progress("search", len(found), ATTEMPTS)
            reached = share(found[-1][0], goal)
            if NEAR[0] <= reached <= NEAR[1] or (reached > 1 and fraction == 1):
                break
            if reached < 1 and self._spent(plan, step):
                break
            fraction = min(1.0, _next([(a.fraction, share(a, goal)) for a, _ in found]))
        self._progress("search", ATTEMPTS, ATTEMPTS)
        taken = _best(found, goal)
        return Search.of(found, taken, met=share(taken[0], goal) >= MET)

    def fastest(self, least: float, fidelity: Callable[[Plan], float]) -> Search:
        """The plan with the fastest engine whose repaired outputs keep a fidelity.

        ``fidelity`` repairs and measures, which takes long. Errors grow about as a power of the logarithm of the predicted
        speed-up: between two attempts they are interpolated so, beyond them with the power 2.
        """
        allowed, log_speed = 1 - least, math.log(1.5)
        found: list[tuple[Attempt, Plan]] = []
        for number in range(ATTEMPTS):
            fraction = math.exp(-log_speed)
            plan = self.plan(fraction, self.step)
            kept = fidelity(plan)
            found.append((replace(self.timed(plan, fraction, self.step), fidelity=kept), plan))
            self._progress("search", number + 1, ATTEMPTS)
            if TIGHT * allowed <= 1 - kept <= allowed or (1 - kept < allowed and self._spent(plan, self.step)):
                break
            errors = [(-math.log(a.fraction), 1 - a.fidelity) for a, _ in found if a.fidelity is not None]
            log_speed = _next_speed(errors, allowed)
            if log_speed <= 0:
                break
        self._progress("search", ATTEMPTS, ATTEMPTS)
        kept_enough = [(a, p) for a, p in found if a.fidelity is not None and a.fidelity >= least]
        if not kept_enough:
            return Search(self.plan(1.0, self.step), tuple(a for a, _ in found), met=True, chosen=None)
        return Search.of(found, max(kept_enough, key=lambda pair: pair[0].speedup), met=True)

    def plan(self, fraction: float, step: int) -> Plan:
        """What goes, in multiples of ``step``, for the engine to take this fraction of the dense time, as predicted."""
        budget, analysis, limits = Budget("latency", fraction), self._analysis, replace(self._limits, align=step)
        removed, branches = select_all(analysis.rankings, analysis.branches, self._model, budget, limits)
        return plan_of(analysis.rankings, removed, self._settings, branches)

    def timed(self, plan: Plan, fraction: float, step: int) -> Attempt:
        """A plan's engine against the dense one: of several builds the one whose ratio is in the middle."""
        slim = ir.to_proto(self._slimmed(plan).model)
        builds = [
            _timed(self._build(self._original), self._build(slim), self._feeds, fraction, self._seed)
            for _ in range(BUILDS)
        ]
        return replace(sorted(builds, key=lambda attempt: attempt.speedup)[BUILDS // 2], step=step)

    def _build(self, model: onnx.ModelProto) -> Engine:
        return self._backend.build(model, threads=self._threads, device=self._backend.DEVICE)

    def _spent(self, plan: Plan, step: int) -> bool:
        """Whether a plan removes all that it may."""
        limits = replace(self._limits, align=step)
        left = {entry.name: len(entry.keep) for entry in plan.groups}
        ranked = [r.group for r in self._analysis.rankings if limits.allows(r.group)]
        return all(left.get(group.name, group.size) <= limits.fewest(group) for group in ranked)


def share(attempt: Attempt, goal: Goal) -> float:
    """How much of a speed-up or a latency an attempt reaches: 1 and more is all of it."""
    return attempt.speedup / goal.value if goal.kind == "speedup" else goal.value / attempt.milliseconds


def best_share(attempts: Iterable[Attempt], goal: Goal) -> float:
    """The most that any attempt came to, in the goal's own unit."""
    found = list(attempts)
    return max(a.speedup for a in found) if goal.kind == "speedup" else min(a.milliseconds for a in found)


def _timed(before: Engine, after: Engine, feeds: Mapping[str, np.ndarray], fraction: float, seed: int) -> Attempt:
    result = compare(lambda: before.run(feeds), lambda: after.run(feeds), seconds=SECONDS, min_runs=RUNS, seed=seed)
    assert result.b is not None
    assert result.speedup is not None
    assert result.interval is not None
    return Attempt(fraction, result.speedup, result.interval, result.b.median)


def _next(tries: Sequence[tuple[float, float]]) -> float:
    """The fraction to try after some, of which each reached a share: between the nearest ones on both sides of the aim on
    logarithmic scales, or in proportion."""
    less = [pair for pair in tries if pair[1] < AIM]
    more = [pair for pair in tries if pair[1] >= AIM]
    if not less or not more:
        fraction, reached = tries[-1]
        return fraction * reached / AIM
    low, high = max(less, key=lambda pair: pair[1]), min(more, key=lambda pair: pair[1])
    place = math.log(AIM / low[1]) / max(1e-9, math.log(high[1] / low[1]))
    place = min(0.8, max(0.2, place))
    return float(math.exp((1 - place) * math.log(low[0]) + place * math.log(high[0])))


def _next_speed(errors: Sequence[tuple[float, float]], allowed: float) -> float:
    """The logarithm of the predicted speed-up to try after some, each with its error; 0 where there is none to try."""
    kept = max((pair for pair in errors if pair[1] <= allowed), default=None)
    lost = min((pair for pair in errors if pair[1] > allowed), default=None)
    if allowed <= 0 or (kept and lost and lost[0] - kept[0] < math.log(CLOSE)):
        return 0.0
    if kept is None or lost is None:
        speed, error = kept or lost or (0.0, 1.0)
        return speed * min(2.0, max(0.3, 0.95 * math.sqrt(allowed / max(error, 1e-12))))
    power = math.log(lost[1] / max(kept[1], 1e-12)) / math.log(lost[0] / kept[0])
    aimed = kept[0] * math.pow(0.95 * allowed / max(kept[1], 1e-12), 1 / max(power, 1e-9))
    width = lost[0] - kept[0]
    return min(lost[0] - 0.1 * width, max(kept[0] + 0.1 * width, aimed))


def _best(found: Sequence[tuple[Attempt, Plan]], goal: Goal) -> tuple[Attempt, Plan]:
    """The one nearest to the aim that is fast enough, or else the fastest."""
    enough = [pair for pair in found if share(pair[0], goal) >= MET]
    if enough:
        return min(enough, key=lambda pair: abs(math.log(share(pair[0], goal) / AIM)))
    return max(found, key=lambda pair: share(pair[0], goal))
