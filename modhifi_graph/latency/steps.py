"""Which multiple of channels this engine wants on this machine: measured, not assumed.

Runtimes work on channels in blocks, of 16 or 8 or 4 by the instructions of the processor; a width in between is padded, or
takes another path that is slower. So the wide groups of the model are set to odd multiples of 1, 2, 4, 8 and 16, the pieces
timed, and the smallest step is taken at which a multiply-accumulate costs hardly more than at the best of them.
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
"""Widths are about this share of a group."""

DEARER = 1.03
"""By so much a step may be dearer than the best, a multiply-accumulate."""


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
    prices = {}
    for step in STEPS:
        counts = {group.factor: odd_multiple(SHARE * group.size, step) for group in wide}
        prices[step] = milliseconds(counts) / max(1, macs(counts))
    best = min(prices.values())
    return min(step for step, price in prices.items() if price <= DEARER * best)


def odd_multiple(number: float, step: int) -> int:
    """The odd multiple of ``step`` next to a number, at least the step itself."""
    return step * (2 * max(0, math.floor(number / step / 2)) + 1)
