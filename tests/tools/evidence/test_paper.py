"""The paper's tables and figures, on small models: what is measured, what is kept, and what the document says."""

from __future__ import annotations

import csv
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
import pytest

import modhifi_graph
from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.frontends.onnx import OnnxFrontEnd
from modhifi_graph.jobs.optimize import optimize
from modhifi_graph.jobs.score import score, scored
from modhifi_graph.options.request import Options
from modhifi_graph.select.budget import Keep
from tools.command import ROOT
from tools.evidence.paper import __main__ as paper
from tools.evidence.paper import data, language, noise, pruning, unlearning
from tools.experiments import subjects
from tools.experiments.experiment import Ledger

from ...oracles import small

COUNT = "import onnx, sys; open('calls', 'a').write('x'); print(len(onnx.load(sys.argv[1]).graph.node))"


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A small model of the user's own, rated by the number of its nodes; every rating leaves an x in `calls`."""
    monkeypatch.chdir(tmp_path)
    model = small.SMALL["conv_chain"]()
    onnx.save(model, "model.onnx")
    np.savez("calib.npz", **small.samples(model, 0, 64))
    (tmp_path / "calls").touch()
    given = ["--model", "model.onnx", "--calib", "calib.npz", "--score", f'{sys.executable} -c "{COUNT}" {{}}']
    return [*given, "--out", "out", "--document", "none.md"]


