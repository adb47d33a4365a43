"""The closed loop, with an engine whose times are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest

from modhifi_graph import InputError, Speedup, optimize
from modhifi_graph.latency import search
from modhifi_graph.latency.search import Attempt, _best, _next
from modhifi_graph.timing import Comparison, Timing

from ..oracles import small
from .test_model import TEXT, KnownTimer, work

MODEL = small.build(TEXT)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes engines take their work to some power: at 1 the model is right, at 0.7 it promises too much."""

    def set_power(power: float) -> None:
        class Known:
            def __init__(self, model: onnx.ModelProto) -> None:
                self.milliseconds = work(model) ** power

            def run(self, feeds: Any) -> dict[str, Any]:
                raise AssertionError("a known engine is not run")

        class Backend:
            DEVICE = "cpu"

            def build(self, model: onnx.ModelProto, *, threads: int = 0, device: str = "cpu") -> Known:
                return Known(model)

        def timed(before: Known, after: Known, feeds: Any, fraction: float, seed: int) -> Attempt:
            ratio = before.milliseconds / after.milliseconds
            return Attempt(fraction, ratio, (ratio, ratio))

        monkeypatch.setattr(search, "backend", lambda name: Backend())
        monkeypatch.setattr(search, "Timer", lambda name, threads: KnownTimer())
        monkeypatch.setattr(search, "_timed", timed)

    return set_power


@pytest.mark.parametrize("power", [1.0, 0.7, 1.3])
@pytest.mark.parametrize("target", [1.3, 2.0])
def test_it_corrects_until_the_target_is_met(known: Callable[[float], None], power: float, target: float) -> None:
    known(power)
    report = optimize(MODEL, small.samples(MODEL, 0, 64), speedup=target, align=1, bench_seconds=0, threads=1).report
    assert report["search"]["met"]
    attempts = report["search"]["attempts"]
    last = attempts[-1]["speedup"] / target
    assert 0.99 <= last <= 1.05
    assert len(attempts) <= search.ATTEMPTS
    assert not any("out of reach" in warning for warning in report["warnings"])


def test_what_is_out_of_reach_is_said(known: Callable[[float], None]) -> None:
    known(1.0)
    found = optimize(MODEL, small.samples(MODEL, 0, 64), budget=Speedup(50), min_keep=32, bench_seconds=0, threads=1)
    assert not found.report["search"]["met"]
    best = max(attempt["speedup"] for attempt in found.report["search"]["attempts"])
    (said,) = [warning for warning in found.report["warnings"] if "out of reach" in warning]
    assert said == f"the speed-up 50 was out of reach on onnxruntime; {best:.3f} is the best found"
    assert all(len(entry.keep) == 32 for entry in found.plan.groups)


def test_the_next_attempt_lies_between_the_nearest_ones() -> None:
    def attempt(fraction: float, speedup: float) -> Attempt:
        return Attempt(fraction, speedup, (speedup, speedup))

    assert _next([attempt(0.5, 1.6)], 2.0) == pytest.approx(0.4), "in proportion"
    tries = [attempt(0.5, 1.6), attempt(0.4, 2.6), attempt(0.3, 3.5)]
    assert 0.4 < _next(tries, 2.0) < 0.5
    assert _next(tries, 2.5) < _next(tries, 1.8)
    pairs: list[Any] = [(each, str(each.fraction)) for each in tries]
    assert _best(pairs, 2.0)[1] == "0.4", "the slowest that is fast enough"
    assert _best(pairs, 9.0)[1] == "0.3", "the fastest where none is"


def test_an_attempt_is_the_ratio_of_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    timing = Timing(1.0, 1.0, 1.0, 0.0, 30)
    monkeypatch.setattr(search, "compare", lambda a, b, seconds, seed: Comparison(timing, timing, 1.5, (1.4, 1.6)))
    assert search._timed(None, None, {}, 0.7, 0) == Attempt(0.7, 1.5, (1.4, 1.6))  # type: ignore[arg-type]


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"speedup": 0.5}, "speedup: expected at least 1"),
            ({"speedup": 0.0}, "speedup: expected at least 1"),
            ({"speedup": 2.0, "macs": 0.5}, "give exactly one of macs, params, keep, speedup and plan"),
            ({"speedup": 2.0, "mode": "paper"}, "mode paper does not look at latency"),
            ({"speedup": 2.0, "backend": "abacus"}, "backend 'abacus' is unknown"),
        ],
    )
    def test_options(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError) as caught:
            optimize(MODEL, small.samples(MODEL, 0, 64), bench_seconds=0, **options)
        assert message in str(caught.value)

    def test_modules(self) -> None:
        import torch

        net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
        with pytest.raises(InputError, match="speedup is measured on engines of ONNX models: export the module first"):
            optimize(net, torch.randn(32, 6), speedup=1.5, bench_seconds=0)
