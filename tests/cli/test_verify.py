"""``verify``: a finished file and its plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class TestVerify:
    def test_a_finished_file(self, run: Any, finished: tuple[Path, Path, Path]) -> None:
        dense, slim, plan = finished
        result = run("verify", dense, slim, "--plan", plan)
        assert (result.code, result.err) == (0, "")
        assert "is the graph that the plan describes" in result.out
        data = run("verify", dense, slim, "--plan", plan, "--json").json()
        assert data.keys() == {"max_abs_error", "tolerance", "output", "runs"}
        assert data["max_abs_error"] <= data["tolerance"]
