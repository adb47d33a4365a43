"""Honest timing: two callables in turns, and how sure the ratio of their times is."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modhifi_graph.errors import InputError

RESAMPLES = 2000

OUTER_FENCE = 3.0

APART = 1.05
"""Two builds of one model differ, for a compiler puts things in memory as it comes: of models of 0.1 to 0.5 ms by less than 1 %
in most and by 4.4 % in one of seventy. No interval of one pair of builds sees that, so ratios nearer to 1 are not called a
difference."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long one call takes; everything but `n` is in milliseconds.

    Attributes
    ----------
    median, p95, minimum : float
        The 50th and 95th percentile (linear interpolation) and the fastest run.
    spread : float
        Interquartile range, the 75th less the 25th percentile.
    n : int
        Timed runs; warm-up is not among them.
    maximum : float
        The slowest run.
    outliers : int
        Runs further than three interquartile ranges above the 75th percentile (Tukey's outer fence); they are counted, not
        dropped.
    """

    median: float
    p95: float
    minimum: float
    spread: float
    n: int
    maximum: float
    outliers: int

    @classmethod
    def of(cls, milliseconds: NDArray[np.float64]) -> Timing:
        """Summarise durations of shape (n,), n >= 1, in milliseconds."""
        lower, median, upper, p95 = (float(q) for q in np.percentile(milliseconds, [25, 50, 75, 95]))
        outliers = int((milliseconds > upper + OUTER_FENCE * (upper - lower)).sum())
        low, high = float(milliseconds.min()), float(milliseconds.max())
        return cls(median, p95, low, upper - lower, len(milliseconds), high, outliers)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A alone, or A against B.

    Attributes
    ----------
    a, b : Timing
        `b` is None when only A was timed, and so are `speedup` and `interval`.
    speedup : float or None
        Median of A's time / B's over all runs of B, each with the run of A before it and with the one after: above 1, B is
        faster. What is run within moments is slowed alike by a machine that is slow for a while; the ratio of two medians
        would take one from before and one from after. With only the runs of A before, a model beside itself is 1 % faster.
    interval : (float, float) or None
        95 % confidence interval of `speedup`.
    batch : int or None
        Samples in each run. None where plain callables were timed, as are the two that follow.
    engine : mapping or None
        How both were compiled: what :meth:`modhifi_graph.exporters.backend.Engine.describe` says.
    machine : mapping or None
        Where they ran: what :func:`modhifi_graph.latency.machine.describe` says.
    """

    a: Timing
    b: Timing | None = None
    speedup: float | None = None
    interval: tuple[float, float] | None = None
    batch: int | None = None
    engine: Mapping[str, Any] | None = None
    machine: Mapping[str, Any] | None = None

    @property
    def significant(self) -> bool:
        """Whether the interval is :func:`apart` from 1. False when only A was timed."""
        return self.interval is not None and apart(self.interval)

    def to_json(self) -> dict[str, Any]:
        """Plain values with the keys a, b, speedup, interval, significant, batch, engine and machine; absent ones are None."""
        return {
            "a": dataclasses.asdict(self.a),
            "b": None if self.b is None else dataclasses.asdict(self.b),
            "speedup": self.speedup,
            "interval": None if self.interval is None else list(self.interval),
            "significant": self.significant,
            "batch": self.batch,
            "engine": None if self.engine is None else dict(self.engine),
            "machine": None if self.machine is None else dict(self.machine),
        }


def apart(interval: Sequence[float]) -> bool:
    """Whether all of the interval of a ratio is further from 1 than two builds of one model are (:data:`APART`)."""
    low, high = interval
    return low > APART or high < 1 / APART


def compare(
    a: Callable[[], object],
    b: Callable[[], object] | None = None,
    *,
    seconds: float = 2.0,
    warmup: int = 5,
    min_runs: int = 30,
    max_runs: int = 10_000,
    clock: Callable[[], int] = time.perf_counter_ns,
    seed: int = 0,
) -> Comparison:
    """Time A, or A and B in turns.

    Strictly in turns, A B A B ...: what the machine does meanwhile falls on both alike, and each run finds the caches as
    the other model left them. Were pairs to change order (A B, B A), every second run would follow one of its own and find
    its weights there: 15 % faster for an engine of half a millisecond, and a median between two such modes means neither.
    So a small model that is run back to back, with nothing in between, is faster than is said here, and the slim one gains
    more by it. Garbage collection is off while timing and put back as it was.

    Parameters
    ----------
    a, b : callable
        What to time. Without `b` only A is timed.
    seconds : float, default 2.0
        Stop once the timed runs of A and B together took this long (and `min_runs` is reached).
    warmup : int, default 5
        Pairs run first and thrown away, >= 0.
    min_runs, max_runs : int, default 30 and 10000
        Fewest and most timed pairs, 1 <= min_runs <= max_runs.
    clock : callable, default time.perf_counter_ns
        The time in nanoseconds. Tests inject their own.
    seed : int, default 0
        Seed of the bootstrap.

    Returns
    -------
    Comparison
        With `batch`, `engine` and `machine` None: a callable does not tell.

    Raises
    ------
    InputError
        A parameter is out of range.
    """
    if not 1 <= min_runs <= max_runs or warmup < 0 or not seconds >= 0:
        raise InputError(
            f"cannot time with seconds={seconds}, warmup={warmup}, min_runs={min_runs}, max_runs={max_runs}: "
            "expected seconds >= 0, warmup >= 0 and 1 <= min_runs <= max_runs"
        )
    return compare_timed(
        [timed(call, clock) for call in (a, b) if call is not None], seconds, warmup, min_runs, max_runs, seed
    )


def timed(call: Callable[[], object], clock: Callable[[], int]) -> Callable[[], int]:
    """Calls it and gives the nanoseconds that it took."""

    def run() -> int:
        start = clock()
        call()
        return clock() - start

    return run


def compare_timed(
    calls: Sequence[Callable[[], int]],
    seconds: float,
    warmup: int = 5,
    min_runs: int = 30,
    max_runs: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """As :func:`compare`, of calls that give the nanoseconds that they took."""
    pairs = _timed_pairs(calls, int(seconds * 1e9), warmup, min_runs, max_runs)
    milliseconds = np.asarray(pairs, dtype=np.float64) / 1e6
    first = Timing.of(milliseconds[:, 0])
    if len(calls) == 1:
        return Comparison(first)
    second = Timing.of(milliseconds[:, 1])
    return Comparison(first, second, float(np.median(_ratios(milliseconds))), ratio_interval(milliseconds, seed))


def _timed_pairs(
    calls: Sequence[Callable[[], int]], budget: int, warmup: int, min_runs: int, max_runs: int
) -> list[list[int]]:
    """Nanoseconds of every timed run, one row a pair, one column a callable."""
    times: list[int] = []
    spent, width = 0, len(calls)
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for call in list(calls) * warmup:
            call()
        while len(times) < max_runs * width and (len(times) < min_runs * width or spent < budget):
            for call in calls:
                # A clock too coarse to see the run took at most one tick; zero would make the ratio infinite.
                elapsed = max(call(), 1)
                times.append(elapsed)
                spent += elapsed
    finally:
        if collecting:
            gc.enable()
    return [times[start : start + width] for start in range(0, len(times), width)]


def _ratios(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """A over B, shape (n, 2): of each B with the A before and after it. After the last there is none: the one before counts."""
    a, b = pairs.T
    return np.stack([a / b, np.append(a[1:], a[-1]) / b], axis=1)


def ratio_interval(pairs: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """95 % confidence interval of :attr:`Comparison.speedup`.

    A percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13) over pairs.
    Successive pairs are not independent (the clock frequency drifts), so pairs are drawn in blocks of round(n^(1/3))
    successive ones, wrapping around (the circular block bootstrap, Politis and Romano 1992). Costs O(2000 n).

    Parameters
    ----------
    pairs : array of shape (n, 2)
        Durations of A and of B, positive, any unit, in the order measured.
    seed : int, default 0
        The same pairs and seed give the same interval.

    Returns
    -------
    (float, float)
        Lower and upper bound. With one pair both are its ratio.
    """
    n = len(pairs)
    length = max(1, round(n ** (1 / 3)))
    random = np.random.default_rng(seed)
    ratios = _ratios(pairs)
    medians = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        starts = random.integers(n, size=-(-n // length))
        chosen = (starts[:, None] + np.arange(length)).ravel()[:n] % n
        medians[i] = np.median(ratios[chosen])
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(low), float(high)
