"""The latency model, with an engine whose times are known, and with a real one."""

from __future__ import annotations

import numpy as np
import pytest

from modhifi_graph.axes.branches import find_branches
from modhifi_graph.axes.groups import Groups
from modhifi_graph.latency.model import LatencyModel
from modhifi_graph.latency.timer import Timer
from modhifi_graph.latency.widths import configurations, width

from ..oracles import small
from .known import MEMORY, RESIDUAL, START, TEXT, WORK, KnownTimer, at_width_eight, opened


@pytest.fixture(scope="module")
def known() -> tuple[LatencyModel, Groups]:
    model = small.build(TEXT)
    whole, groups = opened(model)
    return at_width_eight(whole, groups, small.samples(model, 0, 1), KnownTimer()), groups


def test_it_finds_the_law(known: tuple[LatencyModel, Groups]) -> None:
    model, groups = known
    random = np.random.default_rng(0)
    for _ in range(20):
        counts = {group.factor: int(random.integers(1, group.size + 1)) for group in groups.groups}
        a, b = counts.values()
        expected = 3 * START / 2
        for inputs, outputs in ((32, a), (a, b), (b, 16)):
            expected += 1.5 * (WORK * inputs * outputs + MEMORY * (inputs * outputs + outputs + inputs + outputs))
        assert model.total(counts)[0] == pytest.approx(expected, rel=1e-6)


def test_savings_add_up(known: tuple[LatencyModel, Groups]) -> None:
    model, groups = known
    counts = {group.factor: group.size for group in groups.groups}
    spent = model.total()[0]
    for group in (*groups.groups, *groups.groups):
        spent -= model.saving(group.factor, counts, 16)[0]
        counts[group.factor] -= 16
        assert model.total(counts)[0] == pytest.approx(spent, rel=1e-9)
    assert all(model.uses(group.factor) for group in groups.groups)


def test_a_branch_takes_its_layers_with_it_and_what_follows_them() -> None:
    model = small.build(RESIDUAL)
    whole, groups = opened(model)
    law = at_width_eight(whole, groups, small.samples(model, 0, 1), KnownTimer())
    (branch,) = find_branches(groups).found
    bill = law.bill(branch)({})[0]
    assert [a.piece.name for a in law.laws if a.piece.ops[0] in branch.ops] == ["h1", "h2"]
    assert bill == pytest.approx(
        2 * START / 2 + 1.5 * (2 * WORK * 64 * 48 + MEMORY * (2 * 64 * 48 + 3 * 64 + 3 * 48)), rel=1e-3
    )
    assert law.without(branch).total()[0] == pytest.approx(law.total()[0] - bill)
    assert len(law.without(branch).laws) == 2


def test_a_real_engine_grows_with_its_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODHIFI_CACHE", "")
    model = small.build(TEXT.replace("64", "512").replace("128", "1024"))
    whole, groups = opened(model)
    timer = Timer("onnxruntime", threads=1)
    found = at_width_eight(whole, groups, small.samples(model, 0, 8), timer)
    half = {group.factor: group.size // 2 for group in groups.groups}
    assert 0 < found.total(half)[0] < found.total()[0]
    assert found.engine["backend"] == "onnxruntime"
    asked = timer.measured
    at_width_eight(whole, groups, small.samples(model, 0, 8), timer)
    assert timer.measured == asked, "what has been timed is not timed again"


class TestWidths:
    def test_they_are_multiples(self) -> None:
        levels = (1.0, 0.75, 0.5, 0.25)
        assert [width(64, level, 8) for level in levels] == [64, 48, 32, 16]
        assert [width(24, level, 16) for level in levels] == [24, 16, 16, 16]

    def test_the_step_is_halved_for_narrow_groups(self) -> None:
        levels = (1.0, 0.6, 0.2)
        assert [width(16, level, 16) for level in levels] == [16, 8, 8]
        assert [width(3, level, 8) for level in levels] == [3, 2, 2]
        assert [width(1, level, 8) for level in levels] == [1, 1, 1]

    def test_groups_of_one_size_go_together_and_every_pair_of_levels_is_seen(self) -> None:
        _, groups = opened(small.build(TEXT))
        found = configurations(groups.groups, 8)
        assert found[0] == {}
        first, second = groups.groups
        pairs = {(counts[first.factor], counts[second.factor]) for counts in found[1:]}
        assert len(pairs) >= 8
        assert {a for a, _ in pairs} == {16, 24, 32, 40, 48, 56, 64}, "odd multiples too"
        assert found == configurations(groups.groups, 8), "the same seed gives the same widths"
