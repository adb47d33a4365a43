"""What was tried for a goal, and which of it is best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from modhifi_graph.plan import Plan
from modhifi_graph.select.goal import Goal
from modhifi_graph.select.ways import Way

AIM = 1.02
"""A little beyond what was asked for: what is met by a hair is not met the next time it is timed."""

NEAR = (1.005, 1.035)
"""Within these bounds, relative to what was asked for, nothing needs to be corrected."""

MET, BEYOND = 0.99, 1.06
"""From the first on what was asked for is reached, as well as it can be told; up to the other it is not overshot."""


@dataclass(frozen=True)
class Attempt:
    """One plan.

    Attributes
    ----------
    fraction : of the dense time as predicted, or of the dense multiply-accumulates, in (0, 1].
    speedup, interval : median of the dense engine's times over the slim one's, and its 95 % confidence interval.
    milliseconds : median of the slim engine.
    loss : the share of the outputs' energy that the plan is predicted to cost before repair.
    fidelity : of the outputs after repair; None where a plan was only timed.
    by : what a removal was taken to save, "latency" or "macs".
    step : of which multiples the widths are; None for the default of ``align``.
    builds : of how many engines of it this is the one in the middle.
    """

    fraction: float
    speedup: float
    interval: tuple[float, float]
    milliseconds: float
    loss: float = 0.0
    fidelity: float | None = None
    by: str = "latency"
    step: int | None = 1
    builds: int = 1

    @property
    def way(self) -> Way:
        return Way(self.by, self.step)

    def toll(self, goal: Goal) -> float:
        """What it loses, measured or else predicted, brought to the aim.

        Losses grow about as the square of the logarithm of the speed-up.
        """
        speed, aimed = math.log(max(self.speedup, 1.001)), math.log(self.speedup * AIM / share(self, goal))
        lost = self.loss if self.fidelity is None else 1 - self.fidelity
        return lost * (max(aimed, 1e-3) / speed) ** 2


Tried = tuple[Attempt, Plan]


def share(attempt: Attempt, goal: Goal) -> float:
    """How much of a speed-up or a latency an attempt reaches: 1 and more is all of it."""
    return attempt.speedup / goal.value if goal.kind == "speedup" else goal.value / attempt.milliseconds


def best_share(attempts: Iterable[Attempt], goal: Goal) -> float:
    """The most that any attempt came to, in the goal's own unit."""
    found = list(attempts)
    return max(a.speedup for a in found) if goal.kind == "speedup" else min(a.milliseconds for a in found)


def nearest(found: Sequence[Tried], goal: Goal) -> Tried:
    """The one nearest to the aim that is fast enough, or else the fastest."""
    enough = [pair for pair in found if share(pair[0], goal) >= MET]
    if enough:
        return min(enough, key=lambda pair: abs(math.log(share(pair[0], goal) / AIM)))
    return max(found, key=lambda pair: share(pair[0], goal))


def finalists(found: Sequence[Tried], goal: Goal) -> list[Tried]:
    """Of every way the nearest, where it is fast enough and no faster; what loses least first.

    Only what was built as often as any counts: a single build proves little.
    """
    ways: dict[Way, list[Tried]] = {}
    for pair in found:
        if pair[0].builds == max(attempt.builds for attempt, _ in found):
            ways.setdefault(pair[0].way, []).append(pair)
    enough = [
        pair for pair in (nearest(pairs, goal) for pairs in ways.values()) if MET <= share(pair[0], goal) <= BEYOND
    ]
    return sorted(enough, key=lambda pair: pair[0].toll(goal))


def best(found: Sequence[Tried], goal: Goal) -> Tried:
    """The one that loses least of those that reach the goal, or else the nearest."""
    enough = finalists(found, goal)
    return enough[0] if enough else nearest([pair for pair in found if pair[0].builds > 1] or found, goal)
