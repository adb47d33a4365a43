"""Timing, on clocks that the tests drive."""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import pytest

from modhifi_graph.errors import InputError
from modhifi_graph.latency.turns import Comparison, Timing, compare, ratio_interval

MILLISECOND = 1_000_000


class FakeClock:
    """A clock that only moves while a job runs; it writes down which one did."""

    def __init__(self) -> None:
        self.now = 0
        self.order: list[str] = []

    def __call__(self) -> int:
        return self.now

    def job(self, name: str, *durations: float) -> Callable[[], None]:
        """A callable that takes these milliseconds in turn, over and over."""
        calls = 0

        def run() -> None:
            nonlocal calls
            self.now += round(durations[calls % len(durations)] * MILLISECOND)
            self.order.append(name)
            calls += 1

        return run


def test_statistics_of_known_durations() -> None:
    assert Timing.of(np.arange(1.0, 102.0)) == Timing(
        median=51.0, p95=96.0, minimum=1.0, spread=50.0, n=101, maximum=101.0, outliers=0
    )


def test_outliers_are_counted_and_kept() -> None:
    found = Timing.of(np.array([*np.linspace(1.0, 2.0, 99), 50.0]))
    assert (found.outliers, found.maximum, found.n) == (1, 50.0, 100)
    assert Timing.of(np.array([1.0, 1.1, 1.2, 4.0])).outliers == 0, "within three interquartile ranges"


def test_one_callable_alone() -> None:
    clock = FakeClock()
    result = compare(clock.job("a", 1, 2, 3), seconds=0, warmup=0, min_runs=3, clock=clock)
    assert result.a == Timing(median=2.0, p95=2.9, minimum=1.0, spread=1.0, n=3, maximum=3.0, outliers=0)
    assert (result.b, result.speedup, result.interval, result.significant) == (None, None, None, False)


def test_strictly_in_turns_and_warmup_is_thrown_away() -> None:
    clock = FakeClock()
    # The first two runs of each are slow, and must leave no trace.
    a, b = clock.job("a", 900, 900, 4, 4, 4, 4), clock.job("b", 900, 900, 2, 2, 2, 2)
    result = compare(a, b, seconds=0, warmup=2, min_runs=4, clock=clock)
    assert "".join(clock.order) == "abab" + "abababab"
    assert result.b is not None
    assert (result.a.median, result.b.median, result.a.n, result.b.n) == (4.0, 2.0, 4, 4)
    assert result.a.p95 == 4.0
    assert result.speedup == 2.0
    assert result.interval == (2.0, 2.0)
    assert result.significant


def test_stops_at_the_budget_between_fewest_and_most_runs() -> None:
    def runs(seconds: float, most: int = 1000) -> int:
        clock = FakeClock()
        a, b = clock.job("a", 3), clock.job("b", 2)
        return compare(a, b, seconds=seconds, min_runs=10, max_runs=most, clock=clock).a.n

    assert runs(seconds=0.0) == 10
    assert runs(seconds=0.5) == 100
    assert runs(seconds=0.5, most=20) == 20


def test_a_drift_that_slows_both_does_not_hide_the_ratio() -> None:
    drift = np.linspace(1, 3, 60)
    clock = FakeClock()
    result = compare(
        clock.job("a", *(2 * drift)), clock.job("b", *drift), seconds=0, warmup=0, min_runs=60, clock=clock
    )
    assert result.speedup == pytest.approx(2.0, abs=1e-6)
    assert result.interval is not None
    low, high = result.interval
    assert low == pytest.approx(2.0, abs=1e-6)
    assert high == pytest.approx(2.01258, abs=1e-5), "the A after it is up to 3.4 % slower than the one before"


def test_a_machine_that_is_slow_for_half_the_time_does_not_hide_the_ratio() -> None:
    # As long as A sees one slow run more than B, the median of A is a slow one and that of B is a fast one.
    slow = [1] * 30 + [3] * 31
    clock = FakeClock()
    a, b = clock.job("a", *(2 * np.array(slow))), clock.job("b", *([1.0] * 31 + [3.0] * 30))
    result = compare(a, b, seconds=0, warmup=0, min_runs=61, clock=clock)
    assert result.b is not None
    assert result.a.median / result.b.median == 6.0
    assert result.speedup == 2.0
    assert result.interval == (2.0, 2.0)


