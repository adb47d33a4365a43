"""What holds for every command: exit codes, one line for every error, help, nothing half-written."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnx
import pytest

import modhifi_graph

COMMAND = [sys.executable, "-m", "modhifi_graph"]


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
