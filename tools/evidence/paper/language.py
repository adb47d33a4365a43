"""A language model by sparsity: perplexity with only the MLPs pruned, as in the paper, and with everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modhifi_graph.jobs.inspect import inspect
from tools.evidence.paper.pruning import METHODS, VALUES, pruned
from tools.experiments.experiment import MISSING, Cell, Experiment, Measured, Row, Series, markdown, number, rows_of
from tools.experiments.subjects import Subject

BUDGETS = ("0.95", "0.9", "0.8", "0.7")
SCOPES: Mapping[str, tuple[str, ...]] = {"mlp": ("hidden",), "all": ()}
"""Which kinds of groups are pruned; all where none is named."""

CHOSEN = ("default", "paper")

DENSE = 5.12
PAPER = {  # Llama-2-7B, WikiText-2, MLP only, no recovery: sparsity, ModHiFi, SliceGPT
    "0.9": (5.97, 6.46),
    "0.8": (7.91, 8.13),
    "0.7": (11.53, 10.96),
}


def measure(subject: Subject, cells: Sequence[Cell]) -> Measured:
    for cell in cells:
        budget, scope, method = cell
        yield cell, [pruned(subject, float(budget), only=only(subject, scope), **METHODS[method])]


def only(subject: Subject, scope: str) -> list[str]:
    """The names of the groups of a scope; exporters keep no names of modules to go by."""
    return [g.name for g in inspect(subject.source).groups if g.kind in SCOPES[scope]]


def panels(rows: Sequence[Row]) -> Mapping[str, Series]:
    return {
        model: {
            f"{scope}, {method}": [
                (float(row["macs"]), float(row["score"])) for row in rows_of(rows, model, scope=scope, method=method)
            ]
            for scope in SCOPES
            for method in CHOSEN
        }
        for model in dict.fromkeys(row["model"] for row in rows)
    }


def table(rows: Sequence[Row], subjects: Sequence[Subject]) -> str:
    body = []
    for subject in subjects:
        for cell in cells(subject):
            found = rows_of(rows, subject.name, **dict(zip(EXPERIMENT.columns, cell, strict=True)))
            times = f"{float(found[0]['score']) / float(found[0]['dense']):.2f}" if found else MISSING
            left = [number(found, "macs", 3), number(found, "params", 3)]
            body.append([f"{subject.name}, {', '.join(cell[1:])}, {cell[0]}", *left, number(found, "score", 3), times])
    for budget, (modhifi, slicegpt) in PAPER.items():
        for name, value in (("ModHiFi-P", modhifi), ("SliceGPT", slicegpt)):
            body.append([f"paper: Llama-2-7B, mlp, {name}, {budget}", "", "", f"{value:.2f}", f"{value / DENSE:.2f}"])
    return markdown(["model, scope, method, what stays", "MACs left", "params left", "perplexity", "over dense"], body)


def cells(subject: Subject) -> list[Cell]:
    if subject.kind != "language":
        return []
    return [(budget, scope, method) for budget in BUDGETS for scope in SCOPES for method in CHOSEN]


EXPERIMENT = Experiment(
    "language", ("budget", "scope", "method"), VALUES, cells, measure, panels,
    ("multiply-accumulates left", "perplexity"), table,
)  # fmt: skip
