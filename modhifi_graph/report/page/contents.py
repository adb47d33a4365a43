"""What the page says: the report of a run as texts and drawings, nothing of HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from modhifi_graph.latency.turns import apart
from modhifi_graph.report.page import charts, scales
from modhifi_graph.report.page.sections import Layers, Report, Speed, Strips, layers, speed, strips
from modhifi_graph.report.terminal import amount, how

BUDGETS = {"macs": "multiply-accumulates", "params": "parameters", "keep": "every group"}
"""What a budget is a fraction of."""

GOALS = {"speedup": "{:.4g} times as fast", "latency": "{:.4g} ms a run", "fidelity": "the fastest that keeps {:.4g}"}
"""What is measured, and not counted."""


@dataclass(frozen=True)
class Figure:
    """One number before and after; ``left`` is drawn, ``note`` is said below."""

    title: str
    before: str
    after: str
    note: str = ""
    left: Markup | None = None


@dataclass(frozen=True)
class Contents:
    """The whole page."""

    model: str
    version: str
    verdict: Sequence[str]
    figures: Sequence[Figure]
    warnings: Sequence[str]
    speed: Speed | None
    strips: Strips
    layers: Layers | None
    pinned: Sequence[Mapping[str, Any]]
    unscored: Sequence[Mapping[str, Any]]
    branches: Sequence[str]
    facts: Sequence[tuple[str, str]]
    seconds: Sequence[tuple[str, str, Markup]]
    command: str


def contents(report: Report, *, model: str, version: str, command: str = "") -> Contents:
    """Everything that is known, in the order in which it is read."""
    return Contents(
        model=model,
        version=version,
        verdict=verdict(report),
        figures=figures(report),
        warnings=report["warnings"],
        speed=speed(report),
        strips=strips(report),
        layers=layers(report),
        pinned=report["pinned"],
        unscored=[row for row in report["groups"] if "not_scored" in row],
        branches=report["branches"],
        facts=facts(report),
        seconds=_seconds(report["seconds"]),
        command=command,
    )


def verdict(report: Report) -> list[str]:
    """What came of it, in two sentences: speed and size, then what it costs."""
    left = {key: report[key]["after"] / max(1, report[key]["before"]) for key in ("macs", "params")}
    size = f"{left['macs']:.1%} of the multiply-accumulates and {left['params']:.1%} of the parameters"
    said = [f"{size[0].upper()}{size[1:]} are left."]
    if interval := report.get("interval"):
        low, high = interval
        fast = f"{report['speedup']:.2f} times as fast" if apart(interval) else "No difference in speed for certain"
        said = [f"{fast} (95 % interval {low:.2f} to {high:.2f}), with {size}."]
    if accuracy := report.get("accuracy"):
        change = accuracy["after"] - accuracy["before"]
        said.append(f"Accuracy on the test images goes from {accuracy['before']:.2f} to {accuracy['after']:.2f} %"
                    f" ({_signed(change)} points).")  # fmt: skip
    elif report.get("fidelity") is not None:
        missing = 1 - report["fidelity"]
        said.append(f"The squared error of its outputs is {scales.brief(missing)} of their variance.")
    return said


def figures(report: Report) -> list[Figure]:
    """The figures at the head."""
    found: list[Figure] = []
    if accuracy := report.get("accuracy"):
        change = f"{_signed(accuracy['after'] - accuracy['before'])} points, on the sample's test images"
        found.append(Figure("Accuracy, %", f"{accuracy['before']:.2f}", f"{accuracy['after']:.2f}", change))
    if report.get("fidelity") is not None:
        note = "1 less the outputs' squared error over their variance"
        found.append(Figure("Fidelity", "1", scales.near_one(report["fidelity"]), note))
    if latency := report.get("latency_ms"):
        before, after = (latency[when]["median"] for when in ("before", "after"))
        low, high = report["interval"]
        note = f"{report['speedup']:.2f} times as fast, {low:.2f} to {high:.2f}"
        found.append(
            Figure(
                "Latency, ms",
                scales.milliseconds(before),
                scales.milliseconds(after),
                note,
                charts.share(after / before),
            )
        )
    for title, key in (("Multiply-accumulates", "macs"), ("Parameters", "params"), ("Bytes", "bytes")):
        before, after = report[key]["before"], report[key]["after"]
        left = after / max(1, before)
        found.append(Figure(title, amount(before), amount(after), f"{left:.1%} left", charts.share(left)))
    return found


def facts(report: Report) -> list[tuple[str, str]]:
    """How all of this was found, measured and proved."""
    found: list[tuple[str, str]] = []
    settings, timing = report["plan"]["settings"], report.get("timing", {})
    if data := report.get("calibration"):
        what = f", {data['what']}" if data["what"] else ""
        mirrored = ", each with its mirror image" if data["mirrored"] else ""
        found.append(("Calibration", f"{data['samples']:,} unlabelled samples, {data['source']}{what}{mirrored}"))
    found += [_setting(key, value) for key, value in settings.items() if key != "samples"]
    if engine := timing.get("engine"):
        found.append(("Engine", how(engine, timing.get("batch"))))
    if latency := report.get("latency_ms"):
        found.append(("Runs", f"{latency['before']['n']} of each model, in turns; medians"))
        found.append(("Interval", "95 %, bootstrap of pairs in blocks"))
    if machine := timing.get("machine"):
        memory = f", {machine['memory_gib']} GiB" if machine["memory_gib"] else ""
        found.append(("Machine", f"{machine['processor']}, {machine['cores']} cores{memory}"))
        found.append(("System", f"{machine['system']}, Python {machine['python']}"))
    proof = report["verify"]
    runs = f"{proof['runs']} run{'s' if proof['runs'] > 1 else ''}"
    error, allowed = scales.brief(proof["max_abs_error"]), scales.brief(proof["tolerance"])
    said = f"slim against masked dense graph, {runs}: largest error {error}; {allowed} was allowed"
    found.append(("Proof", said))
    return found


def _seconds(seconds: Mapping[str, float]) -> list[tuple[str, str, Markup]]:
    full = max(seconds.values(), default=0.0)
    return [(stage, f"{spent:.1f}", charts.bar(spent, full)) for stage, spent in seconds.items()]


def _setting(key: str, value: Any) -> tuple[str, str]:
    if key in GOALS:
        return "Goal", GOALS[key].format(value)
    if key in BUDGETS:
        return "Budget", f"{value:.4g} of {BUDGETS[key]}"
    return key.replace("_", " ").capitalize(), _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")
