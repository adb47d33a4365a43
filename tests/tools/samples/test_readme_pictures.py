"""The pictures of the README are of what is there, and ask nobody for anything."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from tools.command import ROOT
from tools.samples import readme_pictures as pictures

REPORT = {
    "macs": {"before": 2_000_000, "after": 1_000_000},
    "latency_ms": {"before": {"median": 2.0, "p95": 3.0}, "after": {"median": 1.0, "p95": 1.5}},
    "speedup": 2.0,
    "interval": [1.8, 2.2],
}


def test_the_terminal_is_drawn() -> None:
    drawn = pictures.drawing_of_terminal(REPORT, "modhifi-graph optimize model.onnx")
    said = "".join(ElementTree.fromstring(drawn).itertext()).replace("\N{NO-BREAK SPACE}", " ")
    assert "$ modhifi-graph optimize model.onnx" in said
    assert "2.00x faster (1.80 to 2.20)" in said
    assert "Wrote slim.onnx" in said
    assert "font-face" not in drawn
    assert "url(http" not in drawn
    assert drawn == pictures.drawing_of_terminal(REPORT, "modhifi-graph optimize model.onnx")


def test_the_readme_shows_them_and_they_are_small() -> None:
    shown = re.findall(r"!\[[^\]]+\]\((docs/[^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert sorted(shown) == ["docs/report.png", "docs/terminal.svg"]
    for name in shown:
        assert 1_000 < (ROOT / name).stat().st_size < 200_000
