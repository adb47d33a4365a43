"""Criterion by compensation at equal multiply-accumulates: tools/evidence/ablation.py, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tools.evidence.ablation import Settings, ablate
from tools.experiments.experiment import MISSING, Cell, Experiment, Measured, Row, Series, markdown, number, rows_of
from tools.experiments.subjects import Subject

MACS = {"image": "0.5", "language": "0.9"}
CRITERIA = ("fidelity", "obs", "magnitude", "random", "alpha", "rowsum", "energy")
COMPENSATIONS = ("none", "scalar", "lstsq", "sequential", "joint")


def measure(subject: Subject, cells: Sequence[Cell]) -> Measured:
    for cell in cells:
        macs, criterion = cell
        settings = Settings(
            subject.source, subject.calib, float(macs), (criterion,), COMPENSATIONS, None, subject.seed, subject.threads
        )  # fmt: skip
        names = ("compensation", "macs", "score", "fidelity")
        yield cell, [{name: getattr(one, name) for name in names} for one in ablate(settings, subject.rate)]


def panels(rows: Sequence[Row]) -> Mapping[str, Series]:
    """Compensations from the cheapest to the dearest, one line a criterion."""
    return {
        model: {
            criterion: [
                (COMPENSATIONS.index(row["compensation"]), float(row["score"]))
                for row in rows_of(rows, model, criterion=criterion)
            ]
            for criterion in CRITERIA
        }
        for model in dict.fromkeys(row["model"] for row in rows)
    }


def table(rows: Sequence[Row], subjects: Sequence[Subject]) -> str:
    body = []
    for subject in subjects:
        for macs, criterion in cells(subject):
            found = rows_of(rows, subject.name, budget=macs, criterion=criterion)
            shown = [number([r for r in found if r["compensation"] == c], "score") for c in COMPENSATIONS]
            body.append([f"{subject.name}, {subject.metric} at {macs}, {criterion}", *shown])
    return markdown(["model, criterion", *COMPENSATIONS], body) if body else MISSING


def cells(subject: Subject) -> list[Cell]:
    return [(MACS[subject.kind], criterion) for criterion in CRITERIA]


EXPERIMENT = Experiment(
    "ablation", ("budget", "criterion"), ("compensation", "macs", "score", "fidelity"), cells, measure, panels,
    (f"compensation: {', '.join(COMPENSATIONS)}", "score"), table,
)  # fmt: skip
