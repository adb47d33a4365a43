"""What every table and figure is made of: cells that are measured once, rows of a CSV, a picture and a Markdown table."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modhifi_graph.errors import InputError
from modhifi_graph.files import atomic_write
from tools.experiments.subjects import Subject

Cell = tuple[str, ...]
Row = dict[str, str]
Measured = Iterator[tuple[Cell, list[Mapping[str, Any]]]]
Series = Mapping[str, Sequence[tuple[float, float]]]

COMMON = ("model", "digest", "samples", "seed")
MISSING = "not run yet"


@dataclass(frozen=True)
class Experiment:
    """One table or figure.

    Attributes
    ----------
    name : of its files and of its place in REPRODUCTION.md.
    columns : what a cell is called by.
    values : what is measured; a cell may have several rows.
    cells : those that a subject should have, the most important first; none where it does not apply.
    measure : measures some of them, in that order.
    panels : what is drawn: for each model, series of points by name.
    labels : of the axes of every panel.
    table : Markdown, with the paper's figures, for these rows and models.
    """

    name: str
    columns: tuple[str, ...]
    values: tuple[str, ...]
    cells: Callable[[Subject], list[Cell]]
    measure: Callable[[Subject, Sequence[Cell]], Measured]
    panels: Callable[[Sequence[Row]], Mapping[str, Series]]
    labels: tuple[str, str]
    table: Callable[[Sequence[Row], Sequence[Subject]], str]


class Ledger:
    """The CSV of an experiment. A cell stands there whole or not at all, and only as of one model, inputs and seed."""

    def __init__(self, folder: Path, experiment: Experiment) -> None:
        self.path = folder / f"{experiment.name}.csv"
        self._header = (*COMMON, *experiment.columns, *experiment.values)
        self._columns = experiment.columns
        self.rows = self._read() if self.path.exists() else []

    def has(self, subject: Subject, cell: Cell) -> bool:
        identity = _identity(subject)
        return any(self._is(row, subject, cell) and all(row[k] == v for k, v in identity.items()) for row in self.rows)

    def add(self, subject: Subject, cell: Cell, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a cell; it takes the place of one of other inputs. Rows stand in one order, whoever came first."""
        start = {**_identity(subject), **dict(zip(self._columns, cell, strict=True))}
        new = [{**start, **{name: _text(value) for name, value in row.items()}} for row in rows]
        self.rows = [row for row in self.rows if not self._is(row, subject, cell)] + new
        self.rows.sort(key=lambda row: [_sortable(row[name]) for name in ("model", *self._columns)])  # stable
        with atomic_write(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._header, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    def _is(self, row: Row, subject: Subject, cell: Cell) -> bool:
        return row["model"] == subject.name and tuple(row[name] for name in self._columns) == cell

    def _read(self) -> list[Row]:
        with self.path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != self._header:
                raise InputError(f"{self.path}: has other columns than {', '.join(self._header)}; move it away")
            return list(reader)


def _identity(subject: Subject) -> Row:
    used = min(subject.samples, min(map(len, subject.inputs.values())))
    return {"model": subject.name, "digest": subject.digest, "samples": str(used), "seed": str(subject.seed)}


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _sortable(text: str) -> tuple[bool, float, str]:
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text


def rows_of(rows: Sequence[Row], model: str, **wanted: str) -> list[Row]:
    """The rows of a model in which some columns have these values."""
    return [row for row in rows if row["model"] == model and all(row[name] == text for name, text in wanted.items())]


def number(rows: Sequence[Row], column: str, digits: int = 2) -> str:
    """The only row's value as a table shows it, or that it was not run yet."""
    return f"{float(rows[0][column]):.{digits}f}" if rows else MISSING


def markdown(header: Sequence[str], body: Sequence[Sequence[str]], given: int = 0) -> str:
    """A table whose first column is text and whose others are numbers; rows that have not been run are named below it.

    ``given`` is how many columns after the first say nothing of what a row measures.
    """
    absent = [line for line in body if set(line[1 + given :]) <= {MISSING, ""} and MISSING in line]
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *(line for line in body if line not in absent)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    names = ", ".join(dict.fromkeys(line[0].split(",")[0].strip("*") for line in absent))
    return f"{table}\n\n{MISSING.capitalize()}, in part or at all: {names}." if names else table
