"""The step is the one at which the engine is cheapest for what it computes."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
import pytest

from modhifi_graph.axes.cost import Cost
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Groups, find_groups
from modhifi_graph.axes.layout import Layout
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.latency.steps import STEPS, best_step, odd_multiples
from modhifi_graph.passes.normal_form import normalise

from ..oracles import small
from .known import TEXT


def groups_of(text: str) -> Groups:
    return find_groups(couple(lift(normalise(ir.from_proto(small.build(text)), "graph")).graph))


@pytest.mark.parametrize("block", STEPS)
def test_an_engine_that_works_in_blocks_wants_blocks(block: int) -> None:
    groups = groups_of(TEXT)
    cost = Cost(groups)

    def padded(counts: Mapping[Layout, int]) -> float:
        return cost.macs({factor: -(-count // block) * block for factor, count in counts.items()}) * 1e-6

    assert best_step(groups.groups, padded, cost.macs) == (block if block > 2 else 1), "a percent more is no reason"


def test_an_engine_that_does_not_care_and_groups_that_are_narrow() -> None:
    groups = groups_of(TEXT)
    cost = Cost(groups)
    assert best_step(groups.groups, cost.macs, cost.macs) == 1
    narrow = groups_of(TEXT.replace("64", "24").replace("128", "16"))

    def unasked(counts: Mapping[Layout, int]) -> float:
        raise AssertionError("there is nothing to time")

    assert best_step(narrow.groups, unasked, Cost(narrow).macs) == 1


def test_starting_up_says_nothing_about_the_step() -> None:
    groups = groups_of(TEXT)
    cost = Cost(groups)
    assert best_step(groups.groups, lambda counts: 1e3 + cost.macs(counts), cost.macs) == 1
    assert best_step(groups.groups, lambda counts: 1e5 + cost.macs(counts), cost.macs) == 1


def test_odd_multiples() -> None:
    assert [odd_multiples(48, step, 64) for step in STEPS] == [(48, 64), (40, 56), (44, 52), (46, 50), (47, 49)]
    assert [odd_multiples(24, step, 32) for step in STEPS] == [(16, 32), (24, 32), (20, 28), (22, 26), (23, 25)]
