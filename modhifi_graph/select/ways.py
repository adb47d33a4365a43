"""Ways to choose what goes, among which those that were timed decide.

What a step saves may be looked up in the latency model or be multiply-accumulates, and widths may be multiples of the step
that the hardware has, of half of it, or as fine as where nothing is measured. A coarse step wastes no lanes; a fine one gives
up less of what is worth keeping, and groups narrower than the step can be cut at all. Which of it counts for more on a model
and an engine is found by timing both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from modhifi_graph.axes.branches import Branch
from modhifi_graph.axes.cost import Cost
from modhifi_graph.plan import Plan
from modhifi_graph.scoring.analysis import Analysis
from modhifi_graph.select.allocation import plan_of, select_all
from modhifi_graph.select.budget import Budget, Expense, Limits

NOTHING = 1e-9
"""No plan leaves so small a fraction."""


@dataclass(frozen=True)
class Way:
    """By what it saves, "latency" as it is predicted or "macs", in multiples of a step; None in those of the default."""

    by: str
    step: int | None


@dataclass(frozen=True, eq=False)
class Chooser:
    """Plans of every way, and what they are predicted to lose and to save.

    Attributes
    ----------
    model : predicts milliseconds, see :class:`modhifi_graph.latency.model.LatencyModel`.
    """

    analysis: Analysis
    model: Expense
    cost: Cost
    limits: Limits
    settings: Mapping[str, object]

    def ways(self, step: int) -> Iterator[Way]:
        """The measured step, half of it and the default where the user has not set it, by latency and by macs."""
        steps = [step] if self.limits.align is not None else [step, *([step // 2] if step > 1 else []), None]
        return (Way(by, each) for each in steps for by in ("latency", "macs"))

    def plan(self, fraction: float, way: Way) -> Plan:
        """What goes for this fraction to be left, of the time as predicted or of the multiply-accumulates."""
        analysis, limits = self.analysis, replace(self.limits, align=way.step)
        budget, expense = Budget(way.by, fraction), self._expense(way)
        removed, branches = select_all(analysis.rankings, analysis.branches, expense, budget, limits)
        return plan_of(analysis.rankings, removed, self.settings, branches)

    def fraction(self, plan: Plan, way: Way) -> float:
        """What a plan leaves, as a way counts it."""
        left = {entry.name: len(entry.keep) for entry in plan.groups}
        counts = {r.group.factor: left.get(r.group.name, r.group.size) for r in self.analysis.rankings}
        expense = self._expense(way)
        whole = expense.total({})[0]
        for branch in self._gone(plan):
            expense = expense.without(branch)
        return float(expense.total(counts)[0] / whole)

    def loss(self, plan: Plan) -> float:
        """The share of the outputs' energy that a plan is predicted to cost before repair, as the selection adds it up."""
        left = {entry.name: len(entry.keep) for entry in plan.groups}
        groups = sum(
            float(r.costs[: r.group.size - left.get(r.group.name, r.group.size)].sum()) for r in self.analysis.rankings
        )
        return groups + sum(self.analysis.branches[branch] for branch in self._gone(plan))

    def spent(self, plan: Plan, way: Way) -> bool:
        """Whether a plan removes all that it may."""
        return same(plan, self.plan(NOTHING, way))

    def _expense(self, way: Way) -> Expense:
        return self.model if way.by == "latency" else self.cost

    def _gone(self, plan: Plan) -> list[Branch]:
        return [branch for branch in self.analysis.branches if branch.name in plan.branches]


def same(one: Plan, other: Plan) -> bool:
    """Whether two plans leave the same."""
    return one.groups == other.groups and one.branches == other.branches
