"""Charts: pure functions from numbers to inline SVG.

Places along x are percentages of the drawing and text is not scaled, so that a chart fits a telephone and a sheet of paper
alike. Colours are classes that the style sheet knows. Whatever a model calls itself is escaped.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from modhifi_graph.report.page import scales
from modhifi_graph.report.page.scales import Decades, Scale

TALL, ROW = 240, 26
"""Pixels: of a chart with two axes, and of a row of a chart that has rows."""

FEW = 48
"""So many cells are drawn apart; more of them make a silhouette."""

HEIGHT = 100
"""Units of a strip's height."""

SLIVER = 6.0
"""Percent of a strip that a component without a loss takes, so that it is seen."""


@dataclass(frozen=True)
class Point:
    """A model: how many times as fast as the dense one, with the 95 % interval, and its fidelity. The label is shown if any."""

    speedup: float
    fidelity: float
    interval: tuple[float, float] | None = None
    label: str = ""
    kind: str = "other"


@dataclass(frozen=True)
class Estimate:
    """A speed-up with its interval, in a row of its own."""

    label: str
    speedup: float
    interval: tuple[float, float]
    kind: str = "other"


def front(points: Sequence[Point]) -> Markup:
    """Fidelity over speed-up; points that no other beats in both are joined."""
    reach = [end for p in points for end in (p.interval or (p.speedup, p.speedup))]
    across = scales.linear(min(1.0, *reach), max(reach), 6)
    lowest = min(p.fidelity for p in points)
    up = scales.linear(lowest - (1 - lowest) / 10, 1.0, 5)
    parts = [*_grid_up(up), *_grid_across(across, TALL), *_axis_titles(TALL)]
    best = _unbeaten(points) if len(points) > 2 else []  # two points say nothing of what lies between them
    for left, right in itertools.pairwise(best):
        ends = (across(left.speedup), _y(up, left.fidelity), across(right.speedup), _y(up, right.fidelity))
        parts.append(Markup('<line class="joined" x1="{}%" y1="{}" x2="{}%" y2="{}"/>').format(*ends))
    parts += [_point(p, across, up) for p in points]
    what = "; ".join(f"{p.label or 'a point'}: {p.speedup:.2f} times, {scales.near_one(p.fidelity)}" for p in points)
    return _drawing("plot", TALL, "Fidelity over speed-up", what, parts)


def _unbeaten(points: Sequence[Point]) -> list[Point]:
    """The points that none beats in speed and fidelity, slowest first."""
    kept: list[Point] = []
    for p in sorted(points, key=lambda p: (-p.speedup, -p.fidelity)):
        if not kept or p.fidelity > kept[-1].fidelity:
            kept.append(p)
    return kept[::-1]


def _point(p: Point, across: Scale, up: Scale) -> Markup:
    x, y = across(p.speedup), _y(up, p.fidelity)
    title = f"{p.label + ': ' if p.label else ''}{p.speedup:.3f} times as fast, fidelity {scales.near_one(p.fidelity)}"
    parts = [Markup("<title>{}</title>").format(title)]
    if p.interval:
        parts += _whisker(across, p.interval, y)
    parts.append(Markup('<circle cx="{}%" cy="{}" r="5"/>').format(x, y))
    if p.label:
        # Below the dot, where the line that joins points does not pass, and on the side where there is room.
        side = "end" if x > 60 else "start"
        offset = -9 if side == "end" else 9
        parts.append(
            Markup('<text x="{}%" y="{}" dx="{}" dy="{}" text-anchor="{}">{}</text>').format(
                x, y, offset, 18 if y < TALL - 24 else -10, side, p.label
            )
        )
    return Markup('<g class="point {}">{}</g>').format(p.kind, Markup("").join(parts))


