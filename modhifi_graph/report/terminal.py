"""What the command line shows: tables for people, and progress on standard error."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from modhifi_graph.latency.turns import Comparison, Timing
    from modhifi_graph.prove.verification import Verification
    from modhifi_graph.report.inspection import Explanation, FactorReason, GroupRow, Inspection, PinnedRow
    from modhifi_graph.report.scores import Scores
    from modhifi_graph.scoring.bounds import Bounds

Reporter = Callable[[str, int, int], None]

PIPED_WIDTH = 200
"""Characters a line where output goes into a file or another program: names matter more there than fitting a screen."""

SHOWN = 3
"""Reasons, producers and consumers shown of each; `--json` has them all."""


def show(*renderables: RenderableType) -> None:
    """Print to standard output, plain where that is not a terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPED_WIDTH)
    for renderable in renderables:
        console.print(renderable)


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Reporter]:
    """Yield a function `(stage, done, total)` that draws one bar a stage, with the time left, on standard error."""
    if quiet:
        yield lambda stage, done, total: None
        return
    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(True, True))
    with Progress(*columns, console=Console(file=sys.stderr)) as bars:
        stages: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=total)
            bars.update(stages[stage], completed=done, total=total)

        yield report


def amount(number: float | None) -> str:
    """A count as people read it: 1,234 or 300.8 M."""
    if number is None:
        return "?"
    for unit, size in (("G", 1e9), ("M", 1e6)):
        if abs(number) >= size:
            return f"{number / size:.4g} {unit}"
    return f"{number:,.6g}"


def inspection(found: Inspection) -> RenderableType:
    """The groups, then what is pinned."""
    parts: list[RenderableType] = [
        Text(f"{found.label}: {amount(found.macs)} MACs a sample, {amount(found.params)} parameters"),
        _groups(found.groups, found.macs) if found.groups else Text("Nothing in this model can be pruned."),
    ]
    if found.branches:
        share = sum(row.macs for row in found.branches) / max(1, found.macs)
        parts.append(
            Text(f"\n{len(found.branches)} residual branches could go as well with --depth: {share:.1%} of the MACs")
        )
    if found.pinned:
        parts += [Text("\nPinned: produced by a weight like a group, but kept whole"), _pinned(found.pinned)]
    return Group(*parts)


def _groups(rows: Sequence[GroupRow], total: int) -> Table:
    table = _table("group", ">size", "kind", "produced by", "consumed by", ">MACs it governs")
    for row in rows:
        share = f"{amount(row.macs)} ({row.macs / total:.1%})" if total else amount(row.macs)
        table.add_row(*_texts(row.name, row.size, row.kind, _some(row.produced_by), _some(row.consumed_by), share))
    return table


def _pinned(rows: Sequence[PinnedRow]) -> Table:
    table = _table("axis", ">size", "why", "by")
    for row in rows:
        why = dict.fromkeys(reason for reason, _ in row.reasons)
        by = dict.fromkeys(op or "the interface" for _, op in row.reasons)
        table.add_row(*_texts(row.name, "?" if row.size is None else row.size, _some(why), _some(by)))
    return table


def explanations(found: Iterable[Explanation]) -> RenderableType:
    """What each axis is made of."""
    parts: list[RenderableType] = []
    for explanation in found:
        parts.append(Text(explanation.name + (f", read by {explanation.where}" if explanation.where else "")))
        for axis in explanation.axes:
            parts.append(Text(f"  axis {axis.axis} = {axis.layout}"))
            parts += [Text(f"    {_length(factor)}: {_fate(factor)}") for factor in axis.factors]
            if not axis.factors:
                parts.append(Text("    of length 1: there is nothing to prune"))
    return Group(*parts)


def _length(factor: FactorReason) -> str:
    return "a length known only at run time" if factor.size is None else f"factor of {factor.size}"


def _fate(factor: FactorReason) -> str:
    if factor.group is not None:
        return f"group {factor.group!r}, can be pruned"
    return "stays whole: " + _some(factor.reasons, "; ")


