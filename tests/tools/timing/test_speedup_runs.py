"""Speed-ups asked for and had, each timed in a process of its own, and the second table of BENCHMARKS.md."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import onnx
import pytest

from tools.command import ROOT
from tools.experiments.document import filled
from tools.experiments.experiment import Ledger
from tools.timing import speedup_runs


def test_each_bench_is_a_process_of_its_own(tmp_path: Path) -> None:
    arguments = ["--models", "sample:digits-cnn", "--backends", "onnxruntime", "--budget", "macs=0.5", "--runs", "2"]
    arguments += ["--samples", "24", "--seconds", "0.1", "--threads", "1", "--out", str(tmp_path)]
    arguments += ["--document", str(tmp_path / "none.md")]
    assert speedup_runs.main(arguments) == 0
    chosen = speedup_runs.experiment()
    (row,) = Ledger(tmp_path, chosen).rows
    ratios = [float(text) for text in row["speedups"].split()]
    assert len(ratios) == 2 and all(ratio > 0.5 for ratio in ratios)
    assert 0.45 < float(row["macs"]) <= 0.5
    line = chosen.table([row], []).splitlines()[2]
    assert line.startswith(f"| digits-cnn, onnxruntime, macs 0.5 | {min(ratios):.2f} |")


def test_runs_near_the_target_are_counted() -> None:
    row = {"model": "m", "backend": "openvino", "budget": "speedup=1.5", "speedups": "1.40 1.50 1.60", "within": "2"}
    row |= {"runs": "3", "macs": "0.61", "seconds": "41.2"}
    assert "| m, openvino, speedup 1.5 | 1.40 | 1.50 | 1.60 | 2 of 3 | 0.61 | 41 |" in speedup_runs.table([row], [])


def test_torchvision_models_are_the_same_each_time(tmp_path: Path, torch: object) -> None:
    options = argparse.Namespace(samples=2, seed=0, threads=1)
    one, other = (speedup_runs.exported("torchvision:squeezenet1_1", tmp_path, options).digest for _ in range(2))
    assert one == other
    assert math.isnan(speedup_runs.exported("torchvision:squeezenet1_1", tmp_path, options).rate(onnx.ModelProto()))


def test_a_budget_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path), "--document", str(tmp_path / "none.md")]
    assert speedup_runs.main([*out, "--budget", "keep=0.5"]) == 2
    assert "expected speedup=1.5 or macs=0.5" in capsys.readouterr().err


def test_the_document_says_what_the_figures_say() -> None:
    text = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
    tables = speedup_runs.tables(ROOT / "docs" / "benchmarks")
    assert filled(text, tables) == text, "run python -m tools.timing.speedup_runs --render"
