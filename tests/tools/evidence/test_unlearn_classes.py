"""The tool that has every class forgotten in turn."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.evidence import unlearn_classes


def test_the_tool_prints_a_table(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys, "argv",
        ["unlearn_classes", "--model", "sample:digits-vit", "--modes", "edit,zero", "--classes", "8", "--forget", "25",
         "--remain", "200", "--published", "100", "--threads", "1", "--csv", str(tmp_path / "t.csv")],
    )  # fmt: skip
    unlearn_classes.main()
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["mode", "---", "edit", "zero", "dense"]
    assert lines[2].split("|")[2].strip() == "0.00 (0.00)"
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 3
