"""What a group loses component by component, small enough to be kept in a report and drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from modhifi_graph.scoring.scores import Ranking

CELLS = 128
"""A group of more components than this shares cells among them: a wider strip than that shows no more."""

DIGITS = 4
"""Significant digits of a loss."""


def spectrum(ranking: Ranking, kept: Sequence[int]) -> dict[str, Any]:
    """The losses of one group, dearest first: ``stays``, ``went`` and ``per``, how many components share a number.

    A loss is the running sum of the ranking's costs: what is lost once this component and all that are cheaper are gone.
    Where several share a number it is the dearest one's. The component that never goes has none.

    Parameters
    ----------
    kept : positions that stay; whatever is not among them went.
    """
    size, staying = ranking.group.size, set(kept)
    running = np.maximum.accumulate(np.cumsum(ranking.costs)).tolist()
    losses: dict[int, float | None] = {**dict.fromkeys(range(size)), **dict(zip(ranking.order, running, strict=True))}
    never = set(range(size)).difference(ranking.order)
    dearest_first, per = [*never, *reversed(ranking.order)], math.ceil(size / CELLS)
    stays = [losses[i] for i in dearest_first if i in staying]
    went = [losses[i] for i in dearest_first if i not in staying]
    return {"per": per, "stays": _cells(stays, per), "went": _cells(went, per)}


def _cells(losses: Sequence[float | None], per: int) -> list[float | None]:
    parts = [[loss for loss in losses[at : at + per] if loss is not None] for at in range(0, len(losses), per)]
    return [float(f"{max(part):.{DIGITS}g}") if part else None for part in parts]
