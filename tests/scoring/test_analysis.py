"""Which groups can be scored, why not, and what comes of the rest."""

from __future__ import annotations

import numpy as np
import pytest

from modhifi_graph.axes.groups import Group
from modhifi_graph.scoring.analysis import UNMET, analyse, scorable, unobserved
from modhifi_graph.scoring.scores import CRITERIA

from ..oracles.layers import Net


def test_groups_between_activations_take_inputs_to_be_scored() -> None:
    net = Net.named("attention_separate")
    found, unscored = scorable(net.groups)
    names = {group.name for group in net.groups.groups}
    assert {group.name for group in found} | set(unscored) == names
    assert not {group.name for group in found} & set(unscored)
    dims = [g for g in net.groups.groups if g.size == 4]
    assert [unscored[g.name] for g in dims] == [f"consumed by {dims[0].consumers[0].op}: {UNMET}"]
    analysis = analyse(net.program, net.groups, net.batches, threads=1)
    assert analysis.unscored == {}
    assert {ranking.group.name for ranking in analysis.rankings} == names


@pytest.mark.parametrize("name", ["attention_separate", "attention_fused_split", "attention_gqa", "attention_rope"])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_queries_and_keys_are_ranked_by_every_criterion(name: str, criterion: str) -> None:
    net = Net.named(name, samples=32)
    analysis = analyse(net.program, net.groups, net.batches, criterion=criterion, threads=1)
    assert analysis.unscored == {}
    for ranking in analysis.rankings:
        assert sorted({*ranking.order, *range(ranking.group.size)}) == list(range(ranking.group.size))
        assert len(ranking.order) == len(ranking.costs) == ranking.group.size - 1
        assert np.all(np.isfinite(ranking.costs))
        assert ranking.costs.sum() > 0


def test_layers_that_are_no_linear_map_with_a_weight_are_not_scored() -> None:
    _, unscored = scorable(Net.named("conv_transpose").groups)
    (reason,) = unscored.values()
    assert "scoring ConvTranspose with a weight of 4 axes is not supported" in reason


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_scored_group_is_ranked_and_priced(criterion: str) -> None:
    net = Net.named("residual_projection", samples=32)
    analysis = analyse(net.program, net.groups, net.batches, criterion=criterion, threads=1)
    assert [r.group.name for r in analysis.rankings] == ["w0", "w1", "w2", "w4"]
    assert analysis.unscored == {}
    assert analysis.warnings == ()
    for ranking in analysis.rankings:
        assert len(set(ranking.order)) == len(ranking.order) == ranking.group.size - 1
        assert ranking.costs.shape == (ranking.group.size - 1,)
        assert np.all(np.isfinite(ranking.costs))
        assert np.all(ranking.costs >= 0)
        assert ranking.costs.sum() > 0
    assert {c.op for c in analysis.moments} == {c.op for r in analysis.rankings for c in r.group.consumers}


def test_only_what_is_wanted_is_ranked() -> None:
    net = Net.named("residual_projection", samples=32)

    def wanted(group: Group) -> bool:
        return group.name == "w1"

    analysis = analyse(net.program, net.groups, net.batches, wanted=wanted, threads=1)
    assert [r.group.name for r in analysis.rankings] == ["w1"]
    assert len(analysis.moments) == 1
    assert [r.group.name for r in unobserved(net.groups, "magnitude", wanted, 0).rankings] == ["w1"]


def test_too_few_rows_are_worth_a_warning() -> None:
    net = Net.named("conv_chain", samples=4)
    analysis = analyse(net.program, net.groups, net.batches, threads=1)
    assert len(analysis.warnings) == 2
    assert "64 calibration rows for 72 inputs" in analysis.warnings[0]
    assert "4 calibration rows for 6 inputs" in analysis.warnings[1]


def test_magnitude_needs_no_data() -> None:
    net = Net.named("conv_chain", samples=32)
    blind = unobserved(net.groups, "magnitude", lambda group: True, 0)
    seen = analyse(net.program, net.groups, net.batches, criterion="magnitude", threads=1)
    assert [r.order for r in blind.rankings] == [r.order for r in seen.rankings]
    weight = net.consumers["w1"].weight()[0].reshape(6, 8, 9)
    shares = np.sort((weight.astype(np.float64) ** 2).sum((0, 2))) / (weight.astype(np.float64) ** 2).sum()
    np.testing.assert_allclose(blind.rankings[0].costs, shares[:-1])


def test_local_prices_are_those_of_the_rankings_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net.named("residual_projection", samples=32)
    priced = analyse(net.program, net.groups, net.batches, threads=1)
    local = analyse(net.program, net.groups, net.batches, prices="local", threads=1)
    monkeypatch.setattr("modhifi_graph.scoring.analysis.calibrated", lambda ranking, measured: ranking)
    plain = analyse(net.program, net.groups, net.batches, threads=1)
    for a, b, c in zip(local.rankings, plain.rankings, priced.rankings, strict=True):
        assert a.order == b.order == c.order
        np.testing.assert_allclose(a.costs, b.costs, rtol=1e-12)
        assert not np.allclose(a.costs, c.costs)
