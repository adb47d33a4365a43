"""Closed loop: select by predicted latency, compile, time against the original in turns, correct, until the target is met."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import onnx
import onnx_ir as ir

from modhifi_graph.accounting import Cost
from modhifi_graph.axes.groups import Groups
from modhifi_graph.dialects.onnx import Lifted
from modhifi_graph.exporters.backend import Engine, backend
from modhifi_graph.fidelity.analysis import Analysis
from modhifi_graph.fidelity.selection import Budget, Limits, plan_of, select_all
from modhifi_graph.latency.model import measured, times
from modhifi_graph.latency.steps import best_step
from modhifi_graph.latency.timer import Timer
from modhifi_graph.plan import Plan
from modhifi_graph.progress import Progress, silent
from modhifi_graph.timing import compare

ATTEMPTS = 6
SLACK = (0.99, 1.05)
"""A speed-up within these bounds, relative to what was asked for, is what was asked for."""

SECONDS = 1.5
"""Each attempt is timed for so long."""


@dataclass(frozen=True)
class Attempt:
    """One plan: the predicted fraction of the dense time that was asked for, and the speed-up that was measured."""

    fraction: float
    speedup: float
    interval: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Search:
    """What the loop has come to: the plan, of which multiples its widths are, and every attempt in order."""

    plan: Plan
    step: int
    attempts: tuple[Attempt, ...]
    met: bool

    def to_json(self) -> dict[str, object]:
        return {"met": self.met, "step": self.step, "attempts": [asdict(attempt) for attempt in self.attempts]}


def to_speedup(
    dense: Lifted,
    original: onnx.ModelProto,
    slimmed: Callable[[Plan], Lifted],
    groups: Groups,
    analysis: Analysis,
    feeds: Mapping[str, np.ndarray],
    target: float,
    limits: Limits,
    settings: Mapping[str, object],
    *,
    name: str = "onnxruntime",
    threads: int = 0,
    seed: int = 0,
    progress: Progress = silent,
) -> Search:
    """The plan that loses least fidelity for the milliseconds it saves, at a measured speed-up of ``target``.

    Parameters
    ----------
    original : what the slim engine is timed against: the dense model as it was handed in.
    slimmed : makes the slim model of a plan; it need not be repaired, which changes no shape.
    feeds : one batch, as it is timed.
    """
    timer, cost = Timer(name, threads=threads), Cost(groups)
    step = limits.align or best_step(
        groups.groups, lambda counts: sum(times(dense, groups, counts, feeds, timer).values()), cost.macs
    )
    limits = Limits(limits.only, limits.skip, step, limits.min_keep)
    model = measured(dense, groups, feeds, timer, step, seed=seed, progress=progress)
    runtime = backend(name)
    before = runtime.build(original, threads=threads, device=runtime.DEVICE)
    fraction, found = 1 / target, list[tuple[Attempt, Plan]]()
    for number in range(ATTEMPTS):
        removed, branches = select_all(analysis.rankings, analysis.branches, model, Budget("latency", fraction), limits)
        plan = plan_of(analysis.rankings, removed, settings, branches)
        after = runtime.build(ir.to_proto(slimmed(plan).model), threads=threads, device=runtime.DEVICE)
        found.append((_timed(before, after, feeds, fraction, seed), plan))
        progress("speed-up", number + 1, ATTEMPTS)
        reached = found[-1][0].speedup / target
        if SLACK[0] <= reached <= SLACK[1]:
            break
        previous = fraction
        fraction = min(1.0, _next([attempt for attempt, _ in found], target))
        if fraction == previous or (reached < 1 and _spent(plan, analysis, limits)):
            break
    attempt, plan = _best(found, target)
    return Search(plan, step, tuple(a for a, _ in found), attempt.speedup >= SLACK[0] * target)


def _timed(before: Engine, after: Engine, feeds: Mapping[str, np.ndarray], fraction: float, seed: int) -> Attempt:
    result = compare(lambda: before.run(feeds), lambda: after.run(feeds), seconds=SECONDS, seed=seed)
    assert result.speedup is not None
    assert result.interval is not None
    return Attempt(fraction, result.speedup, result.interval)


def _next(attempts: Sequence[Attempt], target: float) -> float:
    """Between the nearest attempts on both sides of the target, on logarithmic scales; or in proportion."""
    slower = [a for a in attempts if a.speedup < target]
    faster = [a for a in attempts if a.speedup >= target]
    if not slower or not faster:
        last = attempts[-1]
        return last.fraction * last.speedup / target
    low, high = max(slower, key=lambda a: a.speedup), min(faster, key=lambda a: a.speedup)
    share = (math.log(target) - math.log(low.speedup)) / max(1e-9, math.log(high.speedup) - math.log(low.speedup))
    # Aimed a little beyond: what is met by a hair is not met the next time it is timed.
    share = min(0.9, max(0.1, share + 0.1))
    return float(math.exp((1 - share) * math.log(low.fraction) + share * math.log(high.fraction)))


def _best(found: Sequence[tuple[Attempt, Plan]], target: float) -> tuple[Attempt, Plan]:
    """The slowest that is fast enough, or else the fastest."""
    enough = [pair for pair in found if pair[0].speedup >= SLACK[0] * target]
    if enough:
        return min(enough, key=lambda pair: pair[0].speedup)
    return max(found, key=lambda pair: pair[0].speedup)


def _spent(plan: Plan, analysis: Analysis, limits: Limits) -> bool:
    """Whether a plan removes all that it may."""
    left = {entry.name: len(entry.keep) for entry in plan.groups}
    ranked = [ranking.group for ranking in analysis.rankings if limits.allows(ranking.group)]
    return all(left.get(group.name, group.size) <= limits.fewest(group) for group in ranked)
