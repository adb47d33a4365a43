"""Spectra: what is lost at every width of a group, dearest first, in no more than so many numbers."""

from __future__ import annotations

import numpy as np
import pytest

from modhifi_graph.axes.groups import Group
from modhifi_graph.axes.layout import leaf
from modhifi_graph.scoring.scores import Ranking
from modhifi_graph.scoring.spectrum import CELLS, spectrum


def ranking(order: list[int], costs: list[float]) -> Ranking:
    size = len(order) + 1
    return Ranking(Group("g", leaf(size), size, "channels", (), ()), tuple(order), np.array(costs))


def test_losses_are_running_sums_and_the_last_component_has_none() -> None:
    found = spectrum(ranking([2, 0, 3], [1e-3, 2e-3, 0.5]), kept=(1, 3))
    assert found == {"per": 1, "stays": [None, 0.503], "went": [0.003, 0.001]}


def test_noise_below_zero_does_not_lower_what_is_lost() -> None:
    assert spectrum(ranking([0, 1], [0.2, -0.1]), kept=(2,))["went"] == [0.2, 0.2]


def test_a_group_of_which_nothing_is_left() -> None:
    assert spectrum(ranking([0], [0.25]), kept=()) == {"per": 1, "stays": [], "went": [None, 0.25]}


@pytest.mark.parametrize(("size", "per"), [(CELLS, 1), (CELLS + 1, 2), (2048, 16)])
def test_wide_groups_share_numbers(size: int, per: int) -> None:
    order = list(range(size - 1))
    found = spectrum(ranking(order, [1.0] * len(order)), kept=range(size // 2, size))
    assert found["per"] == per
    assert len(found["stays"]) + len(found["went"]) <= CELLS + 1
    # Each is the dearest of those that share it: half of the components have gone, one after the other.
    assert found["went"][0] == size // 2
    assert found["went"][1] == size // 2 - per
    assert found["stays"][0] == (None if per == 1 else size - 1)
