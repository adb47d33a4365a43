"""Closed loop: select by predicted latency, compile, time against the original in turns, correct, until the goal is met."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir

from modhifi_graph.axes.cost import Cost
from modhifi_graph.axes.groups import Groups
from modhifi_graph.dialects.onnx import Lifted
from modhifi_graph.exporters.backend import Engine, backend
from modhifi_graph.latency.builds import BUILDS, Builds
from modhifi_graph.latency.model import at_widths, measured
from modhifi_graph.latency.steps import best_step
from modhifi_graph.latency.timer import Pieces, Timer
from modhifi_graph.latency.turns import Comparison, compare
from modhifi_graph.plan import Plan
from modhifi_graph.progress import Progress, silent
from modhifi_graph.scoring.analysis import Analysis
from modhifi_graph.select.attempts import AIM, MET, NEAR, Attempt, Tried, best, finalists, share
from modhifi_graph.select.budget import Limits
from modhifi_graph.select.goal import Goal
from modhifi_graph.select.ways import Chooser, Way, same

ATTEMPTS, FEWER, MOST = 8, 4, 16
"""How often the first way to choose is corrected, how often each other one, and after how many in all no other is begun."""

WORTH = 1.3
"""Another way is taken up where it is predicted to lose no more than this multiple of the best one: once repaired it may well
lose less."""

NEARLY = 0.97
"""From this share of the goal on a single build tells whether a way is worth more of them."""

FINALISTS = 3
"""So many of the best plans are repaired, to see what they lose."""

TIGHT = 0.85
"""A fidelity is kept closely enough where so much of the error that it allows is made use of."""

CLOSE = 1.03
"""Two speed-ups no further apart than this are one, where the fastest is looked for."""

SECONDS, RUNS = 0.6, 10
"""Each build is timed for so long, and so many runs at least."""


@dataclass(frozen=True, eq=False)
class Search:
    """What the loop has come to: the plan, every attempt in order, and which of them the plan is of, if any."""

    plan: Plan
    attempts: tuple[Attempt, ...]
    met: bool
    chosen: int | None

    @classmethod
    def of(cls, found: Sequence[Tried], taken: Tried, *, met: bool) -> Search:
        """One of several attempts."""
        number = next(number for number, (attempt, _) in enumerate(found) if attempt is taken[0])
        return cls(taken[1], tuple(attempt for attempt, _ in found), met, number)

    def to_json(self) -> dict[str, object]:
        tried = [{**asdict(attempt), "chosen": number == self.chosen} for number, attempt in enumerate(self.attempts)]
        return {"met": self.met, "attempts": tried}


class Race:
    """The dense engine, and the slim ones that run against it.

    First what goes is chosen by predicted milliseconds, in the steps that the hardware has, and corrected until the goal is
    met. Then the other ways (:mod:`modhifi_graph.select.ways`) are brought there, each from where it should be as fast, and
    given up where it loses too much. What comes closest is repaired, and judged by what its outputs keep.

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
        whole = timer.beside(ir.to_proto(dense.model), feeds)
        model = measured(dense, groups, feeds, timer, whole, self.step, seed=seed, progress=progress)
        self._chooser = Chooser(analysis, model, cost, limits, settings)
        self._backend, self._threads = backend(name), threads
        self._original, self._slimmed = original, slimmed
        self._feeds, self._seed, self._progress = feeds, seed, progress
        self._builds = Builds(self._compared)

    def reach(self, goal: Goal, fidelity: Callable[[Plan], float] | None = None) -> Search:
        """The plan that loses least fidelity and reaches a speed-up or a latency.

        ``fidelity`` repairs and measures, which takes long: it judges between the best of several ways. Without it others than
        the first are tried only where that does not get there: nobody could tell which loses less.
        """
        wanted = 1 / goal.value if goal.kind == "speedup" else goal.value / self._chooser.model.total({})[0]
        first, *others = self._chooser.ways(self.step)
        found = list[Tried]()
        self._approach(goal, first, min(1.0, wanted), ATTEMPTS, found)
        for way in others:
            if len(found) < MOST and (fidelity or share(best(found, goal)[0], goal) < MET):
                self._rival(goal, way, found)
        self._progress("search", len(found), len(found))
        taken = best(found, goal) if fidelity is None else _judged(found, goal, fidelity)
        return Search.of(found, taken, met=share(taken[0], goal) >= MET)

    def _rival(self, goal: Goal, way: Way, found: list[Tried]) -> None:
        """Bring another way to the goal, unless it loses too much on the way there."""
        attempt, plan = best(found, goal)
        start = min(1.0, self._chooser.fraction(plan, way) * share(attempt, goal) / AIM)
        met = share(attempt, goal) >= MET
        if not met or self._sounded(goal, way, start, WORTH * attempt.toll(goal), found):
            self._approach(goal, way, start, FEWER, found)

    def _sounded(self, goal: Goal, way: Way, fraction: float, most: float, found: list[Tried]) -> bool:
        """Whether single builds come about as far as the goal and lose no more than ``most``."""
        mine = list[Attempt]()
        while len(mine) < FEWER:
            plan = self._chooser.plan(fraction, way)
            if self._chooser.loss(plan) > most or _known(plan, found):
                return False
            self._try(plan, fraction, way, found, builds=1)
            mine.append(found[-1][0])
            if share(mine[-1], goal) >= NEARLY:
                return mine[-1].toll(goal) <= most
            fraction = _next_fraction(mine, goal)
        return False

    def _approach(self, goal: Goal, way: Way, fraction: float, tries: int, found: list[Tried]) -> None:
        """Correct the fraction that one way is asked for until the goal is met, or it comes no nearer."""
        mine = [attempt for attempt, _ in found if attempt.way == way]
        if mine:
            fraction = _next_fraction(mine, goal)
        for _ in range(tries):
            plan = self._chooser.plan(fraction, way)
            if _known(plan, found, BUILDS):
                return
            self._try(plan, fraction, way, found)
            mine.append(found[-1][0])
            reached = share(mine[-1], goal)
            if NEAR[0] <= reached <= NEAR[1] or (reached > 1 and fraction == 1):
                return
            if reached < 1 and self._chooser.spent(plan, way):
                return
            fraction = _next_fraction(mine, goal)

    def _try(self, plan: Plan, fraction: float, way: Way, found: list[Tried], builds: int = BUILDS) -> None:
        found.append((self.timed(plan, fraction, way, builds), plan))
        self._progress("search", len(found), max(ATTEMPTS, len(found) + 1))

    def fastest(self, least: float, fidelity: Callable[[Plan], float]) -> Search:
        """The plan with the fastest engine whose repaired outputs keep a fidelity.

        ``fidelity`` repairs and measures, which takes long. Errors grow about as a power of the logarithm of the predicted
        speed-up: between two attempts they are interpolated so, beyond them with the power 2.
        """
        allowed, log_speed = 1 - least, math.log(1.5)
        found, way = list[Tried](), Way("latency", self.step)
        for number in range(ATTEMPTS):
            fraction = math.exp(-log_speed)
            plan = self._chooser.plan(fraction, way)
            kept = fidelity(plan)
            found.append((replace(self.timed(plan, fraction, way), fidelity=kept), plan))
            self._progress("search", number + 1, ATTEMPTS)
            if TIGHT * allowed <= 1 - kept <= allowed or (1 - kept < allowed and self._chooser.spent(plan, way)):
                break
            errors = [(-math.log(a.fraction), 1 - a.fidelity) for a, _ in found if a.fidelity is not None]
            log_speed = _next_speed(errors, allowed)
            if log_speed <= 0:
                break
        self._progress("search", ATTEMPTS, ATTEMPTS)
        kept_enough = [(a, p) for a, p in found if a.fidelity is not None and a.fidelity >= least]
        if not kept_enough:
            return Search(self._chooser.plan(1.0, way), tuple(a for a, _ in found), met=True, chosen=None)
        return Search.of(found, max(kept_enough, key=lambda pair: pair[0].speedup), met=True)

    def timed(self, plan: Plan, fraction: float, way: Way, builds: int = BUILDS) -> Attempt:
        """A plan's engine against the dense one."""
        found = self._builds.timed(ir.to_proto(self._slimmed(plan).model), builds)
        return Attempt(
            fraction,
            found.speedup,
            found.interval,
            found.milliseconds,
            self._chooser.loss(plan),
            by=way.by,
            step=way.step,
            builds=builds,
        )

    def _compared(self, slim: onnx.ModelProto) -> Comparison:
        before, after = self._build(self._original), self._build(slim)
        return compare(
            lambda: before.run(self._feeds),
            lambda: after.run(self._feeds),
            seconds=SECONDS,
            min_runs=RUNS,
            seed=self._seed,
        )

    def _build(self, model: onnx.ModelProto) -> Engine:
        return self._backend.build(model, threads=self._threads, device=self._backend.DEVICE)


def _known(plan: Plan, found: Sequence[Tried], builds: int = 1) -> bool:
    """Whether it has been timed, and built so often."""
    return any(attempt.builds >= builds and same(plan, tried) for attempt, tried in found)


def _judged(found: list[Tried], goal: Goal, fidelity: Callable[[Plan], float]) -> Tried:
    """The one that keeps most once repaired, of those that are predicted to lose about as little as the best."""
    close = [pair for pair in finalists(found, goal) if pair[0].toll(goal) <= WORTH * best(found, goal)[0].toll(goal)]
    if len(close) < 2:
        return best(found, goal)
    judged = list[Tried]()
    for pair in close[:FINALISTS]:
        judged.append((replace(pair[0], fidelity=fidelity(pair[1])), pair[1]))
        found[found.index(pair)] = judged[-1]
    return min(judged, key=lambda pair: pair[0].toll(goal))


def _next_fraction(tried: Sequence[Attempt], goal: Goal) -> float:
    return min(1.0, _next([(attempt.fraction, share(attempt, goal)) for attempt in tried]))


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