def report(result: Mapping[str, Any], output: Path) -> RenderableType:
    """What `optimize` did: costs before and after, latency, accuracy of a sample, warnings, where the model is."""
    from modhifi_graph.latency.turns import apart

    table = _table("", ">before", ">after", ">change")
    rows = (("MACs", "macs"), ("parameters", "params"), ("bytes", "bytes"), ("components", "components"))
    for title, key in rows:
        if key in result:
            before, after = result[key]["before"], result[key]["after"]
            change = f"{after / before:.3f}x" if before else ""
            table.add_row(*_texts(title, amount(before), amount(after), change))
    if latency := result.get("latency_ms"):
        medians = [latency[side]["median"] for side in ("before", "after")]
        low, high = result.get("interval") or (None, None)
        interval = "" if low is None else f" ({low:.2f} to {high:.2f})"
        speedup = f"{result['speedup']:.2f}x faster{interval}" if result.get("speedup") else ""
        if interval and not apart(result["interval"]):
            speedup = f"no difference for certain{interval}"
        table.add_row(*_texts("latency, ms", *(f"{median:.3f}" for median in medians), speedup))
        table.add_row(
            *_texts("  95th percentile", *(f"{latency[side]['p95']:.3f}" for side in ("before", "after")), "")
        )
    if accuracy := result.get("accuracy"):
        before, after = accuracy["before"], accuracy["after"]
        table.add_row(*_texts("accuracy, %", f"{before:.2f}", f"{after:.2f}", f"{after - before:+.2f} points"))
    lines = [_sentence(result)]
    if branches := result.get("branches"):
        lines.append(f"Without {len(branches)} residual branches, by their last weights: {_some(branches, ', ')}")
    if seconds := result.get("seconds"):
        stages = ", ".join(f"{stage} {spent:.1f}" for stage, spent in seconds.items())
        lines.append(f"Seconds: {stages}; {sum(seconds.values()):.1f} in all")
    lines += [f"Warning: {warning}" for warning in result.get("warnings", ())]
    lines.append(f"Wrote {output}")
    return Group(table, *(Text(line) for line in lines if line))


def front(results: Sequence[Mapping[str, Any]], outputs: Sequence[Path]) -> RenderableType:
    """What several models along the front came to, the slowest first; one that another beats in both is marked."""
    from modhifi_graph.report.figures import speed_of

    table = _table("model", ">speed-up", ">95 % interval", ">latency, ms", ">fidelity", ">MACs", ">accuracy, %", "")
    points = [(speed_of(result), result["fidelity"] or 0.0) for result in results]
    for result, output, (speed, fidelity) in zip(results, outputs, points, strict=True):
        beaten = any(s >= speed and f >= fidelity and (s, f) != (speed, fidelity) for s, f in points)
        low, high = result.get("interval") or (None, None)
        latency = result.get("latency_ms")
        cells = [
            f"{speed:.2f}x",
            "" if low is None else f"{low:.2f} to {high:.2f}",
            f"{latency['after']['median']:.3f}" if latency else "",
            f"{fidelity:.4f}",
            f"{result['macs']['after'] / max(1, result['macs']['before']):.3f}x",
            f"{result['accuracy']['after']:.2f}" if "accuracy" in result else "",
            "beaten by another" if beaten else "",
        ]
        table.add_row(*_texts(output, *cells))
    warned = dict.fromkeys(warning for result in results for warning in result.get("warnings", ()))
    return Group(table, *(Text(f"Warning: {warning}") for warning in warned))


def unlearning(result: Mapping[str, Any], output: Path) -> RenderableType:
    """What `unlearn` did: how much of each set is taken for the class, what stayed as it was, who can tell."""
    table = _table(f"class {result['class']}, {result['mode']}", ">before", ">after", ">change")
    for title, key in (("MACs", "macs"), ("parameters", "params"), ("bytes", "bytes")):
        if key in result:
            before, after = result[key]["before"], result[key]["after"]
            table.add_row(*_texts(title, amount(before), amount(after), f"{after / before:.3f}x" if before else ""))
    for title, key in (("forget set taken for it, %", "forget"), ("remain set taken for it, %", "remain")):
        if key in result:
            row = result[key]
            table.add_row(*_texts(title, f"{row['before']:.2f}", f"{row['after']:.2f}", f"of {row['samples']}"))
    if agreement := result.get("remain", {}).get("agreement"):
        table.add_row(*_texts("other answers unchanged, %", "", f"{agreement:.2f}", ""))
    for attack, before in result.get("membership", {}).get("before", {}).items():
        after = result["membership"]["after"][attack]
        table.add_row(*_texts(f"membership by {attack}, AUC", f"{before:.3f}", f"{after:.3f}", "0.5 is chance"))
    lines = []
    if layers := result.get("layers"):
        lines.append(f"Refitted: {', '.join(layers)}")
    if fraction := result.get("fraction"):
        lines.append(f"Changed {100 * fraction:g} % of every layer's kernels")
    spent = sum(result["seconds"].values())
    lines.append(f"The finished model is within {result['error']:.2g} of the edited one; {spent:.1f} seconds")
    lines += [f"Warning: {warning}" for warning in result["warnings"]]
    lines.append(f"Wrote {output}")
    return Group(table, *map(Text, lines))


def _sentence(result: Mapping[str, Any]) -> str:
    parts = [f"{_count(result[key])} {key}" for key in ("groups", "pinned") if key in result]
    if isinstance(fidelity := result.get("fidelity"), int | float):
        parts.append(f"fidelity {fidelity:.4f}")
    if verify := result.get("verify"):
        parts.append(f"verified, largest error {verify['max_abs_error']:.2g}")
    return ", ".join(parts)


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) else len(value)


