"""Every kind of run has a page."""

from __future__ import annotations

from typing import Any

import pytest

from modhifi_graph import page
from modhifi_graph.jobs.optimize import optimize

from ...oracles import small

UNKNOWN = "is not known of this run"


def shown(**options: Any) -> tuple[dict[str, Any], str]:
    model = small.SMALL["conv_chain"]()
    report = optimize(model, small.samples(model, 0, 64), bench_seconds=0.02, threads=1, details=True, **options).report
    return report, page.render(report)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"macs": 0.5}, "lost, as a share of the variance of the outputs"),
        ({"macs": 0.5, "prices": "local"}, "lost, as a share of the energy of the streams"),
        ({"macs": 1.0}, "100.0% left"),
        ({"mode": "paper", "macs": 0.7}, UNKNOWN),
    ],
)
def test_modes(options: dict[str, Any], said: str) -> None:
    report, text = shown(**options)
    assert said in text
    assert [row["name"] for row in report["layers"]["rows"]][:2] == ["w0", "w1"]
    assert text.count('class="strip"') >= len(report["groups"]) == 2


def test_a_search() -> None:
    report, text = shown(speedup=1.05)
    attempts = report["search"]["attempts"]
    judged = [attempt for attempt in attempts if attempt["fidelity"] is not None]
    written = 2  # by its speed, and by its fidelity too
    assert text.count("<circle") == len(attempts) + len(judged) + written + 1, "and the dense model"
    assert "asked for: 1.05" in text


def test_a_plan_has_no_losses() -> None:
    plan = optimize(small.SMALL["conv_chain"](), small.samples(small.SMALL["conv_chain"](), 0, 64), keep=0.5).plan
    report, text = shown(plan=plan)
    assert all("spectrum" not in row for row in report["groups"])
    assert UNKNOWN in text


def test_a_module_has_no_layers(torch: Any) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4)).eval()
    example, calib = (torch.randn(2, 8),), torch.randn(64, 8)
    slim = optimize(net, example, calib=calib, keep=0.5, bench_seconds=0.02, details=True)
    assert "layers" not in slim.report
    text = page.render(slim.report, model="net")
    assert "<h2>Layers</h2>" not in text
    assert "torch, eager" in text
    assert "<b>16</b> of 32" in text
