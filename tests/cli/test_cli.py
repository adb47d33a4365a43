"""The command line: exit codes, one line for every error, JSON alone on standard output, nothing half-written."""

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
import pytest
from onnx import numpy_helper

import modhifi_graph
from modhifi_graph import samples
from modhifi_graph.models.opening import sample_path
from modhifi_graph.report import terminal

from ..oracles import small

COMMAND = [sys.executable, "-m", "modhifi_graph"]
ESCAPE = "\x1b"


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["inspect"], "Missing argument"),
            (["inspect", "a", "--nonsense"], "No such option"),
            (["nonsense"], "No such command 'nonsense'; see --help"),
            (["inspect", "missing.onnx"], "missing.onnx: there is no such file"),
            (["inspect", "sample:nothing"], "no such sample; give sample:digits-cnn or sample:digits-vit"),
            (["inspect", "."], ".: is a folder; give the path of the .onnx file in it"),
            (["bench", "missing.onnx"], "missing.onnx: there is no such file"),
            (["bench", "sample:digits-cnn", "--provider", "Abacus"], "provider Abacus is not in this onnxruntime"),
            (["bench", "sample:digits-cnn", "--threads", "-1"], "--threads"),
            (["verify", "a", "b"], "Missing option"),
            (["verify", "a", "b", "--plan", "missing.json"], "missing.json: cannot be read as a plan"),
        ],
    )
    def test_wrong_input_exits_with_2_and_one_line(self, run: Any, arguments: list[str], message: str) -> None:
        result = run(*arguments)
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith("modhifi-graph: error: ")
        assert message in result.err
        assert result.err.count("\n") == 1

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ([], "give exactly one of --macs, --params, --keep, --speedup, --latency, --fidelity and --plan"),
            (["--macs", "0.5", "--keep", "0.5"], "--fidelity and --plan, not --macs, --keep"),
            (["--macs", "0.5", "--plan", "p.json"], "--fidelity and --plan, not --macs, --plan"),
            (["--macs", "0"], "--macs is 0; expected a fraction above 0 and at most 1"),
            (["--params", "-0.1"], "--params is -0.1; expected a fraction above 0 and at most 1"),
            (["--keep", "1.01"], "--keep is 1.01; expected a fraction above 0 and at most 1"),
            (["--macs", "nan"], "--macs is nan; expected a fraction above 0 and at most 1"),
            (
                ["--keep", "0.5", "--depth"],
                "depth competes for multiply-accumulates or parameters: give macs or params",
            ),
            (["--macs", "half"], "Invalid value for '--macs'"),
            (["--macs", "0.5", "--min-keep", "0"], "Invalid value for '--min-keep'"),
            (["--mode", "paper", "--keep", "0.5"], "mode paper finds out itself how much of each group stays"),
            (["--mode", "paper", "--rounds", "0"], "Invalid value for '--rounds'"),
        ],
    )
    def test_wrong_budgets(self, run: Any, tmp_path: Path, options: list[str], message: str) -> None:
        result = run("optimize", "sample:digits-cnn", "-o", tmp_path / "slim.onnx", *options)
        assert result.code == 2
        assert message in result.err
        assert list(tmp_path.iterdir()) == []

    def test_the_input_is_never_overwritten(self, run: Any, chain: Path) -> None:
        before = chain.read_bytes()
        link = chain.with_name("link.onnx")
        link.symlink_to(chain)
        for output in (chain, link, chain.parent / "." / chain.name):
            result = run("optimize", chain, "-o", output, "--macs", "0.5")
            assert result.code == 2
            assert f"would overwrite the model {chain}; choose another name" in result.err
        result = run("optimize", chain, "-o", chain.with_name("s.onnx"), "--plan-out", chain, "--macs", "0.5")
        assert "--plan-out is" in result.err
        assert chain.read_bytes() == before

    def test_outputs_that_cannot_be_written(self, run: Any, chain: Path) -> None:
        result = run("optimize", chain, "-o", chain.parent / "no" / "s.onnx", "--macs", "0.5")
        assert (result.code, "does not exist; create it first" in result.err) == (2, True)
        result = run("optimize", chain, "-o", chain.parent, "--macs", "0.5")
        assert (result.code, "is a folder; give the name of a file" in result.err) == (2, True)
        result = run("optimize", chain, "-o", chain.with_name("s"), "--plan-out", chain.with_name("s"), "--macs", "1")
        assert (result.code, "would overwrite what --output writes" in result.err) == (2, True)

    def test_our_own_defects_are_one_line_too(self, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError("division\nby zero")

        monkeypatch.setattr("modhifi_graph.jobs.inspect.inspect", broken)
        result = run("inspect", "x.onnx")
        assert result.code == 1
        assert result.err == (
            "modhifi-graph: error: internal error: ZeroDivisionError: division by zero; please report it, "
            "with what MODHIFI_DEBUG=1 shows\n"
        )
        monkeypatch.setenv("MODHIFI_DEBUG", "1")
        assert "Traceback" in run("inspect", "x.onnx").err

    def test_a_failed_verification_exits_with_3(self, run: Any, finished: tuple[Path, Path, Path]) -> None:
        dense, slim, plan = finished
        model = onnx.load(slim)
        model.graph.node[0].attribute[0].ints[0] += 1
        onnx.save(model, slim)
        result = run("verify", dense, slim, "--plan", plan)
        assert (result.code, result.out) == (3, "")
        assert result.err.startswith("modhifi-graph: error: ")

    def test_ctrl_c_exits_with_130(self) -> None:
        process = subprocess.Popen(
            [*COMMAND, "bench", "sample:digits-cnn", "--seconds", "60"], stderr=subprocess.PIPE, text=True
        )
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert err.splitlines()[-1] == "modhifi-graph: error: interrupted; nothing was written"
        assert "Traceback" not in err

    def test_a_reader_that_stops_early(self) -> None:
        script = f"{sys.executable} -m modhifi_graph inspect sample:digits-vit --json | head -1"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("{\n", "")


class TestHelp:
    def test_without_arguments(self, run: Any) -> None:
        result = run()
        assert result.code == 0
        assert all(name in result.out for name in ("optimize", "inspect", "verify", "bench"))

    @pytest.mark.parametrize("command", ["optimize", "inspect", "verify", "bench"])
    def test_every_command_has_examples(self, run: Any, command: str) -> None:
        result = run(command, "--help")
        assert result.code == 0
        assert f"modhifi-graph {command} " in result.out.split("Example")[1]

    def test_the_version(self, run: Any) -> None:
        assert run("--version").out == f"modhifi-graph {modhifi_graph.__version__}\n"

    def test_it_starts_without_heavy_libraries(self) -> None:
        script = (
            "import sys; from modhifi_graph.cli import _run; code = _run(['--help'], False); "
            "print(code, [m for m in ('torch', 'onnx', 'onnxscript', 'onnxruntime', 'numpy') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "0 []"


class TestInspect:
    def test_a_table(self, run: Any, chain: Path) -> None:
        result = run("inspect", chain)
        assert (result.code, result.err) == (0, "")
        first, header, *rows = result.out.splitlines()
        assert first.startswith(f"{chain}: 20,766 MACs a sample")
        assert header.split() == ["group", "size", "kind", "produced", "by", "consumed", "by", "MACs", "it", "governs"]
        assert rows[0].split()[:3] == ["w0", "8", "channels"]
        assert ESCAPE not in result.out

    def test_json(self, run: Any, chain: Path) -> None:
        data = run("inspect", chain, "--json").json()
        assert [(group["name"], group["size"]) for group in data["groups"]] == [("w0", 8), ("w1", 6)]
        assert data["macs"] == 20766

    def test_why(self, run: Any, chain: Path) -> None:
        result = run("inspect", chain, "--why", "w1")
        assert "  axis 1 = w0:8\n    factor of 8: group 'w0', can be pruned\n" in result.out
        data = run("inspect", chain, "--why", "w1", "--json").json()
        assert data[0]["axes"][1]["factors"] == [{"size": 8, "group": "w0", "reasons": []}]
        assert run("inspect", chain, "--why", "nothing").code == 2

    def test_graphml(self, run: Any, chain: Path) -> None:
        assert run("inspect", chain, "--graphml", chain.with_name("g.graphml")).code == 0
        assert chain.with_name("g.graphml").read_text().startswith("<?xml")
        assert run("inspect", chain, "--graphml", chain.parent / "no" / "g.graphml").code == 2

    def test_a_model_without_groups(self, run: Any, tmp_path: Path) -> None:
        text = "g (float[N,3] x) => (float[N,5] y) <float[3,5] w> { y = MatMul(x, w) }"
        onnx.save(small.build(text), tmp_path / "m.onnx")
        assert "Nothing in this model can be pruned." in run("inspect", tmp_path / "m.onnx").out


class TestVerify:
    def test_a_finished_file(self, run: Any, finished: tuple[Path, Path, Path]) -> None:
        dense, slim, plan = finished
        result = run("verify", dense, slim, "--plan", plan)
        assert (result.code, result.err) == (0, "")
        assert "is the graph that the plan describes" in result.out
        data = run("verify", dense, slim, "--plan", plan, "--json").json()
        assert data.keys() == {"max_abs_error", "tolerance", "output", "runs"}
        assert data["max_abs_error"] <= data["tolerance"]


class TestBench:
    def test_one_model(self, run: Any, chain: Path) -> None:
        data = run("bench", chain, "--json", "--seconds", "0.01", "--threads", "1").json()
        assert data["a"]["n"] >= 30
        assert (data["b"], data["engine"]["threads"], data["engine"]["precision"]) == (None, 1, "fp32")
        assert data["machine"]["cores"] >= 1

    def test_two_models(self, run: Any, finished: tuple[Path, Path, Path]) -> None:
        dense, slim, _ = finished
        result = run("bench", dense, slim, "--seconds", "0.01")
        assert result.code == 0
        assert f"{slim} is " in result.out.replace("\n", " ")
        assert "(CPUExecutionProvider), fp32, default threads, batch 1" in result.out

    def test_a_sample(self, run: Any) -> None:
        data = run("bench", "sample:digits-cnn", str(sample_path("digits-cnn")), "--json", "--seconds", "0.01").json()
        assert 0.3 < data["speedup"] < 3

    def test_an_engine(self, run: Any, chain: Path, tmp_path: Path) -> None:
        pytest.importorskip("openvino")
        engine = tmp_path / "e.blob"
        made = run("compile", chain, "--backend", "openvino", "-o", engine, "--json").json()
        assert (made["backend"], made["precision"], made["bytes"]) == ("openvino", "fp32", engine.stat().st_size)
        data = run("bench", chain, engine, "--backend", "openvino", "--json", "--seconds", "0.01").json()
        assert data["engine"]["backend"] == "openvino"

    def test_models_that_cannot_be_compared(self, run: Any, chain: Path) -> None:
        result = run("bench", chain, "sample:digits-cnn")
        assert result.code == 2
        assert "only models with the same inputs can be compared" in result.err


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


REPORT: dict[str, Any] = {
    "macs": {"before": 300_775_552, "after": 150_000_000},
    "params": {"before": 3_489_099, "after": 1_700_000},
    "bytes": {"before": 13_970_403, "after": 7_000_000},
    "components": {"before": 4000, "after": 2500},
    "latency_ms": {"before": {"median": 10.0, "p95": 12.0, "n": 50}, "after": {"median": 5.0, "p95": 6.0, "n": 50}},
    "speedup": 2.0,
    "interval": [1.9, 2.1],
    "accuracy": {"before": 98.5, "after": 98.0},
    "groups": 25,
    "pinned": ["a", "b"],
    "fidelity": 0.98765,
    "verify": {"max_abs_error": 1.5e-6},
    "seconds": {"load": 0.5, "plan": 2.25},
    "warnings": ["layer [bold] saw too few samples"],
}


class TestTerminal:
    def test_the_report(self, capsys: pytest.CaptureFixture[str]) -> None:
        terminal.show(terminal.report(REPORT, Path("[red]slim.onnx")))
        lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
        assert lines == [
            "before after change",
            "MACs 300.8 M 150 M 0.499x",
            "parameters 3.489 M 1.7 M 0.487x",
            "bytes 13.97 M 7 M 0.501x",
            "components 4,000 2,500 0.625x",
            "latency, ms 10.000 5.000 2.00x faster (1.90 to 2.10)",
            "95th percentile 12.000 6.000",
            "accuracy, % 98.50 98.00 -0.50 points",
            "25 groups, 2 pinned, fidelity 0.9877, verified, largest error 1.5e-06",
            "Seconds: load 0.5, plan 2.2; 2.8 in all",
            "Warning: layer [bold] saw too few samples",
            "Wrote [red]slim.onnx",
        ]

    def test_a_report_of_a_run_without_timing(self, capsys: pytest.CaptureFixture[str]) -> None:
        result = {key: REPORT[key] for key in ("macs", "groups")} | {"latency_ms": None, "interval": None}
        terminal.show(terminal.report(result, Path("slim.onnx")))
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["before", "MACs", "25", "Wrote"]

    def test_branches_that_went_are_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        result = {"macs": REPORT["macs"], "branches": ["a", "b", "c", "[red]"]}
        terminal.show(terminal.report(result, Path("slim.onnx")))
        line = "Without 4 residual branches, by their last weights: a, b, c, and 1 more"
        assert line in capsys.readouterr().out.splitlines()

    def test_branches_that_could_go_are_counted(self, capsys: pytest.CaptureFixture[str]) -> None:
        found = modhifi_graph.inspect(small.build(small.CONVOLUTIONS["residual_projection"]))
        terminal.show(terminal.inspection(found))
        share = 100 * ((6 * 36 + 8 * 54) * 16 + 2 * 56 * 9 * 16) / found.macs
        assert f"2 residual branches could go as well with --depth: {share:.1f}% of the MACs" in capsys.readouterr().out

    def test_progress_goes_to_standard_error(self, capsys: pytest.CaptureFixture[str]) -> None:
        with terminal.progress(quiet=False) as report:
            for done in (1, 2, 3):
                report("observe", done, 3)
            report("plan", 1, 2)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "observe" in captured.err
        assert "3/3" in captured.err
        assert "1/2" in captured.err

    def test_quiet_progress(self, capsys: pytest.CaptureFixture[str]) -> None:
        with terminal.progress(quiet=True) as report:
            report("observe", 1, 3)
        assert capsys.readouterr() == ("", "")


def test_every_public_name_is_there() -> None:
    for name in modhifi_graph.__all__:
        assert getattr(modhifi_graph, name) is not None
    assert set(modhifi_graph.__all__) <= set(dir(modhifi_graph))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        modhifi_graph.nothing  # noqa: B018


def test_inspect_is_the_api(chain: Path) -> None:
    assert modhifi_graph.inspect(chain).groups[0].name == "w0"
    assert numpy_helper.to_array(onnx.load(chain).graph.initializer[0]).shape == (8, 3, 3, 3)


def test_score_writes_arrays_a_picture_and_a_table(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    scores, picture = tmp_path / "scores.npz", tmp_path / "scores.svg"
    sample = ("score", "sample:digits-vit", "--samples", "40", "--threads", "1", "-q")
    result = run(*sample[:-1], "-o", scores, "--plot", picture, "--bounds")
    assert result.code == 0
    assert "FS 0.8" in result.out
    assert "What normalisations divide by" in result.out
    assert picture.read_bytes().startswith(b"<?xml")
    found = run(*sample, "-o", scores, "--json").json()
    with np.load(scores) as arrays:
        for group in found["groups"]:
            assert len(arrays[f"{group['name']}/fidelity"]) == group["size"]
            assert arrays[f"{group['name']}/curve"][group["smallest"]["0.8"] - 1] >= 0.8


def test_score_refuses_before_any_work(run: Any, chain: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores.npz"
    for arguments, message in (
        ((chain, "--plot", tmp_path / "scores.txt"), "pictures are written as .png"),
        ((chain, "--plot", scores), "would overwrite what --output writes"),
    ):
        result = run("score", *arguments, "-o", scores)
        assert result.code == 2
        assert message in result.err
        assert not scores.exists()
