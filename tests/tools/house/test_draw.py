"""The picture of the house is that of the data, all of it, and its words stay in their boxes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tools.house import draw
from tools.house.imports import ROOT, House, house
from tools.house.lettering import Type

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def plan() -> House:
    return house()


def texts(drawn: str, kind: str) -> list[str]:
    root = ElementTree.fromstring(drawn)
    return [text.text or "" for text in root.iter(f"{SVG}text") if text.get("class") == kind]


def overflowing(drawn: str) -> list[str]:
    """Words that are wider than the box that they are in, or above or below it."""
    found = []
    for group in ElementTree.fromstring(drawn).iter(f"{SVG}g"):
        box = group.find(f"{SVG}rect")
        assert box is not None
        left, top, wide, tall = (float(box.get(name, "nan")) for name in ("x", "y", "width", "height"))
        for text in group.findall(f"{SVG}text"):
            words, type = text.text or "", draw.TYPES[text.get("class", "")]
            x, y = float(text.get("x", "nan")), float(text.get("y", "nan"))
            start = x - type.width(words) * {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor", "start")]
            inside = (
                left <= start and start + type.width(words) <= left + wide and top < y - type.size / 2 < y < top + tall
            )
            found += [] if inside else [words]
    return found


def test_the_committed_picture_is_what_the_data_gives(plan: House) -> None:
    assert draw.DRAWING.read_bytes() == draw.drawing(plan).encode(), "run python -m tools.house.draw"


def test_every_room_and_every_stage_is_in_it(plan: House) -> None:
    drawn = draw.drawing(plan)
    stages = [stage.name for stage in plan.flow]
    assert texts(drawn, "name") == [room.name for room in reversed(plan.rooms)]
    assert " ".join(texts(drawn, "does")) == " ".join(room.does for room in reversed(plan.rooms))
    assert texts(drawn, "stage") == stages
    assert texts(drawn, "room") == [stage.room.name for stage in plan.flow]
    assert sorted(texts(drawn, "at")) == sorted(stages)
    assert " ".join(texts(drawn, "gives")) == " ".join([plan.takes, *(stage.gives for stage in plan.flow)])


def test_a_stage_has_one_number_in_the_path_and_in_the_house(plan: House) -> None:
    root = ElementTree.fromstring(draw.drawing(plan))
    named: dict[str, set[str]] = {}
    for group in root.iter(f"{SVG}g"):
        said = {text.get("class"): text.text or "" for text in group.findall(f"{SVG}text")}
        if "number" in said:
            named.setdefault(said.get("stage") or said["at"], set()).add(said["number"])
    assert named == {stage.name: {str(number)} for number, stage in enumerate(plan.flow, 1)}


def test_words_stay_in_their_boxes(plan: House) -> None:
    drawn = draw.drawing(plan)
    assert sum(len(texts(drawn, kind)) for kind in draw.TYPES) == len(
        list(ElementTree.fromstring(drawn).iter(f"{SVG}text"))
    )
    assert overflowing(drawn) == []


def test_a_long_sentence_takes_more_lines_and_a_long_word_is_refused(plan: House) -> None:
    ground, *others = plan.rooms
    sentence = "what everybody stands on & every <word> of it " * 6
    drawn = draw.drawing(replace(plan, rooms=(replace(ground, does=sentence), *others)))
    assert overflowing(drawn) == []
    assert " ".join(texts(drawn, "does")).endswith(" ".join(sentence.split()))
    with pytest.raises(ValueError, match="find a shorter word"):
        draw.drawing(replace(plan, rooms=(replace(ground, does="m" * 200), *others)))


@pytest.mark.parametrize("stages", [1, 3, 4, 5, 9])
def test_a_flow_of_any_length_is_drawn(plan: House, stages: int) -> None:
    """The rooms keep only the stages that are in the flow."""
    flow = plan.flow[:stages]
    kept = {stage.name for stage in flow}
    rooms = tuple(
        replace(r, stages={name: gives for name, gives in r.stages.items() if name in kept}) for r in plan.rooms
    )
    drawn = draw.drawing(House(rooms, plan.takes, flow))
    assert texts(drawn, "stage") == [stage.name for stage in flow]
    assert overflowing(drawn) == []


def test_it_asks_nobody_for_anything_and_has_two_lights(plan: House) -> None:
    drawn = draw.drawing(plan)
    assert "@media (prefers-color-scheme: dark)" in drawn
    assert drawn.count("http") == drawn.count('xmlns="http://www.w3.org/2000/svg"') == 1
    for colours in (draw.LIGHT, draw.DARK):
        assert all(f": {colour};" in drawn for colour in colours.values())
    assert not any(name in drawn for name in draw.LIGHT)


def test_a_width_is_a_sum_over_letters() -> None:
    assert Type(10).width("il, ma") == pytest.approx(10 * (0.31 + 0.31 + 0.36 + 0.36 + 1.0 + 0.64))
    assert Type(10, bold=True).width("A") == pytest.approx(10 * 0.84 * 1.13)
    assert Type(10, monospace=True).width("il, ma") == pytest.approx(10 * 6 * 0.62)
    assert Type(10).wrapped("an a an", 23) == ["an a", "an"]


def test_check_says_whether_it_is_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(draw, "ROOT", tmp_path)
    monkeypatch.setattr(draw, "DRAWING", tmp_path / "rooms.svg")
    assert draw.main(["--check"]) == 1
    assert capsys.readouterr().err == "rooms.svg is out of date: run python -m tools.house.draw\n"
    assert draw.main([]) == 0
    assert draw.main(["--check"]) == 0
    assert (tmp_path / "rooms.svg").read_bytes() == (ROOT / "docs" / "rooms.svg").read_bytes()
    (tmp_path / "rooms.svg").write_text("<svg/>", encoding="utf-8")
    assert draw.main(["--check"]) == 1
