"""docs/rooms.svg: the path of a model through the rooms, and the house that they make.

    python -m tools.house.draw            # writes it
    python -m tools.house.draw --check    # exits with 1 where it is out of date

It is drawn from docs/rooms.toml and nothing else, so it shows what the tests keep. The same data gives the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from tools.house.imports import PACKAGE, ROOT, House, Room, Stage, house
from tools.house.lettering import Type

DRAWING = ROOT / "docs" / "rooms.svg"

WIDTH, MARGIN = 900, 28
COLUMNS, GAP, TALL, BETWEEN = 4, 112, 58, 60
"""Of the stages: how many stand in a row, the pixels between two of them, their height, and the pixels between two rows."""
EAVES, ROOF, NAMES, LINE, PAD = 14, 44, 112, 19, 17
"""Of the house: how far its roof stands out, its height, the width of names, of a line, and what a floor has besides."""

TYPES = {
    "title": Type(19, bold=True),
    "note": Type(13),
    "gives": Type(13),
    "stage": Type(15, bold=True),
    "room": Type(12, monospace=True),
    "number": Type(11, bold=True),
    "name": Type(13, monospace=True),
    "does": Type(13),
    "at": Type(12, bold=True),
    "package": Type(13, monospace=True),
}

STYLE = """\
text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif; }
.room, .name, .package { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
rect, path { fill: none; }
.arrow, .walls, .rule { shape-rendering: crispEdges; }
"""
COLOURS = """\
rect.paper { fill: PAPER; stroke: RULE; } rect.over { fill: PAPER; }
rect.stage, rect.at { fill: TINT; } rect.stage { stroke: BLUE; }
.rule { stroke: RULE; } .roof { fill: TINT; } .roof, .walls { stroke: GREY; } .earth { fill: GREY; }
.arrow { stroke: GREY; } .head { fill: GREY; } circle { fill: BLUE; } text.number { fill: PAPER; } text.at { fill: BLUE; }
.title, text.stage, .name, .package { fill: INK; } .note, .room, .does { fill: SOFT; } .gives { fill: BROWN; }
"""
HEAD = """\
<marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" \
orient="auto"><path class="head" d="M0 0L8 4L0 8Z"/></marker>"""
LIGHT = {
    "PAPER": "#fdfdfc", "INK": "#1b1d1f", "SOFT": "#5b6167", "RULE": "#d9dbdc",
    "BLUE": "#1f6fa8", "TINT": "#edf4f9", "BROWN": "#8a4b00", "GREY": "#9aa1a7",
}  # fmt: skip
DARK = {
    "PAPER": "#141618", "INK": "#e6e7e8", "SOFT": "#a3a9ae", "RULE": "#363b3f",
    "BLUE": "#5fb0ea", "TINT": "#182734", "BROWN": "#f0a95c", "GREY": "#6b7278",
}  # fmt: skip


def drawing(plan: House) -> str:
    """The picture, as SVG: the flow above, the house below."""
    path, bottom = _path(plan, MARGIN)
    floors, bottom = _floors(plan, bottom + 40)
    height = bottom + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{WIDTH}" height="{height:g}" '
            f'viewBox="0 0 {WIDTH} {height:g}">',
            "<title>The path of a model through the rooms of modhifi-graph, and the house that they make</title>",
            f"<style>\n{_style()}</style>",
            HEAD,
            _rect("paper", 0.5, 0.5, WIDTH - 1, height - 1, 10),
            *path,
            *floors,
            "</svg>\n",
        ]
    )