def _rows(name: str) -> list[dict[str, str]]:
    with (Path("out") / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_best_of_all_sets_of_small_layers_is_found(arguments: list[str]) -> None:
    """With few components 1,000 random sets are all sets, so the best of them is the best there is."""
    assert paper.main([*arguments, "--only", "existence"]) == 0
    rows = [row for row in _rows("existence") if row["scales"] == "own"]
    order = np.random.default_rng(0).permutation(64)
    with np.load("calib.npz") as stored:
        inputs = {name: stored[name][order] for name in stored.files}
    layers = {layer.name: (g.size, layer) for g in score("model.onnx", inputs, threads=1).groups for layer in g.layers}
    assert {row["layer"] for row in rows} == set(layers)
    for row in rows:
        size, layer = layers[row["layer"]]
        k = max(1, round(0.2 * size))
        best = max(layer.fidelity.fidelity(chosen) for chosen in combinations(range(size), k))
        assert (int(row["components"]), int(row["k"])) == (size, k)
        assert float(row["random"]) == pytest.approx(best, rel=1e-5)
        assert float(row["forward"]) <= best + 1e-6
    assert Path("out/existence.svg").read_text().count("<svg") == 1


def test_what_was_measured_is_not_measured_again(arguments: list[str]) -> None:
    only = ["--only", "pruning", "--samples", "32"]
    subject = subjects.given("model.onnx", "calib.npz", arguments[5], None, False, 32, 0, 1)
    Path("out").mkdir()
    paper.measure(pruning.EXPERIMENT, subject, Path("out"), end=0.0)
    rows = _rows("pruning")
    assert [(row["budget"], row["method"]) for row in rows] == [("0.75", "default")], "stops after the first cell"
    assert paper.main([*arguments, *only]) == 0
    whole, calls = Path("out/pruning.csv").read_bytes(), len(Path("calls").read_text())
    assert paper.main([*arguments, *only]) == 0
    assert (Path("out/pruning.csv").read_bytes(), len(Path("calls").read_text())) == (whole, calls)
    assert len(_rows("pruning")) == 9
    assert paper.main([*arguments, *only, "--seed", "1"]) == 0
    assert {row["seed"] for row in _rows("pruning")} == {"1"}, "figures of one seed take the place of another's"
    assert len(_rows("pruning")) == 9
    Path("out/pruning.csv").write_text("model,budget\n")
    assert paper.main([*arguments, *only]) == 2


def test_pruning_is_what_optimize_makes(arguments: list[str]) -> None:
    assert paper.main([*arguments, "--only", "pruning"]) == 0
    order = np.random.default_rng(0).permutation(64)
    with np.load("calib.npz") as stored:
        inputs = {name: stored[name][order] for name in stored.files}
    for row in _rows("pruning"):
        settings = {
            "default": {},
            "paper": {"mode": "paper", "fold_batchnorm": False},
            "magnitude": {"criterion": "magnitude", "compensation": "none"},
        }[row["method"]]
        slim = optimize("model.onnx", inputs, macs=float(row["budget"]), threads=1, bench_seconds=0, **settings)  # type: ignore[arg-type]
        macs = slim.report["macs"]
        assert float(row["macs"]) == pytest.approx(macs["after"] / macs["before"], rel=1e-5)
        assert float(row["fidelity"]) == pytest.approx(slim.report["fidelity"], rel=1e-4)
        assert float(row["score"]) == len(slim.model.graph.node)


def test_noise_has_the_energy_that_it_should_have(arguments: list[str]) -> None:
    options = Options(budget=Keep(1.0), plan=None, threads=1)
    front = OnnxFrontEnd("model.onnx", options)
    batches = front.batches("calib.npz", options)
    assert batches is not None
    random = np.random.default_rng(0)
    layers = [noisy for g in scored(front, batches, options).groups for noisy in noise.readers(g, random)]
    assert layers
    for noisy in layers:
        hifi, others = (set(noisy.sets[name]) for name in ("hifi", "others"))
        assert hifi and others and not hifi & others
        for place in noise.PLACES:
            deviations = noisy.deviations(place, 0.3)
            assert (deviations**2).sum() == pytest.approx(0.3 * noisy.variance.sum())
            assert set(np.flatnonzero(deviations)) == set(noisy.sets[place])
    feeds = batches.feeds[0]
    plain = to_proto(front.program.model)
    quiet, loud = (to_proto(noise.with_noise(front.program, layers[:1], "hifi", level, 0)) for level in (0.0, 0.3))
    (clean,), (same,), (noisy_output,) = (noise._outputs(model, [feeds], 1) for model in (plain, quiet, loud))
    for name, array in clean.items():
        np.testing.assert_allclose(same[name], array, rtol=1e-5, atol=1e-6)
        assert np.abs(noisy_output[name] - array).max() > 1e-3
    # what was added to the layer's input, where ONNX Runtime adds it
    loud.graph.output.extend([onnx.ValueInfoProto(name="noise_scaled_value_0")])
    added = noise._outputs(loud, [feeds], 1)[0]["noise_scaled_value_0"]
    assert added.shape[1] == len(layers[0].variance)
    measured = added.var(axis=(0, 2, 3))
    np.testing.assert_allclose(measured, layers[0].deviations("hifi", 0.3) ** 2, rtol=0.2)


def test_noise_is_the_same_for_the_same_seed(arguments: list[str]) -> None:
    assert paper.main([*arguments, "--only", "noise"]) == 0
    rows = _rows("noise")
    once = Path("out/noise.csv").read_bytes()
    for place in noise.PLACES:
        errors = [float(row["error"]) for row in rows if row["place"] == place]
        assert errors == sorted(errors) and errors[0] > 0, "rows stand by level"
    Path("out/noise.csv").unlink()
    assert paper.main([*arguments, "--only", "noise"]) == 0
    assert Path("out/noise.csv").read_bytes() == once


def test_bounds_are_those_of_score(arguments: list[str]) -> None:
    assert paper.main([*arguments, "--only", "bounds"]) == 0
    order = np.random.default_rng(0).permutation(64)
    with np.load("calib.npz") as stored:
        inputs = {name: stored[name][order] for name in stored.files}
    found = score("model.onnx", inputs, bounds=True, fold_batchnorm=False, threads=1).bounds
    assert found is not None
    rows = [row for row in _rows("bounds") if row["of"] == "layer"]
    assert [(row["name"], float(row["gain_0.1"])) for row in rows] == [
        (gain.name, pytest.approx(gain.gains[1], rel=1e-4)) for gain in found.layers
    ]


def test_inputs_of_each_kind() -> None:
    subject = subjects.sample("digits-cnn", 40, 3, 1)
    real, again = data.made(subject, "real", "10"), data.made(subject, "real", "30")
    np.testing.assert_array_equal(real["image"], again["image"][:10])
    assert len(data.made(subject, "real", "all")["image"]) == 40
    drawn = data.made(subject, "noise", "all")["image"]
    assert drawn.shape == (40, 1, 32, 32) and abs(drawn.std() - 1) < 0.02
    few = [("real", "10"), ("real", "30")]
    assert data.cells(subject) == [("real", "all"), ("synthesised", "all"), ("noise", "all"), *few]


def test_classes_are_forgotten(tmp_path: Path) -> None:
    subject = subjects.sample("digits-vit", None, 0, 1)
    ledger = Ledger(tmp_path, unlearning.EXPERIMENT)
    for cell, rows in unlearning.measure(subject, [("edit", "3")]):
        ledger.add(subject, cell, rows)
    (row,) = ledger.rows
    assert row["class"] == "3" and float(row["forget"]) < 5 < 95 < float(row["forget_dense"])
    assert float(row["remain"]) > float(row["remain_dense"]) - 2
    table = unlearning.table(ledger.rows, [subject]).splitlines()
    assert [line for line in table if line.startswith("| digits-vit, class 3 | 0.00 / 9")]
    assert [line for line in table if "(1 of 10)" in line]
    assert not [line for line in table if "class 0" in line]
    assert table[-1] == "Not run yet, in part or at all: digits-vit."


def test_language_models_stand_beside_the_papers_ratio() -> None:
    subject = subjects.shared(subjects.SHARED[3], Path(), None, 0, 1)
    row = dict.fromkeys(("macs", "params"), "0.9") | {"score": "7.5", "dense": "5", "model": "stories260K"}
    row |= {"budget": "0.9", "scope": "mlp", "method": "default"}
    table = language.table([row], [subject]).splitlines()
    assert "| stories260K, mlp, default, 0.9 | 0.900 | 0.900 | 7.500 | 1.50 |" in table
    assert not any(line.startswith("| stories260K, all, paper, 0.7") for line in table)
    assert table[-1] == "Not run yet, in part or at all: stories260K."
    assert "| paper: Llama-2-7B, mlp, ModHiFi-P, 0.9 |  |  | 5.97 | 1.17 |" in table
    assert language.cells(subjects.sample("digits-cnn", None, 0, 1)) == []


def test_every_cell_has_a_place_in_its_table() -> None:
    """Without any CSV all tables are empty, and say so."""
    names = list(paper.EXPERIMENTS)
    document = "\n".join(f"<!-- {name} -->\n<!-- /{name} -->" for name in names)
    text = paper.rendered(document, Path("nowhere"))
    for name in names:
        part = text.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]
        assert "not run yet" in part.lower()
        rows = [line.count("|") for line in part.strip().splitlines() if line.startswith("|")]
        assert len(set(rows)) <= 1, name


