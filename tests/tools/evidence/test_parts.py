"""The tool that leaves out one part of the default at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from modhifi_graph.jobs.optimize import optimize
from tools.evidence import parts

from ...oracles import small


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A model and its calibration inputs."""
    model = small.SMALL["conv_chain"]()
    onnx.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", **small.samples(model, 0, 64))
    return str(tmp_path / "model.onnx"), str(tmp_path / "calib.npz")


def test_a_row_is_what_optimize_makes(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    model, calib = files
    names = [name for name in parts.PARTS if name not in ("batchnorm", "reestimated")]
    assert parts.main(["--model", model, "--calib", calib, "--threads", "1"]) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header == "| | score | fidelity | MACs |"
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [parts.PARTS[name][0] for name in names]
    found = dict(zip(names, (float(row.split(" | ")[2]) for row in rows), strict=True))
    report = optimize(model, calib, macs=0.5, prices="local", bench_seconds=0, threads=1).report
    assert found["prices"] == pytest.approx(report["fidelity"], abs=1e-4)
    assert found["default"] > found["sequential"]


def test_what_is_no_part(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert parts.main(["--model", files[0], "--calib", files[1], "--only", "default,luck"]) == 2
    assert "--only: 'luck' is unknown; choose from default,prices" in capsys.readouterr().err
