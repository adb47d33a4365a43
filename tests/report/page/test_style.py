"""Colours: readable in the light, in the dark and on paper, by the measure of WCAG 2.1."""

from __future__ import annotations

import re
from importlib import resources

import pytest

STYLE = resources.files("modhifi_graph.report.page").joinpath("style.css").read_text(encoding="utf-8")
SCHEMES = [
    dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6});", block)) for block in re.findall(r":root \{(.*?)\}", STYLE, re.S)
]


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_measure() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", SCHEMES, ids=["light", "dark", "paper"])
def test_text_and_shapes_stand_out(scheme: dict[str, str]) -> None:
    for text in ("ink", "soft", "went-ink", "bad"):
        assert contrast(scheme[text], scheme["paper"]) >= 4.5, text
    for shape in ("stays", "went", "before"):
        assert contrast(scheme[shape], scheme["paper"]) >= 3, shape


def test_labels_inside_bars() -> None:
    inside = re.findall(r"svg \.inside\.stays \{ fill: (#[0-9a-f]+); \}", STYLE)
    assert len(inside) == len(SCHEMES) == 3
    for label, scheme in zip(inside, SCHEMES, strict=True):
        assert contrast(label, scheme["stays"]) >= 4.5


def test_the_page_asks_nobody_for_anything() -> None:
    assert not re.search(r"url\(|@import|http", STYLE)