def _path(plan: House, top: float) -> tuple[list[str], float]:
    """The stages in rows, each arrow with what it hands on; and where that ends."""
    wide = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS
    start = top + 114
    drawn = _heading("The path of a model", "The stages of a run, the room of each, and what it hands on.", top)
    places = [
        (MARGIN + (number % COLUMNS) * (wide + GAP), start + (number // COLUMNS) * (TALL + BETWEEN))
        for number in range(len(plan.flow))
    ]
    drawn += [_words("gives", plan.takes, MARGIN, start - 54, WIDTH - 2 * MARGIN)]
    drawn += [_arrow(f"M{MARGIN + wide / 2:g} {start - 31:g}V{start - 1:g}")]
    for number, (stage, (x, y)) in enumerate(zip(plan.flow, places, strict=True), 1):
        drawn += [_stage(number, stage, x, y, wide)]
        middle, below = x + wide / 2, y + TALL
        if number == len(plan.flow):
            drawn += [_arrow(f"M{middle:g} {below:g}v27")]
            drawn += [_words("gives", stage.gives, MARGIN, below + 28, x + wide - MARGIN, "end")]
        elif number % COLUMNS:
            drawn += [_arrow(f"M{x + wide:g} {y + TALL / 2:g}h{GAP - 1:g}")]
            drawn += [_above(stage.gives, x + wide + 3, y + TALL / 2 - 5, GAP - 6)]
        else:
            half = BETWEEN / 2
            drawn += [_arrow(f"M{middle:g} {below:g}v{half:g}H{MARGIN + wide / 2:g}v{half - 1:g}")]
            room = TYPES["gives"].width(stage.gives) + 20
            drawn += [_words("gives", stage.gives, (WIDTH - room) / 2, below + half - 10, room, "middle", "over")]
    return drawn, places[-1][1] + TALL + 50


def _floors(plan: House, top: float) -> tuple[list[str], float]:
    """The rooms under a roof, the ground at the bottom; and where that ends."""
    left, right = MARGIN + EAVES, WIDTH - MARGIN - EAVES
    drawn = _heading("The house", "A room imports from itself and from those below it, and from no other.", top)
    numbers = {stage.name: number for number, stage in enumerate(plan.flow, 1)}
    eaves = top + 64 + ROOF
    y, floors = eaves, list[str]()
    for room in reversed(plan.rooms):
        floor, tall = _floor(room, numbers, left, y, right - left)
        floors += floor
        y += tall
    roof = f'<path class="roof" d="M{MARGIN} {eaves:g}L{WIDTH / 2:g} {eaves - ROOF:g}L{WIDTH - MARGIN} {eaves:g}Z"/>'
    walls = f'<path class="walls" d="M{left} {eaves:g}V{y:g}H{right}V{eaves:g}"/>'
    name = _words("package", PACKAGE, left, eaves - 26, right - left, "middle")
    return [*drawn, *floors, walls, roof, name, _rect("earth", MARGIN, y, WIDTH - 2 * MARGIN, 4, 2)], y + 4


def _stage(number: int, stage: Stage, x: float, y: float, wide: float) -> str:
    """A stage of the flow: its number, its name, its room."""
    return _box(
        _rect("stage", x, y, wide, TALL, 8),
        *_disc(number, x + 17, y + 21),
        _text("stage", stage.name, x + 32, y + 26),
        _text("room", stage.room.name, x + 32, y + 44),
    )


def _floor(room: Room, numbers: Mapping[str, int], x: float, y: float, wide: float) -> tuple[list[str], float]:
    """A floor of the house: a room, its sentence, and on the right the stages that it has; and its height."""
    across = max(map(TYPES["at"].width, numbers)) + 38
    labels, end = list[str](), x + wide - 6
    for stage in reversed(tuple(room.stages)):
        end -= across + 6
        disc = _disc(numbers[stage], end + 12, y + 18)
        labels += [_box(_rect("at", end, y + 6, across, 24, 12), *disc, _text("at", stage, end + 28, y + 22))]
    lines = TYPES["does"].wrapped(room.does, end - 12 - x - NAMES)
    tall = len(lines) * LINE + PAD
    said = [_text("does", line, x + NAMES, y + 23 + row * LINE) for row, line in enumerate(lines)]
    named = _text("name", room.name, x + 16, y + 23)
    return [
        _box(_rect("floor", x, y, wide, tall), named, *said),
        *labels,
        f'<path class="rule" d="M{x:g} {y:g}h{wide:g}"/>',
    ], tall


def _heading(title: str, note: str, top: float) -> list[str]:
    wide = WIDTH - 2 * MARGIN
    return [_words("title", title, MARGIN, top, wide), _words("note", note, MARGIN, top + 28, wide)]


def _words(kind: str, words: str, x: float, y: float, wide: float, anchor: str = "start", box: str = "none") -> str:
    """A line of words in a box that starts there."""
    at = x + {"start": 0, "middle": wide / 2, "end": wide}[anchor]
    return _box(_rect(box, x, y, wide, 20), _text(kind, words, at, y + 15, anchor))


def _above(words: str, x: float, y: float, wide: float) -> str:
    """Words that stand on a line, in as many lines as they need."""
    lines = TYPES["gives"].wrapped(words, wide)
    tall = 16 * len(lines)
    said = [_text("gives", line, x + wide / 2, y - tall + 12 + 16 * row, "middle") for row, line in enumerate(lines)]
    return _box(_rect("none", x, y - tall, wide, tall), *said)


def _arrow(way: str) -> str:
    """A line with a head at its end."""
    return f'<path class="arrow" marker-end="url(#head)" d="{way}"/>'


def _disc(number: int, x: float, y: float) -> Iterator[str]:
    yield f'<circle cx="{x:g}" cy="{y:g}" r="10"/>'
    yield _text("number", str(number), x, y + 4, "middle")


def _box(*inside: str) -> str:
    """What belongs together: a rectangle, and the words that must fit into it."""
    return f"<g>{''.join(inside)}</g>"


def _rect(kind: str, x: float, y: float, wide: float, tall: float, round: float = 0) -> str:
    corners = f' rx="{round:g}"' if round else ""
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{wide:g}" height="{tall:g}"{corners}/>'


def _text(kind: str, words: str, x: float, y: float, anchor: str = "start") -> str:
    where = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}"{where}>{escape(words, quote=False)}</text>'


def _style() -> str:
    """Type and colours, by day and by night."""
    sizes = "".join(
        f"text.{kind} {{ font-size: {type.size:g}px;{' font-weight: 650;' if type.bold else ''} }}\n"
        for kind, type in TYPES.items()
    )
    return f"{STYLE}{sizes}{_painted(LIGHT)}@media (prefers-color-scheme: dark) {{\n{_painted(DARK)}}}\n"


def _painted(colours: Mapping[str, str]) -> str:
    painted = COLOURS
    for name, colour in colours.items():
        painted = painted.replace(name, colour)
    return painted


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 where the drawing is out of date"
    )
    checks = parser.parse_args(argv).check
    drawn = drawing(house())
    if checks:
        if DRAWING.is_file() and DRAWING.read_text(encoding="utf-8") == drawn:
            return 0
        print(f"{DRAWING.relative_to(ROOT)} is out of date: run python -m tools.house.draw", file=sys.stderr)
        return 1
    DRAWING.write_text(drawn, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
