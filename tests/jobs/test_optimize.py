"""The main job from end to end: what comes back, and what is promised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from modhifi_graph.jobs.optimize import Optimized, optimize
from modhifi_graph.plan import Plan
from modhifi_graph.prove.verification import verify_files

from ..oracles import small
from .quick import feeds, model, quick, run, serialised

DIGITS = "sample:digits-cnn"
FEW: dict[str, Any] = {"keep": 0.5, "samples": 60, "only": ("*stage3*",), "bench_seconds": 0, "threads": 1}
"""The last two of the seven groups of the sample: measuring and repairing all of them takes a minute."""

ALWAYS = {
    "macs", "params", "bytes", "components", "groups", "branches", "pinned", "fidelity", "calibration", "warnings",
    "verify", "seconds", "plan",
}  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> Optimized:
    return optimize(DIGITS, **FEW)


class TestDigits:
    def test_the_report(self, digits: Optimized) -> None:
        report = digits.report
        assert report.keys() == ALWAYS | {"accuracy"}
        assert json.loads(json.dumps(report)) == report
        assert report["macs"]["before"] == 180_749_248
        assert 0.9 * 180_749_248 < report["macs"]["after"] < 0.97 * 180_749_248
        assert report["params"]["after"] < report["params"]["before"]
        assert report["bytes"]["after"] == digits.model.ByteSize() < report["bytes"]["before"]
        assert report["accuracy"]["before"] == pytest.approx(99.17, abs=0.2)
        assert report["accuracy"]["after"] > 96
        assert 0.95 < report["fidelity"] < 1
        assert report["verify"]["max_abs_error"] <= report["verify"]["tolerance"] < 1e-2
        assert report["verify"]["runs"] == 2
        assert list(report["seconds"]) == [
            "load", "inputs", "couple", "score", "plan", "slim", "verify", "compensate", "check", "time",
        ]  # fmt: skip
        assert report["plan"] == digits.plan.to_json()
        assert report["plan"]["settings"] == {
            "keep": 0.5, "criterion": "obs", "compensation": "joint", "seed": 0, "samples": 60,
            "fold_batchnorm": True,
        }  # fmt: skip

    def test_groups_add_up(self, digits: Optimized) -> None:
        rows = digits.report["groups"]
        assert len(rows) == 7
        for when in ("before", "after"):
            assert sum(row[when] for row in rows) == digits.report["components"][when]
        cut = {row["name"]: row["after"] for row in rows if row["after"] < row["before"]}
        assert cut == {entry.name: len(entry.keep) for entry in digits.plan.groups}
        assert cut == {"stage3.conv1.weight": 48, "stage3.conv2.weight": 48}

    def test_the_same_seed_gives_the_same_bytes(self, digits: Optimized) -> None:
        again = optimize(DIGITS, **FEW)
        assert serialised(again.model) == serialised(digits.model)
        assert again.plan == digits.plan

    def test_its_plan_gives_the_same_bytes(self, digits: Optimized) -> None:
        plan = Plan.from_json(json.loads(json.dumps(digits.plan.to_json())))
        again = optimize(DIGITS, plan=plan, samples=60, bench_seconds=0, threads=1)
        assert serialised(again.model) == serialised(digits.model)
        assert again.report["macs"] == digits.report["macs"]
        assert again.report["fidelity"] == digits.report["fidelity"]

    def test_the_files_verify(self, digits: Optimized, tmp_path: Path) -> None:
        digits.save(tmp_path / "slim.onnx")
        (tmp_path / "plan.json").write_text(json.dumps(digits.plan.to_json()))
        assert serialised(onnx.load(tmp_path / "slim.onnx")) == serialised(digits.model)
        result = verify_files(DIGITS, tmp_path / "slim.onnx", tmp_path / "plan.json", threads=1)
        assert result.max_abs_error <= result.tolerance


class TestNothingToPrune:
    @pytest.mark.parametrize("name", ["if_subgraph", "gru", "channel_softmax_gate"])
    def test_there_is_a_warning_and_the_model_computes_what_it_did(self, name: str) -> None:
        result = quick(name=name)
        assert result.plan == Plan((), result.plan.settings)
        assert result.report["macs"]["after"] == result.report["macs"]["before"]
        assert result.report["warnings"][0].startswith("nothing can be pruned here")
        assert result.report["fidelity"] == pytest.approx(1.0)
        before, after = run(model(name), feeds(name)), run(result.model, feeds(name))
        for output, expected in before.items():
            np.testing.assert_allclose(after[output], expected, rtol=1e-5, atol=1e-6)


class TestBatchNorm:
    @pytest.mark.parametrize("name", ["batchnorm_opset15", "batchnorm_opset9"])
    def test_kept(self, name: str, tmp_path: Path) -> None:
        def norms(proto: onnx.ModelProto) -> int:
            return sum(node.op_type == "BatchNormalization" for node in proto.graph.node)

        kept, folded = (quick(name=name, fold_batchnorm=fold) for fold in (False, True))
        assert norms(kept.model) == norms(model(name)) > norms(folded.model)
        assert kept.report["verify"]["max_abs_error"] <= kept.report["verify"]["tolerance"]
        assert kept.report["macs"]["after"] <= 0.5 * kept.report["macs"]["before"]
        assert kept.report["fidelity"] > 0.7
        onnx.save(model(name), tmp_path / "dense.onnx")
        kept.save(tmp_path / "slim.onnx")
        (tmp_path / "plan.json").write_text(json.dumps(kept.plan.to_json()))
        found = verify_files(tmp_path / "dense.onnx", tmp_path / "slim.onnx", tmp_path / "plan.json", threads=1)
        assert found.max_abs_error <= found.tolerance


class TestOutputs:
    def test_an_output_in_the_middle(self) -> None:
        result = quick(name="two_outputs", macs=0.7)
        assert result.report["fidelity"] > 0.7
        assert [value.name for value in result.model.graph.output] == ["y", "feature"]
        assert result.report["macs"]["after"] <= 0.7 * result.report["macs"]["before"]

    def test_a_scalar_input_that_comes_first(self) -> None:
        scaled = small.build("""
            g (float scale, float[N,6] x) => (float[N,5] y) <float[6,12] w0, float[12] b0, float[12,5] w1> {
              h = Gemm(x, w0, b0)
              r = Relu(h)
              q = Mul(r, scale)
              y = MatMul(q, w1)
            }""")
        calib = {"scale": np.float32(2.0), "x": np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)}
        result = quick(scaled, calib, macs=0.6)
        assert result.report["macs"]["after"] <= 0.6 * result.report["macs"]["before"]
        assert result.report["fidelity"] > 0.8

    def test_only_whole_numbers(self) -> None:
        text = small.CONVOLUTIONS["conv_chain"].replace("float[N,5] y", "int64[N] y")
        classes = small.build(
            text.replace("y = Gemm(f, w2, b2)", "z = Gemm(f, w2, b2)\n y = ArgMax<axis=1, keepdims=0>(z)")
        )
        result = quick(classes)
        assert result.report["macs"]["after"] <= 0.5 * result.report["macs"]["before"]
        assert result.report["fidelity"] is None
        agreement = np.mean(run(result.model, feeds())["y"] == run(classes, feeds())["y"])
        assert agreement > 0.7

    def test_timing(self) -> None:
        report = optimize(
            model(), feeds(), macs=0.5, compensation="none", bench_seconds=0.05, threads=1, batch=2
        ).report
        assert report.keys() == ALWAYS | {"latency_ms", "speedup", "interval", "timing"}
        assert report["timing"]["batch"] == 2
        assert report["speedup"] > 0


def test_progress_counts_up_in_every_stage() -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    quick(progress=lambda stage, done, total: seen.setdefault(stage, []).append((done, total)))
    assert list(seen) == ["observe", "score", "measure", "compensate"]
    for steps in seen.values():
        assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))
        assert len({total for _, total in steps}) == 1
