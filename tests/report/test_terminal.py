"""Reports and progress as the terminal shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import modhifi_graph
from modhifi_graph.report import terminal

from ..oracles import small

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
