"""The sections with drawings: speed and fidelity, groups, layers. From the report of a run to what each of them shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from modhifi_graph.report.page import charts, scales
from modhifi_graph.scoring.criteria import UNOBSERVED

LONGEST = 20
"""So many layers have a row of their own."""

BEYOND = 1.5
"""The rest is drawn on the scale of the longest up to so many times the longest of them."""

FIRST = 40
"""So many groups are shown at once; the others are folded away."""

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Speed:
    """The charts of the second section, and the table behind them."""

    front: Markup | None
    attempts: Markup | None
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Strip:
    """One group; ``lost`` is what its narrowing costs by itself."""

    name: str
    kind: str
    before: int
    after: int
    drawn: Markup | None
    lost: str
    note: str


@dataclass(frozen=True)
class Strips:
    """All groups, one of them large, and in which units they are drawn."""

    exemplar: Markup | None
    exemplar_name: str
    first: Sequence[Strip]
    others: Sequence[Strip]
    unit: str
    shared: int
    scored: bool


@dataclass(frozen=True)
class Layer:
    """One piece: its bars, and milliseconds as they are written."""

    name: str
    ops: str
    before: str
    after: str
    bars: Markup


@dataclass(frozen=True)
class Layers:
    """The longest pieces and the rest of them, then every piece, for the table."""

    ruler: Markup
    longest: Sequence[Layer]
    rest: Layer | None
    every: Sequence[Layer]
    sums: tuple[str, str]
    whole: tuple[str, str] | None
    not_timed: Sequence[Mapping[str, str]]


def speed(report: Report) -> Speed | None:
    """The front where there is one, or the two models; and the attempts of the search. None where nothing was timed."""
    points, rows = _points(report)
    tried = report.get("search", {}).get("attempts", [])
    estimates = [
        charts.Estimate(f"{number}, taken", attempt["speedup"], tuple(attempt["interval"]), "taken")
        if attempt.get("chosen")
        else charts.Estimate(str(number), attempt["speedup"], tuple(attempt["interval"]))
        for number, attempt in enumerate(tried, 1)
    ]
    if estimates and report.get("interval"):
        estimates.append(charts.Estimate("repaired", report["speedup"], tuple(report["interval"]), "slim"))
    drawn = charts.estimates(estimates, _asked(report)) if estimates else None
    rows += [_row(_attempt(number, a), a["speedup"], a["interval"], None) for number, a in enumerate(tried, 1)]
    if len(points) < 2 and drawn is None:
        return None
    return Speed(charts.front(points) if len(points) > 1 else None, drawn, rows)


def _asked(report: Report) -> float | None:
    """The speed-up that was asked for, also where it was in milliseconds; None for a fidelity."""
    settings, timed = report["plan"]["settings"], report.get("latency_ms")
    if "latency" in settings:
        return float(timed["before"]["median"] / settings["latency"]) if timed else None
    return float(settings["speedup"]) if "speedup" in settings else None


def _points(report: Report) -> tuple[list[charts.Point], list[list[str]]]:
    """Dense, slim, and whatever else was timed and has a fidelity."""
    others = [*report.get("front", ()), *(a for a in report.get("search", {}).get("attempts", ()) if "fidelity" in a)]
    known = [p for p in others if p.get("fidelity") is not None]
    points = [charts.Point(p["speedup"], p["fidelity"], tuple(p["interval"])) for p in known]
    names = [p.get("file", "attempt") for p in known]
    if report.get("fidelity") is not None and report.get("interval"):
        points.append(
            charts.Point(report["speedup"], report["fidelity"], tuple(report["interval"]), "slim", kind="slim")
        )
        names.append("slim")
    if not points:
        return [], []
    rows = [_row("dense", 1.0, None, 1.0)]
    rows += [_row(name, p.speedup, p.interval, p.fidelity) for name, p in zip(names, points, strict=True)]
    return [charts.Point(1.0, 1.0, None, "dense", kind="dense"), *points], rows


def _attempt(number: int, attempt: Mapping[str, Any]) -> str:
    """By what it was chosen, and whether it was taken."""
    unit = {"latency": "milliseconds", "macs": "multiply-accumulates"}[attempt["by"]]
    taken = ", taken" if attempt["chosen"] else ""
    steps = "" if attempt["step"] is None else f" in steps of {attempt['step']}"
    return f"attempt {number}: by {unit}{steps}{taken}"


def _row(name: str, speedup: float, interval: tuple[float, float] | None, fidelity: float | None) -> list[str]:
    between = "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
    return [name, f"{speedup:.3f}", between, "" if fidelity is None else scales.near_one(fidelity)]


def strips(report: Report) -> Strips:
    """Every group on one scale."""
    rows = report["groups"]
    losses = [
        loss
        for row in rows
        for part in ("stays", "went")
        for loss in row.get("spectrum", {}).get(part, ())
        if loss is not None and loss > 0
    ]
    axis = scales.decades(min(losses), max(losses)) if losses else scales.Decades(-1, 0)
    every = [_strip(row, axis) for row in rows]
    cut = [row for row in rows if "spectrum" in row and 0 < row["after"] < row["before"] > 2]
    widest = max(cut, key=lambda row: (row["before"] - row["after"]) * row["after"], default=None)
    unit = _unit(report["plan"]["settings"])
    large = None
    if widest is not None:
        stays, went = widest["after"], widest["before"] - widest["after"]
        large = charts.exemplar(widest["spectrum"], stays, went, axis, widest["name"], unit)
    return Strips(
        exemplar=large,
        exemplar_name=widest["name"] if widest else "",
        first=every[:FIRST],
        others=every[FIRST:],
        unit=unit,
        scored=bool(losses),
        shared=max((row["spectrum"]["per"] for row in rows if "spectrum" in row), default=1),
    )


def _strip(row: Mapping[str, Any], axis: scales.Decades) -> Strip:
    stays, went = row["after"], row["before"] - row["after"]
    spectrum = row.get("spectrum")
    gone = [loss for loss in spectrum["went"] if loss is not None] if spectrum else []
    # Without scores there is still how much went.
    shown = spectrum or {"per": max(1, row["before"]), "stays": [None][:stays], "went": [None][:went]}
    title = f"{row['name']}: {stays} of {row['before']} stay"
    if gone:
        title += f"; {scales.brief(max(gone))} is lost by what went"
    if spectrum and spectrum["per"] > 1:
        title += f"; {spectrum['per']} components a bar"
    notes = [row["not_scored"]] if "not_scored" in row else []
    notes += ["went with its branch"] if not stays else []
    drawn = charts.strip(shown, stays, went, axis, title)
    return Strip(
        row["name"],
        row["kind"],
        row["before"],
        stays,
        drawn,
        scales.brief(max(gone)) if gone and stays else "",
        "; ".join(notes),
    )


def _unit(settings: Mapping[str, Any]) -> str:
    """What a loss is a share of; criteria that look at no data have no such unit."""
    if settings.get("criterion") in UNOBSERVED and not settings.get("samples"):
        return f"lost, as a sum of scores ({settings['criterion']})"
    if settings.get("prices") == "local":
        return "lost, as a share of the energy of the streams"
    return "lost, as a share of the variance of the outputs"


def layers(report: Report) -> Layers | None:
    """The layers that took longest before, and the others together."""
    measured = report.get("layers")
    if not measured or not measured["rows"]:
        return None
    rows = sorted(measured["rows"], key=lambda row: -max(row["before"] or 0.0, row["after"] or 0.0))
    longest, others = rows[:LONGEST], rows[LONGEST:]
    sums = {when: sum(row[when] or 0.0 for row in rows) for when in ("before", "after")}
    rest = {when: sum(row[when] or 0.0 for row in others) for when in ("before", "after")}
    top = max(max(row["before"] or 0.0, row["after"] or 0.0) for row in rows)
    # What many small ones take together may dwarf each of the longest: then it is numbers alone.
    fits = max(rest.values()) <= BEYOND * top
    axis = scales.linear(0.0, max(top, *rest.values()) if fits else top, 4)
    whole = report.get("latency_ms")
    return Layers(
        ruler=charts.ruler(axis, "ms"),
        longest=[_layer(row, axis) for row in longest],
        rest=_layer({"name": f"the other {len(others)}", "ops": [], **rest}, axis, fits) if others else None,
        every=[_layer(row, axis) for row in measured["rows"]],
        sums=(scales.milliseconds(sums["before"]), scales.milliseconds(sums["after"])),
        whole=None if whole is None else _medians(whole),
        not_timed=measured["not_timed"],
    )


def _medians(latency: Mapping[str, Any]) -> tuple[str, str]:
    return scales.milliseconds(latency["before"]["median"]), scales.milliseconds(latency["after"]["median"])


def _layer(row: Mapping[str, Any], axis: scales.Scale, drawn: bool = True) -> Layer:
    ops = list(row["ops"])
    kinds = " + ".join(ops[:3]) + (f" + {len(ops) - 3} more" if len(ops) > 3 else "")
    before = "new" if row["before"] is None else scales.milliseconds(row["before"])
    after = "gone" if row["after"] is None else scales.milliseconds(row["after"])
    return Layer(
        row["name"],
        kinds,
        before,
        after,
        charts.bars(row["before"], row["after"], axis) if drawn else Markup("<span></span>"),
    )
