"""``optimize --report``: a page beside the model, with the command that made both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from modhifi_graph import cli
from modhifi_graph.jobs.optimize import optimize

from ...oracles import small


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    model = small.SMALL["conv_chain"]()
    onnx.save(model, tmp_path / "chain.onnx")
    np.savez(tmp_path / "calib.npz", **small.samples(model, 0, 64))
    return tmp_path / "chain.onnx"


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_a_page_with_the_command_line(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = chain.parent
    calib, slim, written = folder / "calib.npz", folder / "slim.onnx", folder / "a page.html"
    arguments = ("optimize", chain, "--calib", calib, "--macs", "0.5", "-o", slim, "--report", written)
    assert run(*arguments, "--bench-seconds", "0.05", "--threads", "1", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert {"rows", "not_timed"} == report["layers"].keys()
    assert [row["ops"][0] for row in report["layers"]["rows"]].count("Conv") == 2
    for row in report["groups"]:
        spectrum = row["spectrum"]
        assert (len(spectrum["stays"]), len(spectrum["went"])) == (row["after"], row["before"] - row["after"])
    assert list(report["seconds"])[-1] == "layers"
    text = written.read_text(encoding="utf-8")
    assert f"modhifi-graph optimize {chain} --calib {calib} --macs 0.5 -o {slim} --report &#39;{written}&#39;" in text


def test_nothing_is_timed_where_nothing_is_to_be(chain: Path) -> None:
    folder = chain.parent
    options = ("--calib", folder / "calib.npz", "--keep", "0.5", "--bench-seconds", "0", "-q")
    assert run("optimize", chain, *options, "-o", folder / "slim.onnx", "--report", folder / "r.html") == 0
    text = (folder / "r.html").read_text(encoding="utf-8")
    assert "<h2>Layers</h2>" not in text
    assert "<h2>Groups</h2>" in text


@pytest.mark.parametrize("name", ["chain.onnx", "slim.onnx", "none/r.html"])
def test_it_is_refused_before_any_work(chain: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = chain.parent
    assert run("optimize", chain, "--macs", "0.5", "-o", folder / "slim.onnx", "--report", folder / name) == 2
    assert capsys.readouterr().err.startswith("modhifi-graph: error: ")
    assert not (folder / "slim.onnx").exists()


def test_without_details_the_report_is_as_ever(chain: Path) -> None:
    plain = optimize(chain, chain.parent / "calib.npz", keep=0.5, bench_seconds=0.05, threads=1).report
    assert "layers" not in plain
    assert all("spectrum" not in row for row in plain["groups"])


def test_details_change_nothing_else(chain: Path) -> None:
    options = {"keep": 0.5, "bench_seconds": 0, "threads": 1}
    plain, detailed = (optimize(chain, chain.parent / "calib.npz", details=d, **options) for d in (False, True))
    assert detailed.model.SerializeToString(deterministic=True) == plain.model.SerializeToString(deterministic=True)
    assert detailed.plan == plain.plan
