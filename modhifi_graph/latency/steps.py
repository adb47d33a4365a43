"""Which multiple of channels this engine wants on this machine: measured, not assumed.

Runtimes work on channels in blocks, of 16 or 8 or 4 by the instructions of the processor; a width in between is padded, or
takes another path that is slower. So the wide groups of the model are set to odd multiples of 1, 2, 4, 8 and 16, the pieces
timed, and the smallest step is taken at which the same work takes hardly longer than at the best of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from modhifi_graph.axes.groups import Group
from modhifi_graph.axes.layout import Layout

STEPS = (16, 8, 4, 2, 1)

WIDE = 32
"""Groups narrower than this stay whole: they have no odd multiple of every step."""

SHARE = 0.75
"""Widths are the nearest multiples on both sides of this share of a group."""

DEARER = 1.03
"""By so much a step may be dearer than the best."""


def best_step(
    groups: Sequence[Group],
    milliseconds: Callable[[Mapping[Layout, int]], float],
    macs: Callable[[Mapping[Layout, int]], int],
) -> int:
    """The step; 1 where no group is wide.

    Parameters
    ----------
    milliseconds : of all pieces at some widths.
    macs : multiply-accumulates at the same.
    """
    wide = [group for group in groups if group.size >= WIDE]
    if not wide:
        return 1
    work = macs({group.factor: round(SHARE * group.size) for group in wide})

    def price(step: int) -> float:
        """Milliseconds of that work, between those of less and of more: starting up is paid for alike at every step."""
        sides = [odd_multiples(SHARE * group.size, step, group.size) for group in wide]
        less, more = ({group.factor: side[i] for group, side in zip(wide, sides, strict=True)} for i in (0, 1))
        place = (work - macs(less)) / max(1, macs(more) - macs(less))
        return (1 - place) * milliseconds(less) + place * milliseconds(more)

    prices = {step: price(step) for step in STEPS}
    best = min(prices.values())
    return min(step for step, price in prices.items() if price <= DEARER * best)


def odd_multiples(number: float, step: int, most: int) -> tuple[int, int]:
    """The odd multiples of ``step`` next to a number on both sides, the upper one at most ``most``."""
    less = step * (2 * max(0, math.floor((number / step - 1) / 2)) + 1)
    return less, min(most, less + 2 * step)
