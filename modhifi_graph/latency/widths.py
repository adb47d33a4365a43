"""At which widths pieces are timed: a few levels for every group, mixed so that a layer sees all pairs of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from modhifi_graph.axes.groups import Group
from modhifi_graph.axes.layout import Layout
from modhifi_graph.plan import GroupPlan, Plan

LEVELS = (1.0, 0.75, 0.5, 0.25)
CONFIGURATIONS = 12


def configurations(groups: Sequence[Group], step: int, seed: int = 0) -> list[dict[Layout, int]]:
    """How many components stay of every group, the whole model first.

    Groups of one size get the same level, so that blocks that are alike stay alike and are timed once. Widths are multiples
    of ``step`` where the group is as wide.
    """
    random = np.random.default_rng(seed)
    kinds = sorted({_kind(group) for group in groups})
    # Every kind sees every level about equally often, in an order of its own.
    levels = {kind: random.permutation([LEVELS[i % len(LEVELS)] for i in range(CONFIGURATIONS - 1)]) for kind in kinds}
    found: list[dict[Layout, int]] = [{}]
    for number in range(CONFIGURATIONS - 1):
        found.append({g.factor: width(g.size, float(levels[_kind(g)][number]), step) for g in groups})
    return found


def width(size: int, level: float, step: int) -> int:
    """The multiple of ``step`` next to a share of a group, at least one step; any number where the group is narrower."""
    if size <= step:
        return max(1, round(size * level))
    return min(size, max(step, round(size * level / step) * step))


def plan_of(groups: Sequence[Group], counts: Mapping[Layout, int]) -> Plan:
    """The first components of every group: which ones makes no difference to time."""
    cut = [group for group in groups if counts.get(group.factor, group.size) < group.size]
    return Plan(tuple(GroupPlan(g.name, g.size, tuple(range(counts[g.factor]))) for g in cut), {})


def _kind(group: Group) -> tuple[int, int, int]:
    return group.size, len(group.producers), len(group.consumers)