def estimates(rows: Sequence[Estimate], target: float | None = None) -> Markup:
    """Speed-ups with their intervals, one below the other, and where they should have come to."""
    ends = [end for row in rows for end in row.interval] + ([target] if target else [])
    across = scales.linear(min(1.0, *ends), max(ends), 6)
    height = ROW * len(rows) + 12
    parts = [*_grid_across(across, height)]
    parts.append(
        Markup('<text class="axis" x="100%" y="{}" text-anchor="end">times as fast</text>').format(height + 32)
    )
    parts.append(Markup('<text class="axis" x="-10" y="-8" text-anchor="end">attempt</text>'))
    if target:
        x = across(target)
        parts.append(Markup('<line class="target" x1="{0}%" x2="{0}%" y1="-4" y2="{1}"/>').format(x, height))
        side = "end" if x > 50 else "start"
        parts.append(
            Markup('<text class="target" x="{}%" y="-8" text-anchor="{}">asked for: {:g}</text>').format(
                x, side, target
            )
        )
    for number, row in enumerate(rows):
        y = ROW * number + ROW // 2 + 6
        low, high = row.interval
        text = f"{row.speedup:.3f} ({low:.3f} to {high:.3f})"
        parts.append(
            Markup(
                '<g class="point {}"><title>{}: {}</title>{}<circle cx="{}%" cy="{}" r="4.5"/>'
                '<text class="row" x="-10" y="{}" text-anchor="end">{}</text></g>'
            ).format(
                row.kind,
                row.label,
                text,
                Markup("").join(_whisker(across, row.interval, y)),
                across(row.speedup),
                y,
                y + 4,
                row.label,
            )
        )
    what = "; ".join(f"{row.label}: {row.speedup:.3f} times" for row in rows)
    return _drawing("plot rows", height, "Speed-up of every attempt", what, parts)


def strip(spectrum: dict[str, Any], stays: int, went: int, axis: Decades, title: str) -> Markup:
    """The losses of one group, dearest first: what stays, a gap, what went. Stretched to the width that there is."""
    size = stays + went
    gap = size / 60 if stays and went else 0.0
    width = size + gap
    few = len(spectrum["stays"]) + len(spectrum["went"]) <= FEW
    lines = "".join(f"M0 {_height(100 - tick)}h{width:g}" for tick in _levels(axis))
    parts = [
        Markup("<title>{}</title>").format(title),
        Markup('<path class="level" d="{}"/>').format(lines),
    ]
    for kind, cells, count, start in (
        ("stays", spectrum["stays"], stays, 0.0),
        ("went", spectrum["went"], went, stays + gap),
    ):
        if cells:
            drawn = _bars(cells, count, spectrum["per"], start, axis)
            parts.append(Markup('<path class="{}{}" d="{}"/>').format(kind, " few" if few else "", drawn))
    head = '<svg class="strip" role="img" viewBox="0 0 {:g} {}" preserveAspectRatio="none">{}</svg>'
    return Markup(head).format(width, HEIGHT, Markup("").join(parts))


def _levels(axis: Decades) -> list[float]:
    """The heights of the ticks, in percent."""
    return [100 * (exponent - axis.low) / (axis.high - axis.low) for exponent in axis.ticks]


def _bars(cells: Sequence[float | None], count: int, per: int, start: float, axis: Decades) -> str:
    """One outline; every cell is as wide as the components that it stands for, and what has no loss is as high as can be."""
    drawn = [f"M{start:g} {HEIGHT}"]
    left = count
    for loss in cells:
        wide = min(per, left)
        left -= wide
        # At least a sliver: a component that costs nothing was there nonetheless.
        level = 100.0 if loss is None else max(SLIVER, axis(loss))
        drawn.append(f"V{_height(100 - level)}h{wide}")
        if len(cells) <= FEW:
            drawn.append(f"V{HEIGHT}")
    return "".join((*drawn, f"V{HEIGHT}z"))


def _height(percent: float) -> int:
    return round(HEIGHT * percent / 100)


def bars(before: float | None, after: float | None, axis: Scale) -> Markup:
    """Two bars, one over the other: before and after. Their numbers stand beside them."""
    parts = []
    for kind, value, y in (("before", before, 0), ("after", after, 8)):
        if value is not None:
            parts.append(
                Markup('<rect class="{}" x="0" y="{}" width="{}%" height="7"/>').format(kind, y, max(0.2, axis(value)))
            )
    return Markup('<svg class="bars" aria-hidden="true" height="15">{}</svg>').format(Markup("").join(parts))


def bar(value: float, full: float) -> Markup:
    """One bar of a list."""
    width = round(100 * value / full, 2) if full else 0.0
    rect = Markup('<rect class="after" x="0" y="0" width="{}%" height="7"/>').format(max(0.2, width))
    return Markup('<svg class="bars" aria-hidden="true" height="7">{}</svg>').format(rect)


def share(value: float) -> Markup:
    """How much of something is left: the whole in the background."""
    rect = Markup('<rect class="whole" width="100%" height="5"/><rect class="after" width="{}%" height="5"/>')
    drawn = rect.format(round(100 * min(1.0, max(0.0, value)), 2))
    return Markup('<svg class="bars" aria-hidden="true" height="5">{}</svg>').format(drawn)


