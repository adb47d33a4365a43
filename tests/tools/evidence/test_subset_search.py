"""The tool that compares cheap searches with trying all sets."""

from __future__ import annotations

import pytest

from tools.evidence import subset_search


def test_the_tool_that_compares_searches(capsys: pytest.CaptureFixture[str]) -> None:
    subset_search.main(["sample:digits-vit", "--samples", "60", "--largest", "4"])
    *rows, worst = [[c.strip() for c in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(rows) == 9, "three layers of four heads, in three readings"
    assert [row[5] for row in rows] == ["0.00%"] * 9, "exchanges find the best heads"
    assert worst[0] == "worst"
    for column in range(3, 8):
        assert worst[column] == max((row[column] for row in rows), key=lambda cell: float(cell[:-1]))

    subset_search.main(["sample:digits-cnn", "--samples", "20"])
    assert "No layer has at most 16 components: they have 64, 96." in capsys.readouterr().out
