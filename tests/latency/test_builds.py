"""Which of several builds counts."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import pytest

from modhifi_graph.latency.builds import BUILDS, Builds, Timed
from modhifi_graph.latency.turns import Comparison, Timing

MODEL = onnx.ModelProto()


def comparison(dense: float, slim: float) -> Comparison:
    """Of two engines that always take so many milliseconds."""
    before, after = (Timing(time, time, time, 0.0, 30, time, 0) for time in (dense, slim))
    ratio = dense / slim
    return Comparison(before, after, ratio, (0.9 * ratio, 1.1 * ratio))


def of(*times: tuple[float, float]) -> tuple[Builds, Iterator[tuple[float, float]]]:
    """Builds that take these milliseconds one after the other, and those not yet made."""
    left = iter(times)
    return Builds(lambda model: comparison(*next(left))), left


def test_it_is_the_one_in_the_middle() -> None:
    builds, left = of((10, 8), (10, 4), (10, 5), (10, 1))
    assert builds.timed(MODEL) == Timed(2.0, (1.8, 2.2), 5)
    assert BUILDS == 3
    assert list(left) == [(10, 1)]


def test_a_single_one() -> None:
    assert of((10, 5))[0].timed(MODEL, 1).speedup == 2


def test_disturbed_ones_are_made_again() -> None:
    builds, left = of((10, 5), (16, 5), (17, 5), (10.5, 5), (9.9, 5), (1, 1))
    assert builds.timed(MODEL).speedup == pytest.approx(2.0), "9.9, 10 and 10.5 are undisturbed"
    assert list(left) == [(1, 1)]


def test_what_was_disturbed_is_known_from_earlier_models() -> None:
    builds, left = of((10, 5), (10, 5), (10, 5), (15, 5), (15, 5), (10, 2), (1, 1))
    assert builds.timed(MODEL).speedup == 2
    assert builds.timed(MODEL, 1).speedup == 3, "two tries, both disturbed: the first of those equally so"
    assert next(left) == (10, 2)


def test_a_machine_that_is_never_quiet_gets_twice_as_many_builds() -> None:
    builds, left = of((10, 5), (20, 10), (20, 10), (30, 5), (30, 5), (40, 5), (1, 1))
    assert builds.timed(MODEL).speedup == 2, "the three least disturbed"
    assert list(left) == [(1, 1)]