def ruler(axis: Scale, unit: str) -> Markup:
    """The axis of a list of bars."""
    parts = []
    for tick in axis.ticks:
        x = axis(tick)
        side = "end" if x > 99 else "start" if x < 1 else "middle"
        text = axis.label(tick) + (f" {unit}" if tick is axis.ticks[-1] or tick == axis.ticks[-1] else "")
        parts.append(Markup('<line x1="{0}%" x2="{0}%" y1="14" y2="19"/>').format(x))
        parts.append(Markup('<text x="{}%" y="10" text-anchor="{}">{}</text>').format(x, side, text))
    parts.append(Markup('<line x1="0" x2="100%" y1="19" y2="19"/>'))
    return Markup('<svg class="ruler" aria-hidden="true" height="20">{}</svg>').format(Markup("").join(parts))


def exemplar(spectrum: dict[str, Any], stays: int, went: int, axis: Decades, title: str, unit: str) -> Markup:
    """A strip large enough for axes: what is lost, over the share of the components."""
    height, drawn = 150, strip(spectrum, stays, went, axis, f"{title}: {stays} stay, {went} went")
    parts = [drawn]
    for exponent in axis.ticks:
        y = height * (1 - (exponent - axis.low) / (axis.high - axis.low))
        parts.append(
            Markup('<text class="tick" x="-8" y="{:g}" text-anchor="end">{}</text>').format(
                y + 4, scales.power(exponent)
            )
        )
    for percent in (0, 25, 50, 75, 100):
        side = {0: "start", 100: "end"}.get(percent, "middle")
        parts.append(
            Markup('<text class="tick{3}" x="{0}%" y="{1}" text-anchor="{2}">{0} %</text>').format(
                percent, height + 16, side, " minor" if percent % 50 else ""
            )
        )
    parts.append(Markup('<text class="axis" x="-60" y="-12">{}</text>').format(unit))
    parts.append(
        Markup('<text class="axis" x="100%" y="{}" text-anchor="end">of the components, dearest first</text>').format(
            height + 33
        )
    )
    parts.append(Markup('<text class="inside stays" x="8" y="{}">{} stay</text>').format(height - 10, stays))
    # What went is low: its label is above it, from the cut on, or up to the end where little went.
    cut = 100 * stays / (stays + went)
    y = height * (1 - axis(max(loss or 0.0 for loss in spectrum["went"])) / 100) - 8
    place = ("100%", "end") if cut > 70 else (f"{cut + 2:.1f}%", "start")
    parts.append(
        Markup('<text class="inside went" x="{}" text-anchor="{}" y="{:.1f}">{} went</text>').format(*place, y, went)
    )
    return _drawing("plot exemplar", height, title, f"{stays} components stay, {went} went", parts)


def _whisker(across: Scale, interval: tuple[float, float], y: float) -> list[Markup]:
    low, high = (across(end) for end in interval)
    lines = [Markup('<line class="interval" x1="{}%" x2="{}%" y1="{}" y2="{}"/>').format(low, high, y, y)]
    lines += [
        Markup('<line class="interval" x1="{0}%" x2="{0}%" y1="{1}" y2="{2}"/>').format(x, y - 4, y + 4)
        for x in (low, high)
    ]
    return lines


def _y(up: Scale, value: float) -> float:
    return round(TALL * (1 - up(value) / 100), 1)


def _grid_up(up: Scale) -> Iterable[Markup]:
    for tick in up.ticks:
        y = _y(up, tick)
        yield Markup('<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(y)
        text = '<text class="tick" x="-8" y="{}" text-anchor="end">{}</text>'
        yield Markup(text).format(y + 4, up.label(tick))


def _grid_across(across: Scale, height: int) -> Iterable[Markup]:
    for tick in across.ticks:
        x = across(tick)
        yield Markup('<line class="grid" x1="{0}%" x2="{0}%" y1="0" y2="{1}"/>').format(x, height)
        text = '<text class="tick" x="{}%" y="{}" text-anchor="middle">{}</text>'
        yield Markup(text).format(x, height + 16, across.label(tick))


def _axis_titles(height: int) -> Iterable[Markup]:
    yield Markup('<text class="axis" x="-60" y="-12">fidelity of the outputs</text>')
    yield Markup('<text class="axis" x="100%" y="{}" text-anchor="end">times as fast as the dense model</text>').format(
        height + 33
    )


def _drawing(kind: str, height: int, title: str, what: str, parts: Iterable[Markup]) -> Markup:
    head = '<svg class="{}" role="img" height="{}" aria-label="{}"><desc>{}</desc>{}</svg>'
    return Markup(head).format(kind, height, title, what, Markup("\n").join(parts))
