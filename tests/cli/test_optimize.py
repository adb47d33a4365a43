"""``optimize`` to a budget, on samples and on models with and without inputs; goals are in `test_optimize_goals`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from modhifi_graph import samples
from modhifi_graph.models.opening import sample_path

from ..oracles import small

COMMAND = [sys.executable, "-m", "modhifi_graph"]
ESCAPE = "\x1b"


class TestOptimise:
    def test_a_sample(self, run: Any, tmp_path: Path) -> None:
        slim, plan = tmp_path / "slim.onnx", tmp_path / "plan.json"
        options = ("--macs", "0.5", "--bench-seconds", "0.05", "--samples", "100", "--plan-out", plan, "--json")
        result = run("optimize", "sample:digits-cnn", "-o", slim, *options)
        assert result.code == 0, result.err
        report = result.json()
        assert report["macs"]["after"] <= 0.5 * report["macs"]["before"]
        assert report["accuracy"]["before"] > 97
        assert report["verify"]["max_abs_error"] < 1e-3
        assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.json", "slim.onnx"]
        assert slim.stat().st_size < sample_path("digits-cnn").stat().st_size
        assert run("verify", "sample:digits-cnn", slim, "--plan", plan).code == 0
        again = tmp_path / "again.onnx"
        assert run("optimize", "sample:digits-cnn", "-o", again, "--plan", plan, "--bench-seconds", "0", "-q").code == 0
        assert again.stat().st_size == slim.stat().st_size

    def test_a_sample_as_published(self, run: Any, tmp_path: Path) -> None:
        slim, plan = tmp_path / "slim.onnx", tmp_path / "plan.json"
        options = ("--mode", "paper", "--percentile", "0.2", "--macs", "0.98", "--only", "*stage3*", "--samples", "60")
        outputs = ("-o", slim, "--plan-out", plan, "--bench-seconds", "0", "--json")
        result = run("optimize", "sample:digits-cnn", *options, *outputs)
        assert result.code == 0, result.err
        report = result.json()
        assert 0.97 * report["macs"]["before"] < report["macs"]["after"] <= 0.98 * report["macs"]["before"]
        assert report["rounds"][-1]["macs"] == report["macs"]["after"]
        assert report["accuracy"]["after"] > 90
        assert report["plan"]["settings"]["mode"] == "paper"
        assert run("verify", "sample:digits-cnn", slim, "--plan", plan).code == 0

    def test_a_calibration_file(self, run: Any, tmp_path: Path) -> None:
        np.savez(tmp_path / "calib.npz", **{k: v[:50] for k, v in samples.load("digits-cnn").calib.items()})
        model = tmp_path / "model.onnx"
        model.write_bytes(sample_path("digits-cnn").read_bytes())
        options = ("--calib", tmp_path / "calib.npz", "--keep", "0.75", "--bench-seconds", "0.05")
        result = run("optimize", model, "-o", tmp_path / "slim.onnx", *options)
        assert result.code == 0, result.err
        assert "MACs" in result.out
        assert "accuracy" not in result.out
        assert ESCAPE not in result.out

    def test_without_calibration(self, run: Any, tmp_path: Path) -> None:
        """Inputs are made, and the table says so."""
        model = tmp_path / "model.onnx"
        onnx.save(small.SMALL["conv_chain"](), model)
        options = ("--keep", "0.75", "--samples", "30", "--bench-seconds", "0")
        result = run("optimize", model, "-o", tmp_path / "slim.onnx", *options)
        assert result.code == 0, result.err
        text = " ".join(result.out.split())
        assert "Warning: no calibration inputs were given, so they were synthesised: 30 pictures" in text
        assert "give real ones if you can" in text
        report = run("optimize", model, "-o", tmp_path / "again.onnx", *options, "--json", "--quiet").json()
        assert report["calibration"]["source"] == "synthesised"
        assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "slim.onnx").read_bytes()

    def test_quiet_says_nothing(self, run: Any, tmp_path: Path) -> None:
        options = ("--keep", "0.9", "--bench-seconds", "0", "--samples", "20", "--quiet")
        result = run("optimize", "sample:digits-cnn", "-o", tmp_path / "s.onnx", *options)
        assert (result.code, result.out, result.err) == (0, "", "")

    def test_calibration_that_does_not_fit(self, run: Any, tmp_path: Path) -> None:
        np.savez(tmp_path / "calib.npz", wrong=np.zeros((4, 1, 32, 32), np.float32))
        options = ("--calib", tmp_path / "calib.npz", "--macs", "0.5", "--quiet")
        result = run("optimize", "sample:digits-cnn", "-o", tmp_path / "slim.onnx", *options)
        assert result.code == 2
        assert "the graph has no input wrong" in result.err
        assert not (tmp_path / "slim.onnx").exists()

    def test_ctrl_c_leaves_nothing(self, tmp_path: Path) -> None:
        process = subprocess.Popen(
            [*COMMAND, "optimize", "sample:digits-cnn", "--macs", "0.5", "--bench-seconds", "60", "-o", "slim.onnx"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(4)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert err.splitlines()[-1] == "modhifi-graph: error: interrupted; nothing was written"
        assert list(tmp_path.iterdir()) == []