def scores(found: Scores, output: Path) -> RenderableType:
    """One line a group: its spectrum, and how few components reconstruct most of what its layers compute."""
    table = _table("group", ">size", ">layers", ">singletons: median", ">largest", ">FS 0.8", ">0.9", ">0.99")
    for row in (group.to_json() for group in found.groups):
        spectrum = (f"{row['singletons'][which]:.3f}" for which in ("median", "max"))
        sets = (f"{count} ({count / row['size']:.0%})" for count in row["smallest"].values())
        table.add_row(*_texts(row["name"], row["size"], len(row["layers"]), *spectrum, *sets))
    seconds = ", ".join(f"{stage} {spent:.1f}" for stage, spent in found.seconds.items())
    lines = [
        f"Smallest set, and share of the group, with a Subset Fidelity of 0.8, 0.9 and 0.99; {found.samples} samples",
        f"Seconds: {seconds}",
        *(f"Not scored: {name}, {why}" for name, why in found.unscored.items()),
        *(f"Warning: {warning}" for warning in found.warnings),
        f"Wrote {output}",
    ]
    parts: list[RenderableType] = [table if found.groups else Text("Nothing in this model can be scored.")]
    return Group(*parts, *(_bounds(found.bounds) if found.bounds else ()), *map(Text, lines))


def _bounds(found: Bounds) -> list[RenderableType]:
    """What becomes of a layer's error, and what normalisations divide by."""
    gains = _table("layer", *(f">gain at {error:g}" for error in found.errors))
    for layer in found.layers:
        gains.add_row(*_texts(layer.name, *(f"{gain:.3g}" for gain in layer.gains)))
    title = f"\nRelative error of the outputs over that of the layer, {found.samples} samples"
    parts: list[RenderableType] = [Text(title), gains]
    if found.norms:
        norms = _table("normalisation", "kind", ">smallest norm", ">largest scale", ">Lipschitz")
        for norm in found.norms:
            figures = (f"{value:.3g}" for value in (norm.smallest, norm.gamma, norm.lipschitz))
            norms.add_row(*_texts(norm.name, norm.kind, *figures))
        parts += [Text("\nWhat normalisations divide by"), norms]
    return [*parts, Text("")]


def verification(found: Verification, slim: str) -> RenderableType:
    return Text(
        f"{slim}: is the graph that the plan describes. Largest error against the masked graph "
        f"{found.max_abs_error:.3g}; {found.tolerance:.3g} was allowed for output {found.output!r}."
    )


def comparison(found: Comparison, names: Sequence[str]) -> RenderableType:
    """Timings side by side."""
    table = _table("milliseconds", ">median", ">p95", ">fastest", ">slowest", ">spread", ">runs", ">outliers")
    for name, timing in zip(names, (found.a, found.b), strict=False):
        if timing is not None:
            table.add_row(*_texts(name, *_figures(timing)))
    lines = [*([how(found.engine, found.batch)] if found.engine else [])]
    if found.speedup is not None and found.interval is not None:
        low, high = found.interval
        verdict = (
            "" if found.significant else "; two builds of one model differ by as much, so neither is faster for certain"
        )
        lines.append(
            f"{names[1]} is {found.speedup:.3f} times as fast (95 % interval {low:.3f} to {high:.3f}){verdict}"
        )
    return Group(table, *map(Text, lines))


def how(engine: Mapping[str, Any], batch: int | None) -> str:
    """How times were taken, in a line."""
    threads = f"{engine['threads']} threads" if engine["threads"] else "default threads"
    name = f"{engine['backend']} {engine['version']}"
    cores = f", pinned to cores {', '.join(map(str, engine['pinned']))}" if engine.get("pinned") else ""
    apart = ", each in a process of its own" if engine.get("isolated") else ""
    where = engine.get("provider", engine["device"])
    of = "" if batch is None else f", batch {batch}"
    return f"{name} ({where}), {engine['precision']}, {threads}{of}{cores}{apart}"


def _figures(timing: Timing) -> list[str]:
    times = (timing.median, timing.p95, timing.minimum, timing.maximum, timing.spread)
    return [*(f"{value:.3f}" for value in times), str(timing.n), str(timing.outliers)]


def _table(*columns: str) -> Table:
    """A table without a frame; a title that begins with ">" is right-aligned."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.removeprefix(">"), justify="right" if column.startswith(">") else "left", overflow="fold"
        )
    return table


def _texts(*cells: object) -> list[Text]:
    """Cells as they are: names of nodes may look like markup."""
    return [Text(str(cell)) for cell in cells]


def _some(items: Iterable[str], separator: str = "\n") -> str:
    """The first few of a list, and how many more there are."""
    every = list(items)
    shown = every[:SHOWN] + ([f"and {len(every) - SHOWN} more"] if len(every) > SHOWN else [])
    return separator.join(shown)