def test_a_run_shorter_than_a_tick_counts_as_one() -> None:
    clock = FakeClock()
    result = compare(clock.job("a", 1), clock.job("b", 0), seconds=0, clock=clock)
    assert result.speedup == MILLISECOND


def test_garbage_collection_is_off_inside_and_restored() -> None:
    inside: list[bool] = []
    assert gc.isenabled()
    compare(lambda: inside.append(gc.isenabled()), seconds=0, min_runs=5)
    assert set(inside) == {False}
    assert gc.isenabled()

    def fail() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        compare(fail)
    assert gc.isenabled()
    gc.disable()
    try:
        compare(lambda: None, seconds=0)
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "wrong", [{"min_runs": 0}, {"min_runs": 9, "max_runs": 8}, {"warmup": -1}, {"seconds": float("nan")}]
)
def test_refuses_impossible_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="min_runs <= max_runs"):
        compare(lambda: None, **wrong)  # type: ignore[arg-type]


def test_the_interval_covers_the_true_ratio_about_95_times_in_100() -> None:
    random = np.random.default_rng(7)
    covered, widths = 0, []
    for trial in range(100):
        noise = random.lognormal(0, 0.1, (60, 2))
        low, high = ratio_interval(noise * [3.0, 2.0], seed=trial)
        covered += low <= 1.5 <= high
        widths.append(high - low)
    assert 88 <= covered <= 100
    # A ratio's log has sqrt(2) sigma, its median's standard error is 1.2533 / sqrt(n) of that: 1.5 * 2 * 1.96 * 0.0229.
    assert np.mean(widths) == pytest.approx(0.134, rel=0.15)


def test_no_difference_is_seldom_significant() -> None:
    random = np.random.default_rng(3)
    intervals = [ratio_interval(random.lognormal(0, 0.1, (60, 2)), seed=trial) for trial in range(50)]
    assert sum(low > 1 or high < 1 for low, high in intervals) <= 6


def test_noise_that_lasts_widens_the_interval() -> None:
    random = np.random.default_rng(5)
    slow = np.repeat(random.lognormal(0, 0.2, (25, 2)), 8, axis=0)
    shuffled = random.permutation(slow)
    low, high = ratio_interval(slow)
    low_shuffled, high_shuffled = ratio_interval(shuffled)
    assert high - low > 1.3 * (high_shuffled - low_shuffled)


def test_the_interval_repeats_with_the_seed() -> None:
    pairs = np.random.default_rng(0).lognormal(0, 0.3, (40, 2))
    assert ratio_interval(pairs, seed=1) == ratio_interval(pairs, seed=1)
    assert ratio_interval(pairs, seed=1) != ratio_interval(pairs, seed=2)
    assert ratio_interval(np.array([[3.0, 2.0]])) == (1.5, 1.5)


def test_significance_is_whether_two_builds_of_one_model_lie_outside() -> None:
    timing = Timing(1.0, 1.0, 1.0, 0.0, 30, 1.0, 0)
    intervals = [(0.9, 1.1), (1.06, 1.2), (0.8, 0.95), (1, 2), (1.015, 1.02), (0.96, 0.97)]
    verdicts = [Comparison(timing, timing, 1.0, interval).significant for interval in intervals]
    assert verdicts == [False, True, True, False, False, False]


def test_json_keys() -> None:
    timing = Timing(2.0, 3.0, 1.0, 0.5, 30, 4.0, 0)
    engine, place = {"backend": "onnxruntime"}, {"cores": 2}
    assert Comparison(timing, timing, 1.0, (0.9, 1.1), 4, engine, place).to_json() == {
        "a": {"median": 2.0, "p95": 3.0, "minimum": 1.0, "spread": 0.5, "n": 30, "maximum": 4.0, "outliers": 0},
        "b": {"median": 2.0, "p95": 3.0, "minimum": 1.0, "spread": 0.5, "n": 30, "maximum": 4.0, "outliers": 0},
        "speedup": 1.0,
        "interval": [0.9, 1.1],
        "significant": False,
        "batch": 4,
        "engine": engine,
        "machine": place,
    }
    alone = Comparison(timing).to_json()
    assert (alone["b"], alone["speedup"], alone["interval"]) == (None, None, None)
