"""The tool that says what scoring costs in forward passes."""

from __future__ import annotations

import re

import pytest

from tools.timing import score_speed


def test_the_tool_that_times_scoring(capsys: pytest.CaptureFixture[str]) -> None:
    score_speed.main(["sample:digits-vit", "--samples", "40", "--rounds", "1"])
    head, wall, cpu = capsys.readouterr().out.splitlines()
    assert head.startswith("40 samples, 2048 rows a layer, 1 threads")
    for line, clock in ((wall, "wall"), (cpu, "cpu")):
        assert re.fullmatch(rf" *{clock}: forward [\d.]+ s, scoring [\d.]+ s, ratio [\d.]+", line)
