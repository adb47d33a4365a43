"""The closed loop, with an engine whose times are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest

from modhifi_graph import Fidelity, InputError, Latency, Speedup, optimize, pareto
from modhifi_graph.latency import search
from modhifi_graph.latency.search import _judged, _next, _next_speed
from modhifi_graph.latency.turns import Comparison
from modhifi_graph.select.attempts import AIM

from ..oracles import small
from ..select.test_attempts import tried
from .known import RESIDUAL, TEXT, KnownTimer, work
from .test_builds import comparison

MODEL = small.build(TEXT)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes engines take their work to some power: at 1 the model is right, at 0.7 it promises too much."""

    def set_power(power: float) -> None:
        class Known:
            def __init__(self, model: onnx.ModelProto) -> None:
                self.milliseconds = work(model) ** power

            def run(self, feeds: Any) -> float:
                return self.milliseconds

        class Backend:
            DEVICE = "cpu"

            def build(self, model: onnx.ModelProto, *, threads: int = 0, device: str = "cpu") -> Known:
                return Known(model)

        def known(dense: Callable[[], float], slim: Callable[[], float], **settings: Any) -> Comparison:
            return comparison(dense(), slim())

        monkeypatch.setattr(search, "backend", lambda name: Backend())
        monkeypatch.setattr(search, "Timer", lambda name, threads: KnownTimer())
        monkeypatch.setattr(search, "compare", known)

    return set_power


@pytest.mark.parametrize("power", [1.0, 0.7, 1.3])
@pytest.mark.parametrize("target", [1.3, 2.0])
def test_it_corrects_until_the_target_is_met(known: Callable[[float], None], power: float, target: float) -> None:
    known(power)
    report = optimize(MODEL, small.samples(MODEL, 0, 64), speedup=target, align=1, bench_seconds=0, threads=1).report
    assert report["search"]["met"]
    attempts = report["search"]["attempts"]
    (taken,) = [attempt for attempt in attempts if attempt["chosen"]]
    assert 0.99 <= taken["speedup"] / target <= 1.05
    assert len([attempt for attempt in attempts if attempt["by"] == "latency"]) <= search.ATTEMPTS
    assert len([attempt for attempt in attempts if attempt["by"] == "macs"]) <= search.FEWER + 1
    assert not any("out of reach" in warning for warning in report["warnings"])


def test_the_best_of_several_ways_are_repaired_and_judged_by_what_they_keep() -> None:
    one, other, dear = tried(1.53, 0.20), tried(1.53, 0.22, by="macs"), tried(1.53, 0.40, step=8)
    found, asked = [dear, one, other], list[str]()

    def fidelity(plan: Any) -> float:
        asked.append(plan)
        return {one[1]: 0.90, other[1]: 0.95}[plan]

    attempt, plan = _judged(found, Speedup(1.5), fidelity)
    assert (plan, attempt.fidelity) == (other[1], 0.95)
    assert asked == [one[1], other[1]], "what is predicted to lose much more is not repaired"
    assert [pair[0].fidelity for pair in found] == [None, 0.90, 0.95]
    assert _judged([dear], Speedup(1.5), fidelity) is dear
    assert len(asked) == 2, "there is nothing to choose from"


def test_branches_go_where_time_is_what_counts(known: Callable[[float], None]) -> None:
    known(1.0)
    model = small.build(RESIDUAL)
    for tensor in model.graph.initializer:
        if tensor.name == "w2":
            tensor.CopyFrom(onnx.numpy_helper.from_array(1e-3 * onnx.numpy_helper.to_array(tensor), "w2"))
    options: dict[str, Any] = {"calib": small.samples(model, 0, 64), "align": 1, "bench_seconds": 0, "threads": 1}
    deep = optimize(model, speedup=2.7, **options)
    assert deep.plan.branches == ("w2",)
    assert deep.plan.settings["depth"] is True
    assert deep.report["search"]["met"]
    assert deep.report["fidelity"] > 0.99
    for kept in (optimize(model, speedup=2.7, depth=False, **options), optimize(model, macs=0.4, **options)):
        assert kept.plan.branches == ()
        assert "depth" not in kept.plan.settings


def test_what_is_out_of_reach_is_said(known: Callable[[float], None]) -> None:
    known(1.0)
    found = optimize(MODEL, small.samples(MODEL, 0, 64), budget=Speedup(50), min_keep=32, bench_seconds=0, threads=1)
    assert not found.report["search"]["met"]
    best = max(attempt["speedup"] for attempt in found.report["search"]["attempts"])
    (said,) = [warning for warning in found.report["warnings"] if "out of reach" in warning]
    assert said == f"the speed-up 50 was out of reach on onnxruntime; {best:.3f} is the best found"
    assert all(len(entry.keep) == 32 for entry in found.plan.groups)


