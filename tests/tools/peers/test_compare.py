"""Contenders at equal measured latency, and the first table of BENCHMARKS.md."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest

from modhifi_graph.jobs.optimize import optimize
from modhifi_graph.latency import search as latency_search
from tools.command import ROOT
from tools.experiments import subjects
from tools.experiments.document import filled
from tools.experiments.experiment import Ledger
from tools.experiments.subjects import Subject
from tools.peers import compare, equal_latency, field, ours
from tools.peers.contender import Contender

from ...oracles import small

SAMPLES = 24


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "peers.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_ours_go_through_the_whole_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured once, written, drawn, and not measured again."""
    monkeypatch.setattr(latency_search, "SECONDS", 0.05)
    monkeypatch.setattr(latency_search, "ATTEMPTS", 2)
    arguments = ["--models", "digits-cnn", "--only", "speedup,macs", "--backends", "onnxruntime", "--targets", "1.5"]
    arguments += ["--samples", str(SAMPLES), "--tries", "1", "--seconds", "0.2", "--out", str(tmp_path)]
    arguments += ["--document", str(tmp_path / "none.md")]
    assert compare.main(arguments) == 0
    rows = {row["contender"]: row for row in _rows(tmp_path)}
    assert set(rows) == {"speedup", "macs"}
    assert float(rows["macs"]["fraction"]) == pytest.approx(2 / 3, rel=1e-5)
    assert 0.64 < float(rows["macs"]["macs"]) <= 2 / 3
    for row in rows.values():
        assert float(row["low"]) <= float(row["speedup"]) <= float(row["high"])
        assert float(row["dense"]) > 98 and float(row["score"]) > 90
        assert row["engine"].startswith("onnxruntime ") and row["engine"].endswith("fp32")
    assert (tmp_path / "peers.svg").read_text().count("<svg") == 1
    once = (tmp_path / "peers.csv").read_bytes()
    assert compare.main(arguments) == 0
    assert (tmp_path / "peers.csv").read_bytes() == once


def test_macs_is_what_optimize_makes(tmp_path: Path) -> None:
    model = small.SMALL["conv_chain"]()
    onnx.save(model, tmp_path / "m.onnx")
    inputs = small.samples(model, 0, 64)
    np.savez(tmp_path / "c.npz", **inputs)
    subject = subjects.given(str(tmp_path / "m.onnx"), str(tmp_path / "c.npz"), "rate {}", None, False, 64, 0, 1)
    ours_by_macs = ours.contenders(subject)["macs"]
    made, bare = ours_by_macs.finished("onnxruntime", 0.5), ours_by_macs.slim("onnxruntime", 0.5)
    deep = ours.contenders(subject)["macs-depth"].slim("onnxruntime", 0.5)
    assert equal_latency.macs(deep) <= 0.5 * equal_latency.macs(model)
    expected = optimize(tmp_path / "m.onnx", subject.calib, macs=0.5, threads=1, bench_seconds=0).model
    held, wanted = ({t.name: onnx.numpy_helper.to_array(t) for t in m.graph.initializer} for m in (made, expected))
    assert held.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(held[name], array, rtol=1e-5, atol=1e-6)
    assert equal_latency.macs(bare) == equal_latency.macs(made) <= 0.5 * equal_latency.macs(model)


def test_a_contender_that_fails_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(backend: str, fraction: float) -> onnx.ModelProto:
        raise RuntimeError("no such\n  layer")

    monkeypatch.setattr(field, "of", lambda subject: {"onnxsim": Contender(fail, fail, ("onnx",))})
    subject = subjects.sample("digits-cnn", 4, 0, 1)
    choice = equal_latency.Choice(("onnxruntime",), ("1.5",), ("onnxsim",))
    chosen, wanted = equal_latency.experiment(choice), [("onnxruntime", "1", "1.5", "onnxsim")]
    assert chosen.cells(subject) == wanted
    for cell, rows in chosen.measure(subject, wanted):
        Ledger(tmp_path, chosen).add(subject, cell, rows)
    (row,) = Ledger(tmp_path, chosen).rows
    assert row["failure"] == "RuntimeError: no such layer" and row["score"] == ""
    assert "| failed |" in chosen.table([row], [subject])
    assert chosen.panels([row]) == {}


def test_the_table_says_what_is_off_its_target() -> None:
    subject = Subject("resnet56", "resnet56_cifar10.onnx", "image", "top1", dict, lambda proto: 0.0)
    common = {
        "model": "resnet56",
        "backend": "openvino",
        "threads": "1",
        "target": "1.5",
        "dense": "82.86",
        "failure": "",
    }
    about = {"engine": "openvino 1, fp32", "machine": "M", "libraries": "L 1"}
    near = {**common, **about, "contender": "speedup", "score": "82.1", "speedup": "1.52"}
    far = {**common, **about, "contender": "macs", "score": "81.5", "speedup": "1.41"}
    lines = equal_latency.table([near, far], [subject]).splitlines()
    (line,) = [line for line in lines if line.startswith("| resnet56")]
    assert line.startswith("| resnet56 on openvino, 1.5 (dense 82.86) | 82.10 (1.52) | *81.50 (1.41)* | not run yet |")
    assert {"Threads: 1.", "Engines: openvino 1, fp32.", "Made by: L 1.", "Machine: M."} <= set(lines)
    assert equal_latency.panels([near, far]) == {
        "resnet56, openvino": {"speedup": [(1.0, 82.86), (1.52, 82.1)], "macs": [(1.0, 82.86), (1.41, 81.5)]}
    }


def test_only_modules_with_batch_norms_have_them_taken_anew() -> None:
    names = {"torch-pruning-l1-global-bn", "torch-pruning-taylor-global-bn"}
    assert {name for name in field.NAMES if not field.applies(name, Path("mobilenet_v2.onnx"))} == names
    assert all(field.applies(name, Path("resnet56_cifar10.onnx")) for name in field.NAMES)


def test_what_is_missing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ["--out", str(tmp_path), "--document", str(tmp_path / "none.md")]
    assert compare.main([*out, "--shared", str(tmp_path), "--only", "macs"]) == 2
    assert "has no eval/evaluate.py; give --shared, or --models digits-cnn" in capsys.readouterr().err
    assert compare.main([*out, "--only", "macs,nobody"]) == 2
    assert "--only: 'nobody' is unknown; choose from speedup,macs,macs-depth,onnxsim" in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    assert field.missing("onnxsim-global") == f"onnxsim-global: onnxsim is not installed: {field.REMEDY}"
    assert field.missing("torch-pruning-l1") == f"torch-pruning-l1: torch_pruning is not installed: {field.REMEDY}"
    assert field.missing("speedup") is None


def test_the_document_says_what_the_figures_say() -> None:
    text = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
    folder = ROOT / "docs" / "benchmarks"
    assert filled(text, compare.tables(folder)) == text, "run python -m tools.peers.compare --render"
