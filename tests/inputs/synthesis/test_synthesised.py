"""The public function, files, the whole job without inputs, and modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import modhifi_graph
from modhifi_graph import InputError
from modhifi_graph.models import opening as models

from ...oracles import small

QUICK: dict[str, Any] = {"bench_seconds": 0, "threads": 1}


def test_what_was_made_is_what_calib_takes(tmp_path: Path) -> None:
    made = modhifi_graph.synthesise(small.SMALL["conv_chain"](), samples=40, seed=3, threads=1)
    assert (made.samples, [array.shape for array in made.arrays.values()]) == (40, [(40, 3, 8, 8)])
    made.save(tmp_path / "made.npz")
    given = modhifi_graph.optimize(small.SMALL["conv_chain"](), tmp_path / "made.npz", macs=0.5, seed=3, **QUICK)
    found = modhifi_graph.optimize(small.SMALL["conv_chain"](), macs=0.5, samples=40, seed=3, **QUICK)
    other = modhifi_graph.optimize(small.SMALL["conv_chain"](), macs=0.5, samples=40, seed=4, **QUICK)
    assert given.model.SerializeToString() == found.model.SerializeToString()
    assert given.model.SerializeToString() != other.model.SerializeToString()
    assert given.report["calibration"] == {"source": "given", "what": "", "samples": 40, "mirrored": True}


def test_the_report_says_so() -> None:
    report = modhifi_graph.optimize(small.SMALL["conv_chain"](), macs=0.5, samples=24, **QUICK).report
    assert report["calibration"]["source"] == "synthesised"
    assert report["calibration"]["samples"] == 24
    assert report["calibration"]["what"].startswith("24 pictures of overlapping textured shapes")
    first = report["warnings"][0]
    assert first.startswith("no calibration inputs were given, so they were synthesised: 24 pictures")
    assert first.endswith("give real ones if you can")
    assert report["plan"]["settings"]["samples"] == 24


def test_nothing_is_made_where_nothing_is_needed() -> None:
    report = modhifi_graph.optimize(
        small.SMALL["conv_chain"](), macs=0.5, criterion="magnitude", compensation="none", **QUICK
    ).report
    assert report["calibration"] is None
    assert not any("synthesised" in warning for warning in report["warnings"])


@pytest.mark.slow
def test_the_digits_without_their_data(tmp_path: Path) -> None:
    path = tmp_path / "digits.onnx"
    onnx.save(onnx.load(models.sample_path("sample:digits-cnn")), path)
    found = modhifi_graph.optimize(path, macs=0.5, samples=100, **QUICK)
    from modhifi_graph.frontends.onnx import sample_accuracy

    accuracy = sample_accuracy("sample:digits-cnn", found.model, 1)
    noise = np.random.default_rng(0).standard_normal((100, 1, 32, 32)).astype(np.float32)
    other = sample_accuracy("sample:digits-cnn", modhifi_graph.optimize(path, noise, macs=0.5, **QUICK).model, 1)
    assert accuracy > 90
    assert accuracy > other


def test_what_cannot_be_made_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "odd.onnx"
    onnx.save(small.build("g (float[N,T] x) => (float[N,4] y) <float[77,4] w> { y = MatMul(x, w) }"), path)
    with pytest.raises(InputError, match=r"odd.onnx: calibration inputs cannot be synthesised, give --calib"):
        modhifi_graph.optimize(path, macs=0.5, **QUICK)


class TestModules:
    def net(self, torch: Any) -> Any:
        torch.manual_seed(0)
        nn = torch.nn
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
        ).eval()  # fmt: skip

    def test_a_few_examples_are_only_shapes(self, torch: Any) -> None:
        x = torch.randn(2, 3, 16, 16)
        found = modhifi_graph.optimize(self.net(torch), x, macs=0.6, samples=50, bench_seconds=0)
        assert found.report["calibration"]["source"] == "synthesised"
        assert "chosen to match its 1 batch norms" in found.report["calibration"]["what"]
        assert found.report["calibration"]["samples"] == 50
        assert found.report["macs"]["after"] <= 0.6 * found.report["macs"]["before"]
        made = modhifi_graph.synthesise(self.net(torch), x, samples=50)
        assert [array.shape for array in made.arrays.values()] == [(50, 3, 16, 16)]

    def test_many_examples_are_inputs(self, torch: Any) -> None:
        found = modhifi_graph.optimize(self.net(torch), torch.randn(32, 3, 16, 16), macs=0.6, bench_seconds=0)
        assert found.report["calibration"] == {"source": "given", "what": "", "samples": 32, "mirrored": True}
        assert not any("example" in warning for warning in found.report["warnings"])

    def test_examples_are_taken_where_nothing_natural_can_be_made(self, torch: Any) -> None:
        nn = torch.nn
        net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4))
        found = modhifi_graph.optimize(net, torch.randn(4, 6), keep=0.5, bench_seconds=0)
        assert found.report["calibration"]["source"] == "given"
        assert (
            "the only calibration inputs were the 4 samples of the example: give more with calib"
            in (found.report["warnings"])
        )
