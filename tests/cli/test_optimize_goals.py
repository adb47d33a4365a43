"""``optimize`` with what is to be measured: --speedup, --latency, --fidelity and --pareto."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where times are kept: not where the user's are."""
    monkeypatch.setenv("MODHIFI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


QUICK = ("--samples", "16", "--bench-seconds", "0", "--threads", "1", "--json")


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        (("--speedup", "1000"), "the speed-up 1000 was out of reach on onnxruntime"),
        (("--latency", "0.000001"), "a latency of 1e-06 ms was out of reach on onnxruntime"),
    ],
)
def test_what_is_out_of_reach_is_written_and_exits_with_4_where_it_is_required(
    run: Any, chain: Path, tmp_path: Path, cache: Path, goal: tuple[str, str], message: str
) -> None:
    output = tmp_path / "slim.onnx"
    arguments = ("optimize", chain, *QUICK, *goal, "-o", output)
    result = run(*arguments, "--require")
    assert result.code == 4
    report = json.loads(result.out)
    assert not report["search"]["met"]
    assert any(message in warning for warning in report["warnings"])
    assert output.exists()
    assert list(cache.glob("latency-*.json"))
    assert run(*arguments).code == 0


def test_a_fidelity_is_kept(run: Any, chain: Path, tmp_path: Path) -> None:
    result = run("optimize", chain, *QUICK, "--fidelity", "0.9", "-o", tmp_path / "slim.onnx", "--require")
    assert result.code == 0
    assert json.loads(result.out)["fidelity"] >= 0.9


def test_a_front_is_as_many_files_and_a_table(run: Any, chain: Path, tmp_path: Path) -> None:
    output, plan = tmp_path / "slim.onnx", tmp_path / "plan.json"
    goal = ("--pareto", "2", "--speedup", "1.2", "-o", output, "--plan-out", plan)
    result = run("optimize", chain, *QUICK, *goal)
    assert result.code == 0
    front = json.loads(result.out)["front"]
    macs = [onnx_macs["macs"]["after"] for onnx_macs in front]
    assert len(front) == 2
    assert macs[1] <= macs[0] <= front[0]["macs"]["before"]
    written = sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(("slim", "plan")))
    assert written == ["plan-1.json", "plan-2.json", "slim-1.onnx", "slim-2.onnx"]
    for number in (1, 2):
        onnx.checker.check_model(tmp_path / f"slim-{number}.onnx", full_check=True)
    shown = run("optimize", chain, *QUICK[:-1], *goal)
    assert shown.out.count("slim-") == 2
    assert "95 % interval" in shown.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--speedup", "0.9"), "speedup is 0.9; expected at least 1"),
        (("--latency", "-1"), "latency is -1; expected milliseconds above 0"),
        (("--fidelity", "2"), "fidelity is 2; expected a fraction above 0 and at most 1"),
        (("--speedup", "2", "--latency", "3"), "and --plan, not --speedup, --latency"),
        (("--pareto", "3", "--macs", "0.5"), "--pareto goes alone or with --speedup, not with --macs"),
        (("--pareto", "1"), "Invalid value for '--pareto'"),
        (("--pareto", "2", "--speedup", "1"), "speedup is 1; expected more than 1"),
    ],
)
def test_wrong_goals(run: Any, chain: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    result = run("optimize", chain, "-o", tmp_path / "slim.onnx", *options)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
