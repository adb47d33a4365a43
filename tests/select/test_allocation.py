"""Budgets and limits: what a selection must meet, whatever the costs are."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from modhifi_graph.axes.branches import Branch, find_branches
from modhifi_graph.axes.cost import Cost
from modhifi_graph.axes.groups import Group
from modhifi_graph.axes.layout import Layout
from modhifi_graph.passes.slim import Slim
from modhifi_graph.scoring.scores import Ranking
from modhifi_graph.select.allocation import _Exit, _Offer, plan_of, select, select_all
from modhifi_graph.select.budget import Budget, Keep, Limits

from ..oracles.layers import Net

NETS = ("conv_chain", "residual_projection", "depthwise_pointwise", "grouped_conv_in2", "dense_concat", "attention_gqa",
        "flatten_gemm_transb1", "swiglu")  # fmt: skip

WIDE = """
    g (float[N,6] x) => (float[N,5] y) <float[6,100] w0, float[100,100] w1, float[100,5] w2> {
      h0 = Gemm(x, w0)
      r0 = Relu(h0)
      h1 = Gemm(r0, w1)
      r1 = Relu(h1)
      y = Gemm(r1, w2)
    }"""


@functools.cache
def net(name: str) -> Net:
    return Net.of(WIDE, samples=4) if name == "wide" else Net.named(name, samples=4)


@functools.cache
def cost(name: str) -> Cost:
    return Cost(net(name).groups)


def rankings(name: str, seed: int = 0, scale: dict[str, float] | None = None) -> list[Ranking]:
    """Random orders, with costs that rise along them."""
    random = np.random.default_rng(seed)
    found = []
    for group in net(name).groups.groups:
        order = tuple(int(i) for i in random.permutation(group.size)[:-1])
        costs = np.cumsum(random.uniform(0.1, 1, len(order))) * (scale or {}).get(group.name, 1.0)
        found.append(Ranking(group, order, costs))
    return found


def kept(name: str, removed: dict[Layout, int]) -> dict[Group, int]:
    return {group: group.size - removed.get(group.factor, 0) for group in net(name).groups.groups}


def counts(name: str, removed: dict[Layout, int]) -> dict[Layout, int]:
    return {group.factor: count for group, count in kept(name, removed).items()}


class TestBudgets:
    @pytest.mark.parametrize("fraction", [0.9, 0.5, 0.3])
    @pytest.mark.parametrize("kind", ["macs", "params"])
    @pytest.mark.parametrize("name", NETS)
    def test_it_is_met_and_hardly_undershot(self, name: str, kind: str, fraction: float) -> None:
        measure = cost(name).macs if kind == "macs" else cost(name).params
        least = measure(dict.fromkeys(counts(name, {}), 1)) / measure()
        removed = select(rankings(name), cost(name), Budget(kind, fraction), Limits(align=1))
        reached = measure(counts(name, removed)) / measure()
        assert reached <= max(fraction, least)
        if fraction > least:
            steps = [
                cost(name).saving(factor, {**counts(name, removed), factor: count + 1})[kind == "params"]
                for factor, count in counts(name, removed).items()
                if removed[factor]
            ]
            assert steps
            assert (fraction - reached) * measure() < min(s for s in steps if s > 0), "no step could be given back"

    @pytest.mark.parametrize("name", NETS)
    def test_the_slim_model_costs_what_was_promised(self, name: str) -> None:
        """The price of a step depends on what is left at the other end of the weight: recompute it from the result."""
        chosen = rankings(name)
        removed = select(chosen, cost(name), Budget("macs", 0.6), Limits(align=1))
        slim = net(name).model.clone()
        Slim(plan_of(chosen, removed, {}))(slim)
        after = Cost(Net(slim, {}).groups)
        assert after.macs() == cost(name).macs(counts(name, removed))
        tensors = [v.const_value for v in slim.graph.initializers.values() if v.const_value is not None]
        weights = sum(t.size for t in tensors if t.dtype.is_floating_point())
        assert weights <= cost(name).params(counts(name, removed))
        assert after.macs() <= 0.6 * cost(name).macs()

    def test_everything_may_stay(self) -> None:
        for kind in ("macs", "params", "keep"):
            assert set(select(rankings("conv_chain"), cost("conv_chain"), Budget(kind, 1.0)).values()) == {0}

    def test_an_unreachable_budget_leaves_the_least_there_may_be(self) -> None:
        removed = select(rankings("conv_chain"), cost("conv_chain"), Budget("macs", 1e-6))
        assert set(kept("conv_chain", removed).values()) == {1}

    @pytest.mark.parametrize(("fraction", "left"), [(0.5, (4, 3)), (0.3, (2, 2)), (0.01, (1, 1)), (0.99, (8, 6))])
    def test_keep_is_a_fraction_of_every_group(self, fraction: float, left: tuple[int, int]) -> None:
        removed = select(rankings("conv_chain"), cost("conv_chain"), Budget("keep", fraction))
        assert tuple(kept("conv_chain", removed).values()) == left


class TestAllocation:
    def test_the_cheaper_group_goes_first(self) -> None:
        chosen = rankings("swiglu") + rankings("swiglu")
        assert len(chosen) == 2, "one group: gate, up and down"
        for cheap, dear in (("w0", "w1"), ("w1", "w0")):
            chosen = rankings("wide", scale={cheap: 1e-6, dear: 1.0})
            removed = {
                g.name: g.size - n for g, n in kept("wide", select(chosen, cost("wide"), Budget("macs", 0.5))).items()
            }
            assert removed[cheap] > 0
            assert removed[dear] == 0

    def test_prices_are_costs_over_savings(self) -> None:
        """Equal costs: what saves more multiply-accumulates for them goes first."""
        model = net("conv_chain")
        same = [Ranking(g, tuple(range(g.size - 1)), np.ones(g.size - 1)) for g in model.groups.groups]
        savings = {
            g.name: cost("conv_chain").saving(g.factor, counts("conv_chain", {}))[0] for g in model.groups.groups
        }
        assert savings["w0"] > savings["w1"]
        removed = kept("conv_chain", select(same, cost("conv_chain"), Budget("macs", 0.9)))
        assert {g.name: g.size - n for g, n in removed.items()} == {"w0": 1, "w1": 0}

    def test_equal_groups_are_cut_alike(self) -> None:
        chosen = [Ranking(r.group, r.order, np.arange(1.0, 100)) for r in rankings("wide")]
        removed = list(kept("wide", select(chosen, cost("wide"), Budget("macs", 0.4), Limits(align=1))).values())
        assert abs(removed[0] - removed[1]) <= 4

    def test_the_total_cost_is_close_to_the_best_there_is(self) -> None:
        """Against all pairs of counts of two groups."""
        chosen, first, second = rankings("conv_chain", seed=3), *net("conv_chain").groups.groups
        price = [np.concatenate([[0.0], np.cumsum(np.maximum.accumulate(r.costs))]) for r in chosen]
        for fraction in (0.8, 0.6, 0.4, 0.2):
            target = fraction * cost("conv_chain").macs()
            allowed = [
                price[0][i] + price[1][j]
                for i in range(8)
                for j in range(6)
                if cost("conv_chain").macs({first.factor: 8 - i, second.factor: 6 - j}) <= target
            ]
            removed = select(chosen, cost("conv_chain"), Budget("macs", fraction))
            paid = price[0][removed[first.factor]] + price[1][removed[second.factor]]
            assert min(allowed) <= paid <= 1.35 * min(allowed)


class TestLimits:
    @pytest.mark.parametrize("least", [1, 2, 5, 100])
    @pytest.mark.parametrize("kind", ["macs", "keep"])
    def test_min_keep(self, kind: str, least: int) -> None:
        removed = select(
            rankings("residual_projection"), cost("residual_projection"), Budget(kind, 0.01), Limits(min_keep=least)
        )
        for group, left in kept("residual_projection", removed).items():
            assert left == min(group.size, least)

    @pytest.mark.parametrize(("align", "step"), [(None, 8), (1, 1), (4, 4), (16, 16), (64, 64)])
    @pytest.mark.parametrize(
        "budget", [Budget("macs", 0.5), Budget("params", 0.3), Budget("keep", 0.4), Budget("macs", 0.01)]
    )
    def test_widths_are_multiples(self, budget: Budget, align: int | None, step: int) -> None:
        removed = select(rankings("wide"), cost("wide"), budget, Limits(align=align))
        for left in kept("wide", removed).values():
            assert left == 100 or left % step == 0
            assert left >= min(step, 100)

    def test_groups_below_the_multiple_stay(self) -> None:
        assert set(
            select(rankings("conv_chain"), cost("conv_chain"), Budget("macs", 0.1), Limits(align=16)).values()
        ) == {0}

    def test_a_component_of_several_channels_counts_for_as_many(self) -> None:
        heads, dims = (
            next(g for g in net("attention_gqa").groups.groups if g.kind == k) for k in ("heads", "head dims")
        )
        assert heads.channels > 1 == dims.channels
        for align in (1, heads.channels, 2 * heads.channels):
            limits = Limits(align=align)
            assert limits.step(dims) == align
            assert limits.step(heads) * heads.channels == max(align, heads.channels)

    def test_narrow_groups_are_cut_one_by_one_by_default(self) -> None:
        limits = Limits()
        assert [limits.step(g) for g in net("wide").groups.groups] == [8, 8]
        assert {limits.step(g) for g in net("conv_chain").groups.groups} == {1}
        assert [limits.fewest(g) for g in net("wide").groups.groups] == [8, 8]
        assert [Limits(min_keep=9).fewest(g) for g in net("wide").groups.groups] == [16, 16]

    @pytest.mark.parametrize(
        ("limits", "cut"),
        [
            (Limits(), {"w0", "w1", "w2", "w4"}),
            (Limits(only=("w0",)), {"w0"}),
            (Limits(only=("w[01]",)), {"w0", "w1"}),
            (Limits(skip=("w*",)), set()),
            (Limits(skip=("w5",)), {"w0", "w1", "w4"}),  # w5 also makes the stream that is named after w2
            (Limits(only=("w?",), skip=("w0", "w4")), {"w1", "w2"}),
            (Limits(only=("b2",)), {"w2"}),  # a bias is a producer too
        ],
    )
    def test_only_and_skip(self, limits: Limits, cut: set[str]) -> None:
        removed = select(rankings("residual_projection"), cost("residual_projection"), Budget("keep", 0.5), limits)
        assert {g.name for g, left in kept("residual_projection", removed).items() if left < g.size} == cut
        removed = select(rankings("residual_projection"), cost("residual_projection"), Budget("macs", 0.01), limits)
        assert {g.name for g, left in kept("residual_projection", removed).items() if left < g.size} == cut


def test_the_plan_removes_the_first_of_each_order() -> None:
    chosen = rankings("conv_chain", seed=5)
    removed = {chosen[0].group.factor: 3, chosen[1].group.factor: 0}
    plan = plan_of(chosen, removed, {"criterion": "obs"})
    (entry,) = plan.groups
    assert (entry.name, entry.size) == (chosen[0].group.name, 8)
    assert set(range(8)) - set(entry.keep) == set(chosen[0].order[:3])
    assert plan.settings == {"criterion": "obs"}


BLOCKS = """
    g (float[N,6] x) => (float[N,5] y)
    <float[6,6] w0, float[6,10] u1, float[10,6] d1, float[6,10] u2, float[10,6] d2, float[6,5] w3> {
      s = MatMul(x, w0)
      p1 = MatMul(s, u1)
      r1 = Relu(p1)
      f1 = MatMul(r1, d1)
      t1 = Add(s, f1)
      p2 = MatMul(t1, u2)
      r2 = Relu(p2)
      f2 = MatMul(r2, d2)
      t2 = Add(t1, f2)
      y = MatMul(t2, w3)
    }"""

NESTED = """
    g (float[N,6] x) => (float[N,5] y)
    <float[6,6] w0, float[6,6] a, float[6,10] u, float[10,6] d, float[6,6] b, float[6,5] w3> {
      s = MatMul(x, w0)
      i = MatMul(s, a)
      p = MatMul(i, u)
      r = Relu(p)
      f = MatMul(r, d)
      j = Add(i, f)
      g = MatMul(j, b)
      t = Add(s, g)
      y = MatMul(t, w3)
    }"""


class TestBranches:
    """MACs: 36 in w0, 60 in each of u and d, 30 in w3; a block of BLOCKS is 120 of 306."""

    @staticmethod
    def blocks(text: str = BLOCKS) -> tuple[Net, Cost, dict[str, Branch], dict[str, Ranking]]:
        model = Net.of(text, samples=4)
        ranks = {g.name: Ranking(g, tuple(range(g.size - 1)), np.full(g.size - 1, 0.1)) for g in model.groups.groups}
        return model, Cost(model.groups), find_branches(model.groups).by_name(), ranks

    def chosen(
        self,
        fraction: float,
        prices: dict[str, float],
        limits: Limits | None = None,
        text: str = BLOCKS,
        **costs: float,
    ) -> tuple[dict[str, int], list[str]]:
        _, cost, branches, ranks = self.blocks(text)
        ranked = [Ranking(r.group, r.order, r.costs * costs.get(name, 1.0)) for name, r in ranks.items()]
        removed, gone = select_all(
            ranked, {branches[name]: price for name, price in prices.items()}, cost, Budget("macs", fraction), limits
        )
        names = {r.group.factor: r.group.name for r in ranked}
        return {names[factor]: n for factor, n in removed.items()}, [branch.name for branch in gone]

    def test_a_worthless_branch_goes_first(self) -> None:
        """36 + 120 + 30 of 306 stay: nothing else has to go."""
        for name, other in (("d1", "u2"), ("d2", "u1")):
            removed, gone = self.chosen(0.61, {"d1": 1.0, "d2": 1.0, name: 1e-9})
            assert gone == [name]
            assert removed == {"w0": 0, other: 0}

    def test_a_dear_branch_stays(self) -> None:
        assert self.chosen(0.5, {"d1": 100.0, "d2": 100.0}) == (self.chosen(0.5, {})[0], [])

    def test_a_branch_that_costs_what_its_parts_do_gives_way_where_it_saves_less(self) -> None:
        """Ten components of u1 save 12 each for 0.1: the branch is worth taking below 1.0 only."""
        assert self.chosen(0.61, {"d1": 0.99}, u2=50.0, w0=50.0)[1] == ["d1"]
        removed, gone = self.chosen(0.97, {"d1": 1.01}, u2=50.0, w0=50.0)
        assert (removed["u1"], gone) == (1, [])

    def test_what_was_paid_inside_is_no_longer_owed(self) -> None:
        """u1 gets dearer: at first narrowing costs less, then the branch goes for what is left of its price."""
        _, cost, branches, ranks = self.blocks()
        rising = Ranking(ranks["u1"].group, ranks["u1"].order, np.linspace(0.01, 0.9, 9))
        others = [Ranking(r.group, r.order, r.costs * 1000) for n, r in ranks.items() if n != "u1"]

        offers = [_Offer(r, 1, 1, r.costs) for r in (rising, *others)]
        owed = _Exit(branches["d1"], 2.5, offers)
        assert [offer.ranking.group.name for offer in owed.inner] == ["u1"]
        assert owed.next_cost() == 2.5
        offers[0].removed = 3
        assert owed.next_cost() == pytest.approx(2.5 - (0.01 + 0.12125 + 0.2325))
        offers[0].removed = 9
        assert owed.next_cost() == 0
        # At twelve for each component and 120 for the branch, narrowing costs less until the third is gone.
        removed, gone = select_all([rising, *others], {branches["d1"]: 2.5}, cost, Budget("macs", 1 - 36 / 306))
        assert (removed[rising.group.factor], gone) == (3, [])
        removed, gone = select_all([rising, *others], {branches["d1"]: 2.5}, cost, Budget("macs", 1 - 120 / 306))
        assert gone == [branches["d1"]]

    def test_the_slim_model_costs_what_was_promised(self) -> None:
        for fraction in (0.7, 0.5, 0.3):
            model, cost, branches, ranks = self.blocks()
            ranks["w0"] = Ranking(ranks["w0"].group, ranks["w0"].order, ranks["w0"].costs * 10)
            removed, gone = select_all(
                list(ranks.values()), {branches["d1"]: 0.5, branches["d2"]: 0.9}, cost, Budget("macs", fraction)
            )
            plan = plan_of(list(ranks.values()), removed, {}, gone)
            assert plan.branches
            counts = {factor: len(stays) for factor, stays in plan.resolve(model.groups).items()}
            slim = model.model.clone()
            Slim(plan)(slim)
            after = Cost(Net(slim, {}).groups)
            assert after.total() == Cost(model.groups, gone).total(counts)
            assert after.macs() <= fraction * cost.macs()

    def test_what_a_branch_saves_beyond_the_budget_does_not_count(self) -> None:
        """60 are wanted of the 120 that it saves: at 0.3 for 12 elsewhere it may cost 1.5, not 3."""
        removed, gone = self.chosen(1 - 60 / 306, {"d1": 1.6}, u1=100.0, w0=100.0, u2=3.0)
        assert (removed["u2"], gone) == (5, [])
        removed, gone = self.chosen(1 - 60 / 306, {"d1": 1.4}, u1=100.0, w0=100.0, u2=3.0)
        assert (removed["u2"], gone) == (0, ["d1"])

    def test_a_branch_takes_those_inside_it_along(self) -> None:
        removed, gone = self.chosen(0.4, {"d": 1e-9, "b": 1e-6}, text=NESTED)
        assert gone == ["b"]
        assert set(removed) == {"w0"}

    def test_what_an_inner_branch_cost_is_no_longer_owed_by_the_outer(self) -> None:
        """Without d 102 + 36 are left of 258; a and b save 72 more for what is left of the price."""
        big = {"w0": 1e6, "a": 1e6, "u": 1e6}
        assert self.chosen(0.4, {"d": 0.5, "b": 5.0}, text=NESTED, **big) == ({"w0": 0}, ["b"])
        assert self.chosen(0.54, {"d": 0.5, "b": 5.0}, text=NESTED, **big)[1] == ["d"]

    @pytest.mark.parametrize(
        ("limits", "may"),
        [
            (Limits(), {"d1", "d2"}),
            (Limits(only=("d1",)), {"d1"}),
            (Limits(only=("u*",)), set()),
            (Limits(skip=("d1",)), {"d2"}),
            (Limits(skip=("u2",)), {"d1"}),  # its parameter would go with the branch
        ],
    )
    def test_only_and_skip(self, limits: Limits, may: set[str]) -> None:
        branches = self.blocks()[2]
        assert {name for name, branch in branches.items() if limits.allows_branch(branch)} == may
        assert set(self.chosen(0.01, dict.fromkeys(branches, 0.0), limits)[1]) == may

    def test_a_fraction_of_every_group_leaves_branches_alone(self) -> None:
        _, cost, branches, ranks = self.blocks()
        assert select_all(list(ranks.values()), dict.fromkeys(branches.values(), 0.0), cost, Keep(0.5))[1] == []
