"""Experiments run cell by cell, with a word on how long the rest will take."""

from __future__ import annotations

import time
from pathlib import Path

from tools.command import say
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
