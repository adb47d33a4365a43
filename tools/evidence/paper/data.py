"""How good must the data be? The same budget with real inputs, fewer of them, synthesised ones, and noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from modhifi_graph.jobs.synthesise import synthesise
from tools.evidence.paper.pruning import VALUES, pruned
from tools.experiments.experiment import Cell, Experiment, Measured, Row, Series, markdown, number, rows_of
from tools.experiments.subjects import Arrays, Subject

MACS = {"image": "0.69", "language": "0.95"}
COUNTS = {"image": ("10", "30", "100", "300", "1000"), "language": ("3", "10", "30")}


def measure(subject: Subject, cells: Sequence[Cell]) -> Measured:
    for cell in cells:
        source, count = cell
        inputs = made(subject, source, count)
        seen = min(map(len, inputs.values()))
        yield cell, [{"seen": seen, **pruned(subject, float(MACS[subject.kind]), inputs)}]


def made(subject: Subject, source: str, count: str) -> Arrays:
    """Inputs of a kind: real ones, synthesised ones, or noise in the shape of real ones."""
    size = subject.samples if count == "all" else int(count)
    real = subject.first(size)
    if source == "real":
        return real
    if source == "synthesised":
        made = synthesise(subject.source, samples=size, seed=subject.seed, threads=subject.threads)
        return dict(made.arrays)
    random = np.random.default_rng(subject.seed)
    return {name: _noise(array, random) for name, array in real.items()}


def _noise(array: np.ndarray, random: np.random.Generator) -> np.ndarray:
    if array.dtype.kind in "iu":
        return random.integers(array.min(), array.max() + 1, array.shape).astype(array.dtype)
    return random.standard_normal(array.shape).astype(array.dtype)


def panels(rows: Sequence[Row]) -> Mapping[str, Series]:
    return {
        model: {
            source: sorted((float(row["seen"]), float(row["score"])) for row in rows_of(rows, model, source=source))
            for source in ("real", "synthesised", "noise")
        }
        for model in dict.fromkeys(row["model"] for row in rows)
    }


def table(rows: Sequence[Row], subjects: Sequence[Subject]) -> str:
    body = []
    for subject in subjects:
        for source, count in cells(subject):
            found = rows_of(rows, subject.name, source=source, count=count)
            body.append(
                [
                    f"{subject.name}, {subject.metric} at {MACS[subject.kind]}, {source}",
                    number(found, "seen", 0), number(found, "dense"), number(found, "score"), number(found, "fidelity", 4),
                ]
            )  # fmt: skip
    return markdown(["model, inputs", "samples", "dense", "pruned", "fidelity on these inputs"], body, 2)


def cells(subject: Subject) -> list[Cell]:
    few = [("real", count) for count in COUNTS[subject.kind] if int(count) < subject.samples]
    return [("real", "all"), ("synthesised", "all"), ("noise", "all"), *few]


EXPERIMENT = Experiment(
    "data", ("source", "count"), ("seen", *VALUES), cells, measure, panels,
    ("calibration samples", "score without fine-tuning"), table,
)  # fmt: skip
