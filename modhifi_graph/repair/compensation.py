"""Repairing a slim model by any of the methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from modhifi_graph.axes.groups import Groups
from modhifi_graph.dialects.program import Program
from modhifi_graph.interface import Feeds
from modhifi_graph.observe.consumers import Consumer
from modhifi_graph.observe.moments import Moments
from modhifi_graph.plan import Plan
from modhifi_graph.repair import local, methods, sequential

METHODS = methods.METHODS


class Given(TypedDict, total=False):
    """The types of what :func:`compensate` takes by name, for those who only hand it on."""

    batches: Sequence[Feeds]
    moments: Mapping[Consumer, Moments] | None
    seed: int
    threads: int
    progress: Callable[[int, int], None]


def compensate(
    dense: Program,
    groups: Groups,
    slim: Program,
    plan: Plan,
    method: str = "joint",
    *,
    batches: Sequence[Feeds] = (),
    moments: Mapping[Consumer, Moments] | None = None,
    seed: int = 0,
    threads: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Refit the consumers of ``slim`` in place; returns how many.

    Parameters
    ----------
    groups : of ``dense``.
    method : one of :data:`METHODS`.
    batches : calibration inputs, for the sequential methods.
    moments : of the dense model's consumers, for the local methods.
    """
    if method == "none" or not plan:
        return 0
    if method in methods.SEQUENTIAL:
        return sequential.compensate(
            dense, groups, slim, plan, batches, method, seed=seed, threads=threads, progress=progress
        )
    return local.compensate(groups, slim, plan, moments or {}, method)
