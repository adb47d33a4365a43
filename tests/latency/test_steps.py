"""The step is the one at which the engine is cheapest for what it computes."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
import pytest

from modhifi_graph.accounting import Cost
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Groups, find_groups
from modhifi_graph.axes.layout import Layout
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.latency.steps import STEPS, best_step, odd_multiple
from modhifi_graph.models import normalise

from ..oracles import small
from .test_model import TEXT


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


def test_odd_multiples() -> None:
    assert [odd_multiple(48, step) for step in STEPS] == [48, 56, 52, 50, 49]
    assert [odd_multiple(3, step) for step in STEPS] == [16, 8, 4, 2, 3]
