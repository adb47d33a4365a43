"""The ablation tool on a small model."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from modhifi_graph.jobs.optimize import optimize
from tools.evidence import ablation

from ...oracles import small


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A model and its calibration inputs."""
    model = small.SMALL["conv_chain"]()
    onnx.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", **small.samples(model, 0, 64))
    return str(tmp_path / "model.onnx"), str(tmp_path / "calib.npz")


def test_each_cell_is_what_optimize_makes(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, calib = files
    arguments = ["--model", model, "--calib", calib, "--csv", str(tmp_path / "a.csv"), "--threads", "1"]
    assert ablation.main([*arguments, "--criteria", "obs,random"]) == 0
    shown = capsys.readouterr()
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["criterion"], r["compensation"]) for r in rows] == [
        (c, m) for c in ("obs", "random") for m in ("none", "bias", "scalar", "lstsq", "sequential", "joint")
    ]
    for row in rows[::4]:
        report = optimize(
            model, calib, macs=0.5, criterion=row["criterion"], compensation=row["compensation"], bench_seconds=0,
            threads=1,
        ).report  # fmt: skip
        assert float(row["fidelity"]) == pytest.approx(report["fidelity"], abs=1e-6)
        assert float(row["macs"]) == pytest.approx(report["macs"]["after"] / report["macs"]["before"], abs=1e-6)
        assert row["score"] == row["fidelity"]
    header, rule, *body = shown.out.splitlines()
    assert header == "| criterion | none | bias | scalar | lstsq | sequential | joint |"
    assert rule == "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert [line.split(" | ")[0] for line in body] == ["| obs", "| random"]
    assert shown.out.count("**") == 2
    assert "obs + lstsq: 0." in shown.err


def test_a_command_rates_the_files(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    model, calib = files
    arguments = ["--model", model, "--calib", calib, "--criteria", "random", "--compensations", "none,lstsq"]
    count = (
        "import onnx, sys, json; print('loading'); print(json.dumps({'nodes': len(onnx.load(sys.argv[1]).graph.node)}))"
    )
    command = f'{sys.executable} -c "{count}" {{}}'
    assert ablation.main([*arguments, "--score", command, "--key", "nodes"]) == 0
    assert "| random | **7.0000** | **7.0000** |" in capsys.readouterr().out
    assert ablation.main([*arguments, "--score", "exit 3 # {}"]) == 2
    assert "ablation: error: --score exited with 3" in capsys.readouterr().err


def test_the_best_is_bold() -> None:
    cells = [
        ablation.Cell("obs", method, 0.5, score, 0.9, 0.1) for method, score in (("none", 30.0), ("lstsq", 91.234))
    ]
    assert ablation.table(cells).splitlines()[2] == "| obs | 30.00 | **91.23** |"
    assert ablation.table(cells, lowest=True).splitlines()[2] == "| obs | **30.00** | 91.23 |"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--macs", "0"], "--macs is 0; expected a fraction above 0 and at most 1"),
        (["--criteria", "obs,taylor"], "--criteria: 'taylor' is unknown; choose from obs,"),
        (["--compensations", "magic"], "--compensations: 'magic' is unknown; choose from none,bias,"),
        (["--score", "evaluate"], "--score is 'evaluate'; expected {} where the path of the model belongs"),
        (["--calib", "nowhere.npz"], "nowhere.npz: there is no such file or folder"),
    ],
)
def test_what_is_refused(
    files: tuple[str, str], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablation.main(["--model", files[0], "--calib", files[1], *arguments]) == 2
    assert message in capsys.readouterr().err
    assert ablation.main(["--model", files[0]]) == 2
    assert "needs calibration inputs: give --calib" in capsys.readouterr().err
