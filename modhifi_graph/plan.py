"""The plan: which components of which groups stay, and which residual branches go.

Plain JSON, naming groups by the parameter that produces them, and branches by their last weight.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from modhifi_graph.axes.branches import Branch, find_branches
from modhifi_graph.axes.groups import Groups
from modhifi_graph.axes.layout import Layout
from modhifi_graph.errors import InputError

VERSION, VERSION_WITH_BRANCHES = 1, 2
"""A plan that removes branches says so by its version: who does not know of them must not apply the rest of it."""


@dataclass(frozen=True)
class GroupPlan:
    """What stays of one group: sorted positions in [0, size)."""

    name: str
    size: int
    keep: tuple[int, ...]

    def __post_init__(self) -> None:
        if (
            not self.keep
            or list(self.keep) != sorted(set(self.keep))
            or not 0 <= self.keep[0] <= self.keep[-1] < self.size
        ):
            raise InputError(f"plan: group {self.name!r} must keep sorted, distinct positions in [0, {self.size})")


@dataclass(frozen=True)
class Plan:
    """What stays of every group that loses something; a group it does not name stays whole.

    ``settings`` records how the plan was found (criterion, budget, seed), for the reader; ``branches`` are the names of the
    residual branches that go.
    """

    groups: tuple[GroupPlan, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    branches: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is removed."""
        return bool(self.groups or self.branches)

    def resolve(self, groups: Groups) -> dict[Layout, np.ndarray]:
        """The factors of a graph with the positions that stay; InputError where the plan is not for this graph."""
        known = groups.by_name()
        keep: dict[Layout, np.ndarray] = {}
        for entry in self.groups:
            group = known.get(entry.name)
            if group is None:
                raise InputError(
                    f"plan: the model has no group {entry.name!r}; `modhifi-graph inspect` lists its groups"
                )
            if group.size != entry.size:
                raise InputError(
                    f"plan: group {entry.name!r} has {group.size} components here, {entry.size} in the plan"
                )
            keep[group.factor] = np.asarray(entry.keep, dtype=np.int64)
        return keep

    def renamed(self, groups: Groups, others: Groups) -> Plan:
        """The same plan for another graph of the same structure, whose groups may go by other names."""
        names = {mine.name: theirs.name for mine, theirs in zip(groups.groups, others.groups, strict=True)}
        renamed = tuple(GroupPlan(names[g.name], g.size, g.keep) for g in self.groups)
        return replace(self, groups=renamed)

    def removed(self, groups: Groups) -> tuple[Branch, ...]:
        """The branches that go from a graph, in its order; InputError where it has none of such a name."""
        if not self.branches:
            return ()
        known = find_branches(groups).by_name()
        for name in self.branches:
            if name not in known:
                raise InputError(
                    f"plan: the model has no residual branch {name!r} that may go; `modhifi-graph inspect` lists them"
                )
        return tuple(branch for name, branch in known.items() if name in self.branches)

    def to_json(self) -> dict[str, Any]:
        entries = [{"name": g.name, "size": g.size, "keep": list(g.keep)} for g in self.groups]
        found = {"version": VERSION, "settings": dict(self.settings), "groups": entries}
        if self.branches:
            found |= {"version": VERSION_WITH_BRANCHES, "branches": list(self.branches)}
        return found

    @classmethod
    def from_json(cls, data: Any, source: str = "plan") -> Plan:
        """Read what :meth:`to_json` wrote; InputError names ``source`` where it is something else."""
        try:
            if data["version"] not in (VERSION, VERSION_WITH_BRANCHES):
                raise InputError(
                    f"{source}: plan version {data['version']!r}, expected {VERSION} or {VERSION_WITH_BRANCHES}; "
                    "make the plan again"
                )
            groups = tuple(
                GroupPlan(str(g["name"]), int(g["size"]), tuple(int(i) for i in g["keep"])) for g in data["groups"]
            )
            branches = data["branches"] if data["version"] == VERSION_WITH_BRANCHES else []
            if not isinstance(branches, list):
                raise TypeError("branches is no list")
            return cls(groups, dict(data.get("settings", {})), tuple(map(str, branches)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{source}: not a plan written by --plan-out: {error!r}") from error

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as a plan: {error}") from error
        return cls.from_json(data, str(path))


def random_plan(groups: Groups, seed: int, fraction: float = 0.5, depth: float = 0.0) -> Plan:
    """Keep a random ``fraction`` of every group, at least one component; the oracles run on such plans.

    Every residual branch goes with probability ``depth``.
    """
    random = np.random.default_rng(seed)
    entries = []
    for group in groups.groups:
        count = max(1, round(group.size * fraction))
        keep = np.sort(random.choice(group.size, count, replace=False))
        entries.append(GroupPlan(group.name, group.size, tuple(int(i) for i in keep)))
    known = find_branches(groups).found if depth else ()
    removed = tuple(branch.name for branch in known if random.random() < depth)
    return Plan(tuple(entries), {"criterion": "random", "seed": seed}, removed)
