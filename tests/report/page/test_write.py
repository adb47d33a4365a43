"""The page: whole, the same each time, of nothing but itself, and safe to open whatever a model calls its nodes."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from modhifi_graph import page
from modhifi_graph.errors import InputError
from modhifi_graph.report.page.write import breakable

from .reports import report

EVIL = "<script>ran = true</script><img src=x onerror='ran = true'>"


class Parser(HTMLParser):
    """Every element with its attributes, in order, and whether each is closed."""

    VOID = ("meta", "link", "br", "wbr", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def everywhere(value: Any, name: str) -> Any:
    """A report with a name in place of every text that comes from a model."""
    if isinstance(value, dict):
        keys = ("name", "reason", "not_scored", "file", "what", "output")
        return {k: name if k in keys else everywhere(v, name) for k, v in value.items()}
    if isinstance(value, list):
        return [name if isinstance(v, str) else everywhere(v, name) for v in value]
    return value


def test_it_is_well_formed_and_needs_nothing() -> None:
    found = Parser(page.render(report(), model="m.onnx", command="modhifi-graph optimize m.onnx"))
    assert not found.open
    tags = [tag for tag, _ in found.found]
    assert not {"script", "img", "iframe", "object"} & set(tags)
    assert [attributes["href"] for tag, attributes in found.found if tag == "link"] == ["data:,"]
    assert not [a for _, attributes in found.found for a in attributes if a.startswith("on")]
    assert "modhifi-graph optimize m.onnx" in found.text


def test_every_drawing_says_what_it_is_or_is_beside_its_numbers() -> None:
    drawings = [a for tag, a in Parser(page.render(report())).found if tag == "svg"]
    assert len(drawings) == 4 + 1 + 2 + 2 + 3 + 2  # figures, front, the large strip, strips, layers, stages
    assert all(a.get("role") == "img" or a.get("aria-hidden") == "true" for a in drawings)


def test_names_are_shown_and_not_run() -> None:
    evil = everywhere(report(branches=["b"]), EVIL)
    text = page.render(evil, model=EVIL, command=EVIL)
    found = Parser(text)
    assert not found.open
    assert "script" not in [tag for tag, _ in found.found]
    assert "img" not in [tag for tag, _ in found.found]
    assert "onerror" not in {name for _, attributes in found.found for name in attributes}
    assert found.text.count(EVIL) > 10


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / "a.html", tmp_path / "b.html"]
    page.write(report(), paths[0], model="m")
    page.write(json.loads(json.dumps(report())), paths[1], model="m")
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_it_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    broken = report()
    del broken["verify"]
    with pytest.raises(KeyError):
        page.write(broken, tmp_path / "r.html")
    with pytest.raises(InputError, match="does not exist"):
        page.write(report(), tmp_path / "none" / "r.html")
    assert not list(tmp_path.iterdir())


def test_what_utf8_cannot_hold_is_no_reason_to_fail(tmp_path: Path) -> None:
    page.write(report(), tmp_path / "r.html", model="a\ud800b")
    assert "a?b" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_report_without_details_has_a_page() -> None:
    plain = report()
    for key in ("layers", "latency_ms", "speedup", "interval", "timing"):
        del plain[key]
    for row in plain["groups"]:
        row.pop("spectrum", None)
    found = Parser(page.render({**plain, "fidelity": None, "calibration": None, "warnings": [], "pinned": []}))
    assert "Layers" not in found.text
    assert "4 of 8" in found.text


def test_hundreds_of_wide_groups_stay_light() -> None:
    losses = [10.0 ** -(i / 40) for i in range(128)]
    rows = [
        {
            "name": f"stage{i}.block.conv.weight", "kind": "channels", "before": 2048, "after": 1024,
            "spectrum": {"per": 16, "stays": losses[:64], "went": losses[64:]},
        }
        for i in range(300)
    ]  # fmt: skip
    assert len(page.render(report(groups=rows))) < 600_000


def test_long_names_break_where_they_may() -> None:
    assert breakable("/a.b<c") == "/<wbr>a.<wbr>b&lt;c"
