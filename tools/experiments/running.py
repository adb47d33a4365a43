"""Experiments run cell by cell, with a word on how long the rest will take."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from modhifi_graph.errors import InputError
from tools.experiments.experiment import Experiment, Ledger
from tools.experiments.subjects import Subject


def measure(experiment: Experiment, subject: Subject, out: Path, end: float) -> None:
    """Measure the cells of a subject that are missing, as long as there is time; a cell that has begun is finished."""
    wanted = experiment.cells(subject)
    ledger = Ledger(out, experiment)
    missing = [cell for cell in wanted if not ledger.has(subject, cell)]
    if not missing:
        return
    start = time.monotonic()
    say(f"{experiment.name} {subject.name}: {len(missing)} of {len(wanted)} cells to go")
    for number, (cell, rows) in enumerate(experiment.measure(subject, missing), start=1):
        ledger.add(subject, cell, rows)
        spent = time.monotonic() - start
        left = spent / number * (len(missing) - number)
        say(
            f"{experiment.name} {subject.name} {', '.join(cell)}: {number}/{len(missing)}, {spent:.0f} s, {left:.0f} s left"
        )
        if time.monotonic() > end:
            return


def listed(text: str | None, known: Sequence[str], option: str) -> Sequence[str]:
    names = known if text is None else text.split(",")
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"{option}: {unknown[0]!r} is unknown; choose from {','.join(known)}")
    return names


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
