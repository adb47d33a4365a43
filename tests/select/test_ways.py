"""Plans by predicted milliseconds and by multiply-accumulates, in coarse steps and in fine ones."""

from __future__ import annotations

from functools import cache

import onnx_ir as ir
import pytest

from modhifi_graph.axes.cost import Cost
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.passes.normal_form import normalise
from modhifi_graph.scoring.analysis import analyse
from modhifi_graph.select.budget import Limits
from modhifi_graph.select.ways import Chooser, Way

from ..latency.known import TEXT, KnownTimer, at_width_eight
from ..oracles import small


@cache
def chooser(align: int | None = None, min_keep: int = 1) -> Chooser:
    model = small.build(TEXT)
    dense = lift(normalise(ir.from_proto(model), "graph"))
    groups = find_groups(couple(dense.graph))
    feeds = small.samples(model, 0, 64)
    law = at_width_eight(dense, groups, feeds, KnownTimer())
    limits = Limits(align=align, min_keep=min_keep)
    return Chooser(analyse(dense, groups, [feeds], threads=1), law, Cost(groups), limits, {"seed": 0})


def test_ways_are_the_measured_step_half_of_it_and_the_default() -> None:
    assert list(chooser().ways(4)) == [Way(by, step) for step in (4, 2, None) for by in ("latency", "macs")]
    assert list(chooser().ways(1)) == [Way(by, step) for step in (1, None) for by in ("latency", "macs")]
    assert list(chooser(align=4).ways(4)) == [Way("latency", 4), Way("macs", 4)], "the user said which"


@pytest.mark.parametrize("by", ["latency", "macs"])
@pytest.mark.parametrize("step", [16, 4, 1])
@pytest.mark.parametrize("fraction", [0.8, 0.5])
def test_plans_leave_what_was_asked_for_in_multiples_of_the_step(by: str, step: int, fraction: float) -> None:
    way = Way(by, step)
    plan = chooser().plan(fraction, way)
    assert all(len(entry.keep) % step == 0 for entry in plan.groups)
    left = chooser().fraction(plan, way)
    assert left <= fraction * (1 + 1e-9)
    assert left >= fraction - 0.03 * step, "and hardly less"
    assert plan.settings["seed"] == 0


def test_by_macs_fewer_are_left_and_by_latency_less_time() -> None:
    one = Way("macs", 4)
    found = chooser().plan(0.5, one)
    cost = chooser().cost
    left = {entry.name: len(entry.keep) for entry in found.groups}
    counts = {r.group.factor: left.get(r.group.name, r.group.size) for r in chooser().analysis.rankings}
    assert chooser().fraction(found, one) == cost.macs(counts) / cost.macs({})
    assert chooser().fraction(found, Way("latency", 4)) == pytest.approx(
        chooser().model.total(counts)[0] / chooser().model.total({})[0]
    )
    assert chooser().fraction(found, Way("latency", 4)) > 0.5, "starting up stays"


def test_losses_are_the_prices_of_what_goes() -> None:
    assert chooser().loss(chooser().plan(1.0, Way("macs", 1))) == 0
    losses = [chooser().loss(chooser().plan(fraction, Way("macs", 1))) for fraction in (0.9, 0.6, 0.3)]
    assert 0 < losses[0] < losses[1] < losses[2]
    coarse, fine = (chooser().loss(chooser().plan(0.5, Way("macs", step))) for step in (16, 1))
    assert fine < coarse
    assert chooser().plan(0.5, Way("macs", None)).groups == chooser().plan(0.5, Way("macs", 8)).groups, "both are wide"


def test_all_is_spent_where_the_fewest_stay() -> None:
    everything = chooser(min_keep=32).plan(1e-6, Way("latency", 8))
    assert {len(entry.keep) for entry in everything.groups} == {32}
    assert chooser(min_keep=32).spent(everything, Way("latency", 8))
    assert not chooser(min_keep=24).spent(everything, Way("latency", 8))
    assert not chooser(min_keep=32).spent(chooser(min_keep=32).plan(0.9, Way("latency", 8)), Way("latency", 8))
