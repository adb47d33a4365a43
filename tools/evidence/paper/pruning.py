"""Pruning without fine-tuning: the score at several budgets of multiply-accumulates, by three methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modhifi_graph.jobs.optimize import optimize
from tools.experiments.experiment import Cell, Experiment, Measured, Row, Series, markdown, number, rows_of
from tools.experiments.subjects import Subject

METHODS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "paper": {"mode": "paper", "fold_batchnorm": False},
    "magnitude": {"criterion": "magnitude", "compensation": "none"},
}
"""What `optimize` does; ModHiFi-P with its batch norms re-estimated; the least weights removed and nothing repaired."""

BUDGETS = ("0.75", "0.5", "0.25")
VALUES = ("macs", "params", "fidelity", "score", "dense")

PAPER = (  # without fine-tuning: dense, pruned, FLOPs left, parameters left
    ("paper: ResNet-50, CIFAR-10, ModHiFi-P", "94.99", "91.02", "1/4.07", "1/5.36"),
    ("paper: ResNet-50, CIFAR-10, L2 at that size", "94.99", "15.91", "1/4.07", "1/5.36"),
    ("paper: ResNet-101, CIFAR-10, ModHiFi-P", "95.09", "91.20", "1/4.21", ""),
    ("paper: VGG-19, CIFAR-10, ModHiFi-P", "93.50", "91.80", "1/2.39", ""),
    ("paper: ResNet-50, CIFAR-100, ModHiFi-P", "78.85", "70.93", "1/1.93", ""),
)


def pruned(subject: Subject, macs: float, inputs: Any = None, **settings: Any) -> dict[str, Any]:
    """What one call of `optimize` leaves, and its score; calibrated on the subject's inputs unless others are given."""
    slim = optimize(
        subject.source, subject.calib if inputs is None else inputs, macs=macs, seed=subject.seed,
        threads=subject.threads, bench_seconds=0, **settings,
    )  # fmt: skip
    left = {what: slim.report[what]["after"] / slim.report[what]["before"] for what in ("macs", "params")}
    return {**left, "fidelity": slim.report["fidelity"], "score": subject.rate(slim.model), "dense": subject.dense}


def measure(subject: Subject, cells: Sequence[Cell]) -> Measured:
    for cell in cells:
        budget, method = cell
        yield cell, [pruned(subject, float(budget), **METHODS[method])]


def panels(rows: Sequence[Row]) -> Mapping[str, Series]:
    return {
        model: {
            method: [(float(row["macs"]), float(row["score"])) for row in rows_of(rows, model, method=method)]
            for method in METHODS
        }
        for model in dict.fromkeys(row["model"] for row in rows)
    }


def table(rows: Sequence[Row], subjects: Sequence[Subject]) -> str:
    body = []
    for subject in subjects:
        dense = number(rows_of(rows, subject.name), "dense")
        for budget, method in cells(subject):
            found = rows_of(rows, subject.name, budget=budget, method=method)
            name = f"{subject.name}, {subject.metric}, {method}, {budget} of the MACs"
            body.append([name, dense, *(number(found, *what) for what in (("score",), ("macs", 3), ("params", 3)))])
    return markdown(["model, method", "dense", "pruned", "MACs left", "params left"], [*body, *map(list, PAPER)], 1)


def cells(subject: Subject) -> list[Cell]:
    """A language model loses too much below three quarters: `language` has its budgets."""
    budgets = BUDGETS if subject.kind == "image" else ()
    return [(budget, method) for budget in budgets for method in METHODS]


EXPERIMENT = Experiment(
    "pruning", ("budget", "method"), VALUES, cells, measure, panels,
    ("multiply-accumulates left", "score without fine-tuning"), table,
)  # fmt: skip