def test_the_document_says_what_the_figures_say() -> None:
    document = ROOT / "REPRODUCTION.md"
    text = document.read_text(encoding="utf-8")
    assert paper.rendered(text, ROOT / "docs" / "reproduction") == text, "run python -m tools.evidence.paper --render"


def test_what_is_missing_is_said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert paper.main(["--out", "out", "--document", "none.md", "--shared", "nowhere", "--minutes", "0"]) == 0
    assert "nowhere: has no eval/evaluate.py, so only the samples are measured" in capsys.readouterr().err
    assert paper.main([*arguments, "--only", "pruning,noises"]) == 2
    assert "--only: 'noises' is unknown; choose from existence,noise" in capsys.readouterr().err
    assert paper.main(["--model", "model.onnx", "--out", "out"]) == 2
    assert "give --calib and --score with a model of your own" in capsys.readouterr().err


def test_the_mlps_of_a_language_model_are_its_hidden_units(tmp_path: Path) -> None:
    """Whatever its weights are called."""
    model = small.SMALL["swiglu"]()
    onnx.save(model, tmp_path / "m.onnx")
    subject = subjects.Subject("m", str(tmp_path / "m.onnx"), "language", "perplexity", dict, lambda proto: 0.0)
    assert language.only(subject, "all") == []
    names = language.only(subject, "mlp")
    assert names == [g.name for g in modhifi_graph.inspect(tmp_path / "m.onnx").groups if g.kind == "hidden"]
    assert names
