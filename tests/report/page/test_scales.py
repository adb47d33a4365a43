"""Axes: round ticks around all that is shown, and numbers in as many digits as they need."""

from __future__ import annotations

import pytest

from modhifi_graph.report.page import scales


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        (1.0, 1.64, 6, [1.0, 1.2, 1.4, 1.6, 1.8]),
        (0.0, 0.0704, 4, [0.0, 0.02, 0.04, 0.06, 0.08]),
        (0.97, 1.0, 5, [0.97, 0.98, 0.99, 1.0]),
        (0.0, 363.0, 4, [0.0, 100.0, 200.0, 300.0, 400.0]),
        (-0.3, 1.0, 5, [-0.5, 0.0, 0.5, 1.0]),
        (2.0, 2.0, 5, [2.0, 2.5, 3.0, 3.5, 4.0]),
    ],
)
def test_round_ticks_hold_both_ends(low: float, high: float, most: int, ticks: list[float]) -> None:
    found = scales.linear(low, high, most)
    assert found.low <= low + 1e-9
    if high > low:
        assert found.ticks == pytest.approx(ticks)
        assert found.high >= high - 1e-9
    assert len(found.ticks) <= most + 1


def test_places_are_percentages_and_stay_on_the_axis() -> None:
    axis = scales.Scale(1.0, 2.0, 0.5)
    assert [axis(value) for value in (1.0, 1.25, 2.0, 9.0, -9.0)] == [0.0, 25.0, 100.0, 100.0, 0.0]


@pytest.mark.parametrize(("step", "value", "label"), [(0.2, 1.4, "1.4"), (0.025, 0.05, "0.050"), (50, 150, "150")])
def test_ticks_have_the_decimals_of_their_step(step: float, value: float, label: str) -> None:
    assert scales.Scale(0, 1, step).label(value) == label


def test_powers_of_ten() -> None:
    axis = scales.decades(2e-5, 0.3)
    assert (axis.low, axis.high) == (-5, 0)
    assert axis.ticks == [-5, -4, -3, -2, -1, 0]
    assert axis(1e-5) == 0.0
    assert axis(1e-1) == 80.0
    assert axis(0.0) == 0.0
    assert scales.decades(1e-12, 1.0).low == -6  # what is far below is no longer told apart
    assert scales.decades(1.0, 1.0).ticks == [-1, 0]
    assert [scales.power(exponent) for exponent in (-12, 0, 1, 3)] == ["10⁻¹²", "1", "10", "10³"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.99986, "0.99986"), (0.98, "0.980"), (0.5, "0.500"), (1.0, "1.000000"), (-0.25, "-0.250")]
)
def test_a_fidelity_shows_what_is_missing(value: float, text: str) -> None:
    assert scales.near_one(value) == text


def test_small_numbers() -> None:
    assert scales.brief(0.0312) == "0.031"
    assert scales.brief(0.0) == "0"
    assert scales.brief(4.21e-5) == "4.2 \N{MULTIPLICATION SIGN} 10⁻⁵"
    assert [scales.milliseconds(value) for value in (123.4, 12.34, 1.234, 0.01234, 0.0)] == [
        "123", "12.3", "1.23", "0.0123", "0.0000",
    ]  # fmt: skip