def test_the_next_attempt_lies_between_the_nearest_ones() -> None:
    assert _next([(0.5, 0.8)]) == pytest.approx(0.4 / AIM), "in proportion"
    assert 0.4 < _next([(0.5, 0.8), (0.4, 1.3), (0.3, 1.75)]) < 0.5
    assert _next([(0.5, 0.64), (0.4, 1.04)]) < _next([(0.5, 0.8), (0.4, 1.3)])


def test_a_latency_is_reached_in_milliseconds(known: Callable[[float], None]) -> None:
    known(0.8)
    whole = work(onnx.load_model_from_string(MODEL.SerializeToString())) ** 0.8
    found = optimize(MODEL, small.samples(MODEL, 0, 64), latency=0.6 * whole, align=1, bench_seconds=0, threads=1)
    search_ = found.report["search"]
    assert search_["met"]
    reached = [attempt["milliseconds"] / (0.6 * whole) for attempt in search_["attempts"]]
    assert any(0.93 <= share <= 1.01 for share in reached)
    missed = optimize(
        MODEL, small.samples(MODEL, 0, 64), budget=Latency(0.01 * whole), min_keep=32, bench_seconds=0, threads=1
    )
    best = min(attempt["milliseconds"] for attempt in missed.report["search"]["attempts"])
    assert any(
        w.endswith(f"was out of reach on onnxruntime; {best:.3f} ms is the best found")
        for w in missed.report["warnings"]
    )


@pytest.mark.parametrize("least", [0.9, 0.99])
def test_the_fastest_that_keeps_a_fidelity(known: Callable[[float], None], least: float) -> None:
    known(1.0)
    found = optimize(MODEL, small.samples(MODEL, 0, 64), budget=Fidelity(least), align=1, bench_seconds=0, threads=1)
    attempts = found.report["search"]["attempts"]
    kept = [attempt for attempt in attempts if attempt["fidelity"] >= least]
    assert found.report["fidelity"] == max(kept, key=lambda attempt: attempt["speedup"])["fidelity"] >= least
    assert found.plan, "something goes"
    (taken,) = [attempt for attempt in attempts if attempt["chosen"]]
    assert taken["fidelity"] == found.report["fidelity"]
    assert all(a["speedup"] > max(k["speedup"] for k in kept) for a in attempts if a["fidelity"] < least)


def test_nothing_goes_where_nothing_may_be_lost(known: Callable[[float], None]) -> None:
    known(1.0)
    found = optimize(MODEL, small.samples(MODEL, 0, 64), fidelity=1.0, align=1, bench_seconds=0, threads=1)
    assert not found.plan
    assert found.report["fidelity"] == pytest.approx(1.0, abs=1e-9)


def test_errors_are_interpolated_as_powers_of_the_logarithm_of_speed() -> None:
    assert _next_speed([(0.4, 0.04)], 0.01) == pytest.approx(0.4 * 0.95 * 0.5)
    cubic = [(0.2, 0.2**3), (0.8, 0.8**3)]
    assert _next_speed(cubic, 0.4**3) == pytest.approx(0.4, rel=0.02)
    assert _next_speed([(0.4, 0.009), (0.42, 0.011)], 0.01) == 0, "near enough"
    assert _next_speed([(0.4, 0.009)], 0.0) == 0, "no error is allowed"


def test_a_front_has_engines_of_growing_speed(known: Callable[[float], None]) -> None:
    known(1.0)
    found = pareto(MODEL, small.samples(MODEL, 0, 64), engines=3, speedup=2.0, align=1, bench_seconds=0, threads=1)
    reached = [next(a["speedup"] for a in f.report["search"]["attempts"] if a["chosen"]) for f in found]
    for speed, wanted in zip(reached, (2 ** (1 / 3), 2 ** (2 / 3), 2.0), strict=True):
        assert 0.99 <= speed / wanted <= 1.05
    fidelities = [f.report["fidelity"] for f in found]
    assert fidelities == sorted(fidelities, reverse=True)


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"speedup": 0.5}, "speedup is 0.5; expected at least 1"),
            ({"speedup": 0.0}, "speedup is 0; expected at least 1"),
            ({"latency": 0.0}, "latency is 0; expected milliseconds above 0"),
            ({"fidelity": 1.5}, "fidelity is 1.5; expected a fraction above 0 and at most 1"),
            (
                {"speedup": 2.0, "macs": 0.5},
                "give exactly one of macs, params, keep, speedup, latency, fidelity and plan",
            ),
            ({"speedup": 2.0, "latency": 5.0}, "give exactly one of"),
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
        with pytest.raises(InputError, match="latency is measured on engines of ONNX models: export the module first"):
            optimize(net, torch.randn(32, 6), speedup=1.5, bench_seconds=0)
