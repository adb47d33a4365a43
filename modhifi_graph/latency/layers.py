"""What every piece of a model takes on the engine, before and after: where the time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modhifi_graph.dialects.onnx import Lifted
from modhifi_graph.errors import InputError
from modhifi_graph.latency.pieces import Piece
from modhifi_graph.latency.timer import Pieces, Timer

DECIMALS = 6
"""Decimals of a millisecond that are kept; a nanosecond is already less than a clock can tell."""


ROUNDS = 3
"""So often every piece is timed: what the machine did beside it in one of them does not count."""


def layer_times(
    dense: Lifted, slim: Lifted, feeds: Mapping[str, np.ndarray], timers: Sequence[Timer]
) -> dict[str, Any]:
    """Time the pieces of both models on their own, each of the dense one just before its slim counterpart.

    Every timer goes over all of them once, and the median counts.

    A piece is an op and the pointwise work that runtimes fuse with it (:mod:`modhifi_graph.latency.pieces`). Alone it does not
    pay for moving its data from where the one before it left them, so that the sum is not the time of the whole.

    Returns
    -------
    dict
        ``rows``, in the order in which they run: ``name`` (of the first weight, or else op), ``ops`` (their kinds), and
        milliseconds ``before`` and ``after``, None where the model has no such piece. ``not_timed``: ``name`` and ``reason`` of
        what the engine does not run alone.
    """
    both = [Pieces(model, feeds) for model in (dense, slim)]
    names = list(dict.fromkeys(name for side in both for name in side.parts))
    known = {name: next(side.parts[name] for side in both if name in side.parts) for name in names}
    times: dict[str, list[tuple[float | None, ...]]] = {name: [] for name in names}
    refused: dict[str, str] = {}
    for timer in timers:
        for name in (name for name in names if name not in refused):
            try:
                times[name].append(tuple(side.time(name, timer) for side in both))
            except InputError as error:
                refused[name] = str(error)
    rows = []
    for name in (name for name in names if name not in refused):
        before, after = (_median(column) for column in zip(*times[name], strict=True))
        rows.append({"name": _known_as(known[name]), "ops": _kinds(known[name]), "before": before, "after": after})
    return {
        "rows": rows,
        "not_timed": [{"name": _known_as(known[name]), "reason": why} for name, why in refused.items()],
    }


def _median(times: Sequence[float | None]) -> float | None:
    """Of the rounds; None where there is no such piece."""
    found = [milliseconds for milliseconds in times if milliseconds is not None]
    return round(float(np.median(found)), DECIMALS) if found else None


def _known_as(piece: Piece) -> str:
    """What people know a piece by: its first weight, as groups are, or for want of one its first op."""
    read = [value for value in piece.ops[0].inputs if value is not None and value.is_constant and (value.rank or 0) > 1]
    return (read[0].name if read else piece.ops[0].name) or piece.name


def _kinds(piece: Piece) -> Sequence[str]:
    return [op.kind for op in piece.ops]
