"""A contender brought to a measured speed-up by its own knob."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

TOLERANCE = 0.03
"""A measured speed-up so near to the target, relative to it, is near enough."""

TRIES = 8
LEAST = 0.01
"""No smaller fraction is tried."""


@dataclass(frozen=True)
class Try:
    """A fraction that stays, and the speed-up that was measured of it."""

    fraction: float
    speedup: float


def bring(timed: Callable[[float], float], target: float, tries: int = TRIES) -> list[Try]:
    """Every try in order, until one is within the tolerance; ``timed`` gives the speed-up of a fraction.

    The first is the inverse of the target: all would be met at once if time followed the knob.
    """
    made: list[Try] = []
    fraction = min(1.0, 1 / target)
    while len(made) < tries:
        made.append(Try(fraction, timed(fraction)))
        following = _following(made, target)
        if abs(made[-1].speedup / target - 1) <= TOLERANCE or any(
            math.isclose(following, old.fraction, rel_tol=1e-3) for old in made
        ):
            break
        fraction = following
    return made


def nearest(made: Sequence[Try], target: float) -> Try:
    return min(made, key=lambda one: abs(math.log(one.speedup / target)))


def _following(made: Sequence[Try], target: float) -> float:
    """Between the nearest tries on both sides of the target, on logarithmic scales; in proportion where one side is open."""
    slower = [one for one in made if one.speedup < target]
    faster = [one for one in made if one.speedup >= target]
    if not slower or not faster:
        last = made[-1]
        return min(1.0, max(LEAST, last.fraction * last.speedup / target))
    low, high = max(slower, key=lambda one: one.speedup), min(faster, key=lambda one: one.speedup)
    share = math.log(target / low.speedup) / max(1e-9, math.log(high.speedup / low.speedup))
    share = min(0.9, max(0.1, share))
    return math.exp((1 - share) * math.log(low.fraction) + share * math.log(high.fraction))
