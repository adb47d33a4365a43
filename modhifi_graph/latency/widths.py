"""At which widths pieces and whole engines are timed: a few levels for every group, so that a layer sees all pairs of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from modhifi_graph.axes.groups import Group
from modhifi_graph.axes.layout import Layout
from modhifi_graph.plan import GroupPlan, Plan

NARROWEST = 0.25
CONFIGURATIONS = 12


def configurations(groups: Sequence[Group], step: int, seed: int = 0) -> list[dict[Layout, int]]:
    """How many components stay of every group, the whole model first.

    Groups of one size get the same level, so that blocks that are alike stay alike and are timed once. Widths are multiples
    of ``step``, see :func:`width`.
    """
    random = np.random.default_rng(seed)
    kinds = sorted({_kind(group) for group in groups})
    # Every kind sees as many levels as there are, in an order of its own: odd multiples of the step are dearer than even ones.
    levels = {kind: random.permutation(np.linspace(NARROWEST, 1, CONFIGURATIONS - 1)) for kind in kinds}
    found: list[dict[Layout, int]] = [{}]
    for number in range(CONFIGURATIONS - 1):
        found.append({g.factor: width(g.size, float(levels[_kind(g)][number]), step) for g in groups})
    return found


def mixtures(groups: Sequence[Group], step: int, seed: int = 0) -> list[dict[Layout, int]]:
    """As many other configurations, in which every group has a level of its own, as plans have; the whole model first."""
    random = np.random.default_rng([seed, 1])
    levels = random.uniform(NARROWEST, 1, (CONFIGURATIONS - 1, len(groups)))
    return [
        {},
        *({g.factor: width(g.size, float(a), step) for g, a in zip(groups, row, strict=True)} for row in levels),
    ]


def width(size: int, level: float, step: int) -> int:
    """The multiple of ``step`` next to a share of a group, at least one step; it is halved until the group is wider."""
    while step >= size > 1:
        step //= 2
    return min(size, max(step, round(size * level / step) * step))


def plan_of(groups: Sequence[Group], counts: Mapping[Layout, int]) -> Plan:
    """The first components of every group: which ones makes no difference to time."""
    cut = [group for group in groups if counts.get(group.factor, group.size) < group.size]
    return Plan(tuple(GroupPlan(g.name, g.size, tuple(range(counts[g.factor]))) for g in cut), {})


def _kind(group: Group) -> tuple[int, int, int]:
    return group.size, len(group.producers), len(group.consumers)
