"""Every class forgotten in turn, by the edit and by ModHiFi-U as published: tools/evidence/unlearn_classes.py, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tools.evidence.unlearn_classes import Bench
from tools.experiments.experiment import MISSING, Cell, Experiment, Measured, Row, Series, markdown, rows_of
from tools.experiments.subjects import Subject

MODES = ("edit", "zero", "negate")
CLASSES = 10
FORGET, REMAIN, TESTS = 200, 1000, 250
VALUES = ("forget", "remain", "forget_dense", "remain_dense", "agreement")

PAPER = (  # CIFAR-10, mean over the classes: forget, remain
    ("paper: ResNet-50 (dense 94.99), ModHiFi-U", "0.20 / 92.98"),
    ("paper: Swin-T, ModHiFi-U", "8.83 / 73.57"),
    ("paper: Jia et al.", "3.54 / 94.14"),
    ("paper: Jia et al., their other setting", "1.20 / 90.69"),
)


def measure(subject: Subject, cells: Sequence[Cell]) -> Measured:
    assert subject.labels is not None
    train, test = subject.labels()
    settings = {"mu": 1.0, "depth": 1, "score": "singleton", "macs": None}
    bench = Bench(
        subject.source, train, test, CLASSES, FORGET, REMAIN, subject.seed, subject.threads, settings
    )  # fmt: skip
    for mode in dict.fromkeys(mode for mode, _ in cells):
        for row in bench.rows([mode], [int(label) for name, label in cells if name == mode], TESTS):
            yield (mode, str(row["class"])), [{name: row[name] for name in VALUES}]


def panels(rows: Sequence[Row]) -> Mapping[str, Series]:
    return {
        model: {
            f"{mode}, {what}": [(float(row["class"]), float(row[what])) for row in rows_of(rows, model, mode=mode)]
            for mode in MODES
            for what in ("forget", "remain")
        }
        for model in dict.fromkeys(row["model"] for row in rows)
    }


def table(rows: Sequence[Row], subjects: Sequence[Subject]) -> str:
    body = []
    for subject in subjects:
        for label in sorted({label for _, label in cells(subject)}):
            found = [rows_of(rows, subject.name, mode=mode, **{"class": label}) for mode in MODES]
            body.append([f"{subject.name}, class {label}", *(_pair(one) for one in found)])
        if cells(subject):
            means = [_pair(rows_of(rows, subject.name, mode=mode), CLASSES) for mode in MODES]
            body.append([f"**{subject.name}, mean** (dense {_dense(rows, subject)})", *means])
    header = ["model, class", *(f"{mode}: forget / remain" for mode in MODES)]
    return markdown(header, [*body, *([name, "", figures, ""] for name, figures in PAPER)])


def _pair(rows: Sequence[Row], wanted: int = 1) -> str:
    """Means over rows, and over how many of those wanted where some are missing."""
    if not rows:
        return MISSING
    forget, remain = (np.mean([float(row[what]) for row in rows]) for what in ("forget", "remain"))
    return f"{forget:.2f} / {remain:.2f}" + (f" ({len(rows)} of {wanted})" if len(rows) < wanted else "")


def _dense(rows: Sequence[Row], subject: Subject) -> str:
    mine = rows_of(rows, subject.name, mode=MODES[0])
    if not mine:
        return MISSING
    return " / ".join(f"{np.mean([float(row[what]) for row in mine]):.2f}" for what in VALUES[2:4])


def cells(subject: Subject) -> list[Cell]:
    if subject.labels is None:
        return []
    return [(mode, str(label)) for mode in MODES for label in range(CLASSES)]


EXPERIMENT = Experiment(
    "unlearning", ("mode", "class"), VALUES, cells, measure, panels, ("class", "top-1, percent"), table
)  # fmt: skip
