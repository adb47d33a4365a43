"""What a budget is of, and what a selection may not touch."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from modhifi_graph.axes.branches import Branch
from modhifi_graph.axes.groups import Group
from modhifi_graph.axes.layout import Layout
from modhifi_graph.errors import InputError

WIDE = 64
"""From this size on a group is cut in steps of :data:`WIDE_STEP` by default: hardware likes multiples."""

WIDE_STEP = 8


KINDS = ("macs", "params", "latency", "keep")


@dataclass(frozen=True)
class Budget:
    """What fraction stays (0 < fraction <= 1) of ``kind``: "macs", "params", "latency", or "keep", that of every group."""

    kind: str
    fraction: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"budget {self.kind!r} is unknown; choose one of {', '.join(KINDS)}")


def Macs(fraction: float) -> Budget:
    """A budget of multiply-accumulates."""
    return Budget("macs", fraction)


def Params(fraction: float) -> Budget:
    """A budget of parameters."""
    return Budget("params", fraction)


def Keep(fraction: float) -> Budget:
    """The same fraction of every group."""
    return Budget("keep", fraction)


class Expense(Protocol):
    """What a budget is of, as a function of how many components of each group are kept; every figure is a tuple.

    :class:`modhifi_graph.axes.cost.Cost` counts multiply-accumulates and parameters,
    :class:`modhifi_graph.latency.model.LatencyModel` milliseconds.
    """

    def total(self, counts: Mapping[Layout, int]) -> Sequence[float]:
        """Of the whole graph."""

    def saving(self, factor: Layout, counts: Mapping[Layout, int], by: int) -> Sequence[float]:
        """Of removing ``by`` more components of one group."""

    def bill(self, branch: Branch) -> Callable[[Mapping[Layout, int]], Sequence[float]]:
        """Of a residual branch."""

    def without(self, branch: Branch) -> Expense:
        """What is left once a branch is gone."""

    def uses(self, factor: Layout) -> bool:
        """Whether a group still counts."""


@dataclass(frozen=True)
class Limits:
    """What a selection may not touch.

    Attributes
    ----------
    only, skip : glob patterns on group and parameter names; ``only`` empty means every group.
    align : channel multiple, or None for 8 in groups of 64 and more and 1 below. A component of several channels, as a
        head is, counts for as many.
    min_keep : fewest components of a group that stay, at least 1.
    """

    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    align: int | None = None
    min_keep: int = 1

    def allows(self, group: Group) -> bool:
        names = [group.name, *(use.value.name for use in group.producers)]
        return (not self.only or _matches(names, self.only)) and not _matches(names, self.skip)

    def allows_branch(self, branch: Branch) -> bool:
        """By its own name; and nothing that is to stay whole may be in it."""
        named = not self.only or _matches([branch.name], self.only)
        return named and not _matches(branch.parameters, self.skip)

    def step(self, group: Group) -> int:
        if self.align is not None:
            return self.align // math.gcd(self.align, group.channels)
        return WIDE_STEP if group.size >= WIDE else 1

    def fewest(self, group: Group) -> int:
        """The fewest components that stay: at least ``min_keep``, and a multiple of the step."""
        step = self.step(group)
        return min(group.size, max(1, -(-max(1, self.min_keep) // step) * step))


def _matches(names: Iterable[str], patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)
