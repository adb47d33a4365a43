"""Accuracy at equal measured latency: every contender brought to the same speed-up over the same file, and scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from modhifi_graph.axes.cost import Cost
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.latency import machine
from modhifi_graph.latency.benchmark import bench
from modhifi_graph.latency.turns import Comparison
from modhifi_graph.models.opening import open_model
from modhifi_graph.passes.normal_form import normalise
from tools.experiments.experiment import MISSING, Cell, Experiment, Measured, Row, Series, markdown, rows_of
from tools.experiments.subjects import Subject
from tools.peers import field
from tools.peers.contender import Contender
from tools.peers.search import TOLERANCE, TRIES, bring, nearest

BACKENDS = ("onnxruntime", "openvino")
TARGETS = ("1.25", "1.5", "2")
VALUES = (
    "fraction", "tries", "speedup", "low", "high", "score", "dense", "macs", "libraries", "engine", "machine", "failure",
)  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """Which cells are measured, and how long: of every try, and of the finished model, in seconds."""

    backends: Sequence[str] = BACKENDS
    targets: Sequence[str] = TARGETS
    contenders: Sequence[str] = field.NAMES
    tries: int = TRIES
    try_seconds: float = 1.5
    seconds: float = 6.0


def experiment(choice: Choice | None = None) -> Experiment:
    choice = choice or Choice()
    return Experiment(
        "peers", ("backend", "threads", "target", "contender"), VALUES, lambda subject: cells(subject, choice),
        lambda subject, wanted: measure(subject, wanted, choice), panels, ("measured speed-up", "accuracy, %"), table,
    )  # fmt: skip


def cells(subject: Subject, choice: Choice) -> list[Cell]:
    """Contenders one after the other at each target, so that what drifts drifts for all."""
    return [
        (backend, str(subject.threads), target, contender)
        for backend in choice.backends
        for target in choice.targets
        for contender in choice.contenders
        if field.applies(contender, subject.path)
    ]


def measure(subject: Subject, wanted: Sequence[Cell], choice: Choice) -> Measured:
    contenders, original = field.of(subject), to_proto(open_model(subject.source).model)
    for cell in wanted:
        backend, _, target, name = cell
        time = _timer(original, subject, backend)
        about = {"dense": subject.dense, "libraries": contenders[name].versions(), "machine": here()}
        try:
            found = one(contenders[name], backend, float(target), subject, time, choice)
        except Exception as error:  # foreign libraries raise anything; that one failed is a result, ours may not
            if name in field.OURS:
                raise
            found = {"failure": " ".join(f"{type(error).__name__}: {error}".split())[:200]}
        yield cell, [{**about, **found}]


def one(
    contender: Contender,
    backend: str,
    target: float,
    subject: Subject,
    time: Callable[[onnx.ModelProto, float], Comparison],
    choice: Choice,
) -> dict[str, Any]:
    """The row of a cell. The finished model is timed anew: the fastest of several tries is in part the luckiest."""

    def speedup(fraction: float) -> float:
        found = time(contender.slim(backend, fraction), choice.try_seconds).speedup
        assert found is not None
        return found

    made = bring(speedup, target, choice.tries)
    best = nearest(made, target)
    model = contender.finished(backend, best.fraction)
    timed = time(model, choice.seconds)
    assert timed.interval is not None
    assert timed.engine is not None
    low, high = timed.interval
    return {
        "fraction": best.fraction, "tries": len(made), "speedup": timed.speedup, "low": low, "high": high,
        "score": subject.rate(model), "macs": macs(model) / macs(to_proto(open_model(subject.source).model)),
        "engine": f"{backend} {timed.engine['version']}, {timed.engine['precision']}",
    }  # fmt: skip


def _timer(original: onnx.ModelProto, subject: Subject, backend: str) -> Callable[[onnx.ModelProto, float], Comparison]:
    """Times a model in turns with the dense one, on one calibration input."""
    feeds: dict[str, np.ndarray] = {name: array[:1] for name, array in subject.calib.items()}
    return lambda model, seconds: bench(
        original, model, inputs=feeds, backend=backend, threads=subject.threads, seconds=seconds
    )


def macs(model: onnx.ModelProto) -> int:
    """Of one sample."""
    return Cost(find_groups(couple(lift(normalise(open_model(model).model.clone(), "model")).graph))).macs()


def here() -> str:
    found = machine.describe()
    return f"{found['processor']}, {found['cores']} cores, {found['memory_gib']} GiB, {found['system']}"


def panels(rows: Sequence[Row]) -> Mapping[str, Series]:
    """A panel for each model and backend; every line starts at the dense model."""
    made: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in sorted((row for row in rows if row["score"]), key=lambda row: field.NAMES.index(row["contender"])):
        panel = made.setdefault(f"{row['model']}, {row['backend']}", {})
        line = panel.setdefault(row["contender"], [(1.0, float(row["dense"]))])
        line.append((float(row["speedup"]), float(row["score"])))
    return made


def table(rows: Sequence[Row], subjects: Sequence[Subject]) -> str:
    """Accuracy and, in brackets, the speed-up that it was measured at; what is off the target by more is set in italics."""
    body = []
    for subject in subjects:
        for backend in BACKENDS:
            for target in TARGETS:
                found = {row["contender"]: row for row in rows_of(rows, subject.name, backend=backend, target=target)}
                shown = [_shown(found.get(name), subject, name, float(target)) for name in field.NAMES]
                dense = next((f" (dense {float(row['dense']):.2f})" for row in found.values()), "")
                body.append([f"{subject.name} on {backend}, {target}{dense}", *shown])
    text = markdown(["model, backend, target", *field.NAMES], body)
    return "\n\n".join([text, *provenance(rows)]) if rows else f"{MISSING.capitalize()}."


def _shown(row: Row | None, subject: Subject, name: str, target: float) -> str:
    if row is None:
        return MISSING if field.applies(name, subject.path) else ""
    if row["failure"]:
        return "failed"
    text = f"{float(row['score']):.2f} ({float(row['speedup']):.2f})"
    return text if abs(float(row["speedup"]) / target - 1) <= TOLERANCE else f"*{text}*"


def provenance(rows: Sequence[Row]) -> list[str]:
    """Where and with what rows were measured, each once."""
    named = {"threads": "Threads", "engine": "Engines", "libraries": "Made by", "machine": "Machine"}
    lines = []
    for column, title in named.items():
        values = sorted({row[column] for row in rows if row.get(column)})
        if values:
            lines.append(f"{title}: {'; '.join(values)}.")
    return lines
