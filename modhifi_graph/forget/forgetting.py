"""Making a program forget a class: which way, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from modhifi_graph.axes.groups import Groups
from modhifi_graph.dialects.program import Program
from modhifi_graph.errors import InputError
from modhifi_graph.forget import editing, kernels
from modhifi_graph.forget.editing import Edited
from modhifi_graph.forget.head import find_head, predicted_class
from modhifi_graph.forget.modes import INTERCEPT, MODES
from modhifi_graph.interface import Feeds
from modhifi_graph.observe.sites import sites
from modhifi_graph.progress import Progress, silent


@dataclass(frozen=True)
class How:
    """What is done to the class; see :func:`modhifi_graph.unlearn` for each. Checked when made."""

    mode: str = "edit"
    label: int | None = None
    mu: float = 1.0
    depth: int = 1
    score: str = "singleton"
    fraction: float | None = None
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"mode {self.mode!r} is unknown; choose one of {', '.join(MODES)}")
        if self.score not in kernels.SCORES:
            raise InputError(f"score {self.score!r} is unknown; choose one of {', '.join(kernels.SCORES)}")
        if not 0 <= self.mu < float("inf"):
            raise InputError(f"mu is {self.mu:g}; expected a finite number that is not negative")
        if self.depth < 0:
            raise InputError(f"depth is {self.depth}; expected a number of layers, 0 or more")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise InputError(f"fraction is {self.fraction:g}; expected a number above 0 and at most 1")


@dataclass(frozen=True, eq=False)
class Forgotten:
    """What was done to a program: the scores before and after, and what they come from.

    Attributes
    ----------
    edited : the class, and the class scores of both sets.
    place : of the class scores among the floating-point outputs.
    fraction : of the kernels that went, for the published modes.
    """

    edited: Edited
    place: int
    fraction: float | None


def forget_class(
    program: Program,
    groups: Groups,
    forget: Sequence[Feeds],
    remain: Sequence[Feeds],
    how: How,
    progress: Progress = silent,
    label: str = "the model",
) -> Forgotten:
    """Make a program, in place, forget the class of which ``forget`` are batches of samples.

    ``groups`` are the program's. Raises InputError where it is no classifier, or has no such class.
    """
    found = list(sites(groups, program.graph, {}))
    head = find_head(program.graph, found, label)
    if how.label is not None and not 0 <= how.label < head.classes:
        raise InputError(f"{label}: there is no class {how.label}; its classes are 0 to {head.classes - 1}")
    if how.mode in INTERCEPT:
        edited = editing.edit(
            program,
            found,
            head,
            forget,
            remain,
            how.mode,
            mu=how.mu,
            depth=how.depth,
            label=how.label,
            seed=how.seed,
            threads=how.threads,
            progress=lambda done, total: progress("edit", done, total),
        )
        return Forgotten(edited, head.place, None)

    def scores(batches: Sequence[Feeds]) -> torch.Tensor:
        rows = [head.scores(r[head.output.name]) for r in program.results(batches, [head.output.name], how.threads)]
        return torch.cat(rows) if rows else torch.zeros(0, head.classes)

    before = scores(forget), scores(remain)
    seen = predicted_class(before[0]) if how.label is None else how.label
    fraction = kernels.flip(
        program,
        groups,
        head,
        forget,
        how.mode,
        score=how.score,
        fraction=how.fraction,
        label=seen,
        seed=how.seed,
        threads=how.threads,
        progress=lambda done, total: progress("observe", done, total),
    )
    return Forgotten(Edited(seen, (), before, (scores(forget), scores(remain))), head.place, fraction)
