"""Do HiFi sets exist? Subset Fidelity of sets of 20 % of a layer's components: the best of 1,000 random ones, as the paper
shows it, and sets that are found on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modhifi_graph.jobs.score import score
from modhifi_graph.scoring.results import LayerScores
from tools.experiments.experiment import MISSING, Cell, Experiment, Measured, Row, Series, markdown, rows_of
from tools.experiments.subjects import Subject

SHARE, ETA = 0.2, 0.8
METHODS = ("random", "singletons", "forward", "backward")
LARGEST = 1 << 25
"""A scale for every component and output channel takes so many numbers at most; above that only shared scales are looked at."""


def measure(subject: Subject, cells: Sequence[Cell]) -> Measured:
    scores = score(subject.source, subject.calib, seed=subject.seed, threads=subject.threads)
    layers = [(group.size, layer) for group in scores.groups for layer in group.layers if group.size > 1]
    for cell in cells:
        yield cell, [row for size, layer in layers if (row := searched(layer, size, cell[0], subject.seed))]


def searched(layer: LayerScores, size: int, scales: str, seed: int) -> dict[str, Any]:
    """What sets of 20 % reach in one layer; nothing where that would not fit into memory."""
    channels = layer.contributions.total.numel()
    if scales == "own" and channels * size**2 > LARGEST:
        return {}
    problem = layer.fidelity if scales == "own" else layer.shared
    k = max(1, round(SHARE * size))
    found = {method: problem.search(k, method, seed=seed).fidelity for method in METHODS}
    return {"layer": layer.name, "components": size, "k": k, **found}


def panels(rows: Sequence[Row]) -> Mapping[str, Series]:
    """Layers from the easiest to the hardest, by the best random set."""
    own = [row for row in rows if row["scales"] == "own"]
    return {
        model: {method: _sorted([float(row[method]) for row in rows_of(own, model)]) for method in METHODS}
        for model in dict.fromkeys(row["model"] for row in own)
    }


def _sorted(values: Sequence[float]) -> list[tuple[float, float]]:
    return [((i + 1) / len(values), value) for i, value in enumerate(sorted(values, reverse=True))]


def table(rows: Sequence[Row], subjects: Sequence[Subject]) -> str:
    body = []
    for subject in subjects:
        for (scales,) in cells(subject):
            mine = rows_of(rows, subject.name, scales=scales)
            body.append([f"{subject.name}, {scales}", str(len(mine) or MISSING), *(_reached(mine, m) for m in METHODS)])
    body.append(["paper, own", "", "about 0.8 in half or more", "", "", ""])
    return markdown(["model, scales", "layers", *METHODS], body)


def _reached(rows: Sequence[Row], method: str) -> str:
    if not rows:
        return MISSING
    values = np.array([float(row[method]) for row in rows])
    return f"{np.median(values):.3f} ({(values >= ETA).mean():.0%})"


def cells(subject: Subject) -> list[Cell]:
    return [("own",), ("shared",)]


EXPERIMENT = Experiment(
    "existence", ("scales",), ("layer", "components", "k", *METHODS), cells, measure, panels,
    ("share of layers, easiest first", "Subset Fidelity of 20 % of the components"), table,
)  # fmt: skip
