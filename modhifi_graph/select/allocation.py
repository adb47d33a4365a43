"""From rankings to a plan: spend the budget where it costs the least fidelity.

Every group offers its next components at a price: the cost of removing them over what that saves, in multiply-accumulates
or parameters. What a removal saves depends on what is kept at the other end of the same weight, so prices are looked up
anew after each step. The cheapest offer is taken until the budget is met.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modhifi_graph.axes.branches import Branch
from modhifi_graph.axes.layout import Layout
from modhifi_graph.plan import GroupPlan, Plan
from modhifi_graph.scoring.scores import Ranking
from modhifi_graph.select.budget import Budget, Expense, Limits


@dataclass
class _Offer:
    """A group and how far it has been cut."""

    ranking: Ranking
    step: int
    fewest: int
    costs: np.ndarray
    removed: int = 0

    @property
    def next_count(self) -> int:
        """How many components the next step removes; the first brings the width to a multiple."""
        left = self.ranking.group.size - self.removed
        count = left % self.step or self.step
        return count if left - count >= self.fewest else 0

    @property
    def last_count(self) -> int:
        """How many components the last step removed."""
        if not self.removed:
            return 0
        odd = self.ranking.group.size % self.step
        return odd if odd and self.removed == odd else min(self.step, self.removed)

    def next_cost(self) -> float:
        return float(self.costs[self.removed : self.removed + self.next_count].sum())


class _Exit:
    """A residual branch that may go as a whole, and what is cut inside it already."""

    def __init__(self, branch: Branch, price: float, offers: Sequence[_Offer]) -> None:
        ops = set(branch.ops)
        self.branch, self.price, self.spent = branch, price, 0.0
        self.inner = [o for o in offers if all(c.op in ops for c in o.ranking.group.consumers)]

    def next_cost(self) -> float:
        """The price of the whole, less what has been paid for its parts."""
        paid = sum(float(offer.costs[: offer.removed].sum()) for offer in self.inner)
        return max(0.0, self.price - paid - self.spent)


def select(
    rankings: Sequence[Ranking], cost: Expense, budget: Budget, limits: Limits | None = None
) -> dict[Layout, int]:
    """How many components of each ranked group go. Meets the budget or, where that is impossible, removes all it may."""
    return select_all(rankings, {}, cost, budget, limits)[0]


def select_all(
    rankings: Sequence[Ranking],
    branches: Mapping[Branch, float],
    cost: Expense,
    budget: Budget,
    limits: Limits | None = None,
) -> tuple[dict[Layout, int], list[Branch]]:
    """As :func:`select`, with whole residual branches, at their prices, in the same contest; gives the branches that go too.

    Of a group that goes with a branch no component is removed. A budget of kind "keep" leaves branches alone.
    """
    limits = limits or Limits()
    offers = [
        _Offer(r, limits.step(r.group), limits.fewest(r.group), np.maximum.accumulate(r.costs))
        for r in rankings
        if limits.allows(r.group)
    ]
    if budget.kind == "keep":
        return {o.ranking.group.factor: _kept_fraction(o, budget.fraction) for o in offers}, []
    counts: dict[Layout, int] = {o.ranking.group.factor: o.ranking.group.size for o in offers}
    which = 1 if budget.kind == "params" else 0
    current = float(cost.total(counts)[which])
    target = budget.fraction * current
    exits = [_Exit(branch, price, offers) for branch, price in branches.items() if limits.allows_branch(branch)]
    bills = {e: cost.bill(e.branch) for e in exits}
    removed: list[Branch] = []
    while current > target:
        best: _Offer | _Exit | None = None
        best_price, best_saving = np.inf, 0.0
        for e in exits:
            saving = bills[e](counts)[which]
            price = _price(e.next_cost(), saving, current - target)
            if price < best_price:
                best, best_price, best_saving = e, price, saving
        for offer in offers:
            count = offer.next_count
            saving = cost.saving(offer.ranking.group.factor, counts, count)[which] if count else 0
            price = _price(offer.next_cost(), saving, current - target)
            if price < best_price:
                best, best_price, best_saving = offer, price, saving
        if best is None:
            break
        if isinstance(best, _Exit):
            removed = [b for b in removed if b.addition not in best.branch.ops] + [best.branch]
            cost = cost.without(best.branch)
            exits, offers = _left(best, exits, offers, cost)
            bills = {e: cost.bill(e.branch) for e in exits}
            current = float(cost.total(counts)[which])
            continue
        count = best.next_count
        best.removed += count
        counts[best.ranking.group.factor] -= count
        current -= best_saving
    _restore(offers, cost, counts, which, target - current)
    return {o.ranking.group.factor: o.removed for o in offers}, removed


def _price(cost: float, saving: float, wanted: float) -> float:
    """Of a unit saved; what is saved beyond the budget does not count."""
    return cost / min(saving, wanted) if saving > 0 else np.inf


def _left(
    gone: _Exit, exits: Sequence[_Exit], offers: Sequence[_Offer], cost: Expense
) -> tuple[list[_Exit], list[_Offer]]:
    """What still offers itself once a branch is gone: nothing inside it does, and a branch around it has paid for it."""
    body = set(gone.branch.ops)
    left = [e for e in exits if e is not gone and e.branch.addition not in body]
    for e in left:
        if gone.branch.addition in e.branch.ops:
            e.spent += gone.price
            e.inner = [offer for offer in e.inner if offer not in gone.inner]
    return left, [offer for offer in offers if cost.uses(offer.ranking.group.factor)]


def _restore(offers: Sequence[_Offer], cost: Expense, counts: dict[Layout, int], which: int, slack: float) -> None:
    """The last step may have overshot: give back the dearest steps that fit into what is left of the budget."""
    while True:
        best, best_cost, best_saving = None, 0.0, 0.0
        for offer in offers:
            factor, count = offer.ranking.group.factor, offer.last_count
            if not count:
                continue
            saving = cost.saving(factor, {**counts, factor: counts[factor] + count}, count)[which]
            paid = float(offer.costs[offer.removed - count : offer.removed].sum())
            if saving <= slack and paid > best_cost:
                best, best_cost, best_saving = offer, paid, saving
        if best is None:
            return
        count = best.last_count
        best.removed -= count
        counts[best.ranking.group.factor] += count
        slack -= best_saving


def _kept_fraction(offer: _Offer, fraction: float) -> int:
    size = offer.ranking.group.size
    stays = max(offer.fewest, round(fraction * size / offer.step) * offer.step)
    return size - min(size, stays)


def plan_of(
    rankings: Sequence[Ranking],
    removed: Mapping[Layout, int],
    settings: Mapping[str, object],
    branches: Iterable[Branch] = (),
) -> Plan:
    """The plan that removes the first components of each ranking, and some branches."""
    entries = []
    for ranking in rankings:
        count = removed.get(ranking.group.factor, 0)
        if count:
            gone = set(ranking.order[:count])
            keep = tuple(i for i in range(ranking.group.size) if i not in gone)
            entries.append(GroupPlan(ranking.group.name, ranking.group.size, keep))
    return Plan(tuple(entries), settings, tuple(branch.name for branch in branches))
