"""Charts: where things are, how many there are, and that names are text."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from modhifi_graph.report.page import charts
from modhifi_graph.report.page.charts import Estimate, Point
from modhifi_graph.report.page.scales import Decades, Scale


def parsed(drawing: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(str(drawing))


def of_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [each for each in root.iter() if name in each.get("class", "").split()]


class TestFront:
    def test_two_models_are_two_dots(self) -> None:
        root = parsed(
            charts.front([Point(1.0, 1.0, None, "dense", "dense"), Point(1.5, 0.9, (1.4, 1.8), "slim", "slim")])
        )
        dense, slim = (group.find("circle") for group in of_class(root, "point"))
        assert dense is not None
        assert slim is not None
        assert (dense.get("cx"), dense.get("cy")) == ("0.0%", "0.0")
        assert (slim.get("cx"), slim.get("cy")) == ("62.5%", "192.0")  # from 1.0 to 1.8; from 0.875 to 1
        assert [text.text for text in of_class(root, "tick")][:6] == [
            "0.875",
            "0.900",
            "0.925",
            "0.950",
            "0.975",
            "1.000",
        ]
        assert not of_class(root, "joined")

    def test_only_what_nothing_beats_is_joined(self) -> None:
        beaten = Point(1.2, 0.5)
        points = [Point(1.0, 1.0), Point(1.5, 0.9), Point(2.0, 0.8), beaten]
        assert beaten not in charts._unbeaten(points)
        assert len(of_class(parsed(charts.front(points)), "joined")) == 2

    def test_an_interval_has_two_ends(self) -> None:
        root = parsed(charts.front([Point(1.0, 1.0), Point(1.5, 0.9, (1.2, 1.6))]))
        assert [(line.get("x1"), line.get("x2")) for line in of_class(root, "interval")] == [
            ("33.333%", "100.0%"), ("33.333%", "33.333%"), ("100.0%", "100.0%"),
        ]  # fmt: skip


def test_a_row_for_every_attempt() -> None:
    rows = [Estimate("1", 1.2, (1.1, 1.3)), Estimate("2", 1.5, (1.4, 1.6))]
    root = parsed(charts.estimates(rows, 1.5))
    assert [circle.get("cx") for circle in root.iter("circle")] == ["33.333%", "83.333%"]
    assert of_class(root, "target")[0].get("x1") == "83.333%"
    assert root.get("height") == str(2 * charts.ROW + 12)


class TestStrip:
    AXIS = Decades(-4, 0)

    def strip(self, stays: list[float | None], went: list[float | None], per: int = 1) -> ElementTree.Element:
        spectrum = {"per": per, "stays": stays, "went": went}
        return parsed(charts.strip(spectrum, per * len(stays), per * len(went), self.AXIS, "t"))

    def test_heights_are_losses_on_the_common_scale(self) -> None:
        root = self.strip([None, 1e-1], [1e-2, 1e-3])
        stays, went = of_class(root, "stays")[0], of_class(root, "went")[0]
        # Never lost: to the top; then a quarter, a half and three quarters below it.
        assert re.findall(r"V(\d+)h1", stays.get("d", "")) == ["0", "25"]
        assert re.findall(r"V(\d+)h1", went.get("d", "")) == ["50", "75"]

    def test_what_went_is_apart(self) -> None:
        root = self.strip([0.1] * 30, [0.01] * 30)
        assert of_class(root, "went")[0].get("d", "").startswith("M31 ")
        assert root.get("viewBox") == "0 0 61 100"

    def test_what_is_whole_has_no_gap(self) -> None:
        root = self.strip([0.1] * 30, [])
        assert root.get("viewBox") == "0 0 30 100"
        assert not of_class(root, "went")

    def test_nothing_lost_is_a_sliver(self) -> None:
        assert re.findall(r"V(\d+)h1", of_class(self.strip([0.1], [0.0]), "went")[0].get("d", "")) == ["94"]

    def test_a_shared_bar_is_as_wide_as_its_components(self) -> None:
        spectrum = {"per": 4, "stays": [None, 0.1], "went": [0.01]}
        root = parsed(charts.strip(spectrum, 6, 4, self.AXIS, "t"))
        assert re.findall(r"h(\d+)", of_class(root, "stays")[0].get("d", "")) == ["4", "2"]

    def test_it_is_light(self) -> None:
        losses: list[float | None] = [10 ** -(i / 32) for i in range(128)]
        drawn = charts.strip({"per": 16, "stays": losses[:64], "went": losses[64:]}, 1024, 1024, self.AXIS, "t")
        assert len(drawn) < 2000


def test_bars_are_on_one_axis() -> None:
    axis = Scale(0.0, 2.0, 1.0)
    assert [rect.get("width") for rect in parsed(charts.bars(1.0, 0.5, axis)).iter("rect")] == ["50.0%", "25.0%"]
    assert len(list(parsed(charts.bars(1.0, None, axis)).iter("rect"))) == 1
    assert [text.text for text in parsed(charts.ruler(axis, "ms")).iter("text")] == ["0", "1", "2 ms"]
    assert [rect.get("width") for rect in parsed(charts.share(1.7)).iter("rect")] == ["100%", "100.0%"]
    assert [rect.get("width") for rect in parsed(charts.bar(1.0, 4.0)).iter("rect")] == ["25.0%"]


def test_the_large_strip_has_axes() -> None:
    spectrum = {"per": 1, "stays": [None, 0.1], "went": [0.01, 0.001]}
    root = parsed(charts.exemplar(spectrum, 2, 2, Decades(-4, 0), "g", "lost"))
    assert [text.text for text in of_class(root, "tick")] == [
        "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "1", "0 %", "25 %", "50 %", "75 %", "100 %",
    ]  # fmt: skip
    assert [text.text for text in of_class(root, "inside")] == ["2 stay", "2 went"]


@pytest.mark.parametrize("name", ["<script>ran = true</script>", 'a" onload="b', "&amp;", "\N{BLACK HEART SUIT}"])
def test_names_are_text(name: str) -> None:
    spectrum = {"per": 1, "stays": [None], "went": [0.1]}
    for drawn in (
        charts.front([Point(1.0, 1.0, None, name), Point(2.0, 0.5)]),
        charts.estimates([Estimate(name, 1.0, (0.9, 1.1))]),
        charts.strip(spectrum, 1, 1, Decades(-1, 0), name),
        charts.exemplar(spectrum, 1, 1, Decades(-1, 0), name, "lost"),
    ):
        root = parsed(drawn)  # and is well-formed
        assert name in "".join(root.itertext()) + root.get("aria-label", "")
        assert not list(root.iter("script"))
        assert not [each for each in root.iter() if "onload" in each.attrib]
