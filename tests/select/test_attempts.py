"""Which of several attempts is best for a goal."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from modhifi_graph import Latency, Speedup
from modhifi_graph.select.attempts import AIM, Attempt, best, best_share, finalists, nearest, share


def tried(
    speedup: float, loss: float = 0.1, by: str = "latency", step: int = 16, builds: int = 3
) -> tuple[Attempt, Any]:
    """Of a dense engine that takes 8 ms; the plan is only a name."""
    made = Attempt(1 / speedup, speedup, (speedup, speedup), 8 / speedup, loss, by=by, step=step, builds=builds)
    return made, f"{by} {step} {speedup:g}"


def test_shares() -> None:
    pair, _ = tried(1.6)
    assert share(pair, Speedup(2.0)) == pytest.approx(0.8)
    assert share(pair, Latency(4.0)) == pytest.approx(0.8)
    both = [tried(1.6)[0], tried(3.2)[0]]
    assert best_share(both, Speedup(9.0)) == 3.2
    assert best_share(both, Latency(1.0)) == 2.5


def test_the_nearest_is_fast_enough_and_near_the_aim() -> None:
    pairs = [tried(1.6), tried(2.6), tried(3.5)]
    assert nearest(pairs, Speedup(2.0)) is pairs[1]
    assert nearest(pairs, Speedup(9.0)) is pairs[2], "the fastest where none is"
    assert nearest(pairs, Latency(2.6)) is pairs[2]
    assert nearest(pairs, Latency(3.05)) is pairs[1], "0.99 of it is as good as can be told"
    assert nearest(pairs, Latency(8 / 1.65)) is pairs[1], "0.97 of it is not enough"


def test_tolls_are_losses_at_the_aim() -> None:
    at_aim = tried(2 * AIM, 0.3)[0]
    assert at_aim.toll(Speedup(2.0)) == pytest.approx(0.3)
    assert at_aim.toll(Latency(4.0)) == pytest.approx(0.3)
    faster = tried(4.0, 0.3)[0]
    assert faster.toll(Speedup(2.0)) == pytest.approx(0.3 * (math.log(2 * AIM) / math.log(4)) ** 2)
    assert tried(0.9, 0.3)[0].toll(Speedup(2.0)) > 1e4, "what is no faster will hardly come there"


def test_the_way_that_loses_least_is_best() -> None:
    coarse, fine, macs = tried(1.53, 0.30), tried(1.53, 0.20, step=8), tried(1.53, 0.25, by="macs")
    assert best([coarse, fine, macs], Speedup(1.5)) is fine
    assert best([coarse, macs], Speedup(1.5)) is macs
    assert best([coarse, tried(1.40, 0.1, step=8)], Speedup(1.5)) is coarse, "it is not fast enough"
    assert best([coarse, tried(1.90, 0.2, step=8)], Speedup(1.5)) is coarse, "it overshoots"
    assert best([coarse, tried(1.53, 0.1, step=8, builds=1)], Speedup(1.5)) is coarse, "a single build proves little"


def test_what_was_measured_counts_for_what_was_predicted() -> None:
    one, other = tried(1.53, 0.2), tried(1.53, 0.3, by="macs")
    assert [pair[1] for pair in finalists([other, one], Speedup(1.5))] == [one[1], other[1]]
    repaired = [(replace(one[0], fidelity=0.9), one[1]), (replace(other[0], fidelity=0.95), other[1])]
    assert best(repaired, Speedup(1.5)) is repaired[1]


def test_of_one_way_the_nearest_is_best() -> None:
    found = [tried(1.70, 0.4), tried(1.53, 0.35), tried(1.495, 0.3)]
    assert best(found, Speedup(1.5)) is found[1]
    assert best(found, Speedup(9.0)) is found[0], "the fastest where none is fast enough"
    assert best([tried(1.7, 0.4), tried(1.75, 0.2, step=8)], Speedup(1.5))[0].speedup == 1.7, (
        "nearest where all overshoot"
    )
