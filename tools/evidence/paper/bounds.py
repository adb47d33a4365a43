"""From local errors to global ones: the measured gain of every layer, and what every normalisation divides by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from modhifi_graph.jobs.score import score
from modhifi_graph.scoring.bounds import ERRORS
from tools.experiments.experiment import MISSING, Cell, Experiment, Measured, Row, Series, markdown, rows_of
from tools.experiments.subjects import Subject

GAINS = tuple(f"gain_{error:g}" for error in ERRORS)


def measure(subject: Subject, cells: Sequence[Cell]) -> Measured:
    found = score(
        subject.source, subject.calib, bounds=True, fold_batchnorm=False, seed=subject.seed, threads=subject.threads
    ).bounds  # fmt: skip
    assert found is not None
    layers = [{"name": gain.name, **dict(zip(GAINS, gain.gains, strict=True))} for gain in found.layers]
    norms = [
        {"name": norm.name, "smallest": norm.smallest, "gamma": norm.gamma, "lipschitz": norm.lipschitz}
        for norm in found.norms
    ]
    rows: Mapping[Cell, list[Mapping[str, object]]] = {("layer",): [*layers], ("normalisation",): [*norms]}
    for cell in cells:
        yield cell, rows[cell] or [{"name": "none"}]


def panels(rows: Sequence[Row]) -> Mapping[str, Series]:
    layers = [row for row in rows if row["of"] == "layer"]
    return {
        model: {
            f"local error {error:g}": [(i, float(row[name])) for i, row in enumerate(rows_of(layers, model))]
            for error, name in zip(ERRORS, GAINS, strict=True)
        }
        for model in dict.fromkeys(row["model"] for row in layers)
    }


def table(rows: Sequence[Row], subjects: Sequence[Subject]) -> str:
    body = []
    for subject in subjects:
        layers, norms = (rows_of(rows, subject.name, of=of) for of in ("layer", "normalisation"))
        body.append(
            [subject.name, str(len(layers) or MISSING), *(_spread(layers, name) for name in GAINS), *_norms(norms)]
        )
    header = ["model", "layers", *(f"gain at {error:g}" for error in ERRORS)]
    paper = ["paper", "", "10 to 50, another ratio", "", "", "", "", ""]
    return markdown([*header, "normalisations", "least norm", "largest Lipschitz constant"], [*body, paper])


def _spread(rows: Sequence[Row], column: str) -> str:
    if not rows:
        return MISSING
    least, middle, most = np.quantile([float(row[column]) for row in rows], (0, 0.5, 1))
    return f"{least:.3f}, {middle:.3f}, {most:.3f}"


def _norms(rows: Sequence[Row]) -> list[str]:
    known = [row for row in rows if row["name"] != "none"]
    if not known:
        return ["0" if rows else MISSING, "", ""]
    least, most = min(float(row["smallest"]) for row in known), max(float(row["lipschitz"]) for row in known)
    return [str(len(known)), f"{least:.3g}", f"{most:.3g}"]


def cells(subject: Subject) -> list[Cell]:
    return [("layer",), ("normalisation",)]


EXPERIMENT = Experiment(
    "bounds", ("of",), ("name", *GAINS, "smallest", "gamma", "lipschitz"), cells, measure, panels,
    ("layer, the first one first", "relative error of the outputs over that of the layer"), table,
)  # fmt: skip
