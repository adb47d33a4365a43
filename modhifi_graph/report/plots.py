"""Pictures of scores. matplotlib is imported here and nowhere else; the extra ``plot`` brings it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modhifi_graph.errors import InputError
from modhifi_graph.files import atomic_write
from modhifi_graph.scoring.results import GroupScores

SUFFIXES = (".png", ".svg", ".pdf")
SIZE = (11.0, 4.5)
NAMED = 12
"""A legend names at most this many groups; more are told apart by colour, from the first layer to the last."""


def draw_scores(label: str, groups: Sequence[GroupScores], samples: int, path: str | os.PathLike[str]) -> None:
    """The spectrum of singleton fidelities and the curve of Subset Fidelity of every group, as .png, .svg or .pdf.

    Raises
    ------
    InputError
        matplotlib is not installed, the suffix is none of these, or there is nothing to draw.
    """
    check_plot(path)
    if not groups:
        raise InputError(f"{label}: no group has scores, so there is nothing to draw")
    figure, (spectra, curves) = _panels()
    colours = _colours(len(groups))
    for group, colour in zip(groups, colours, strict=True):
        share = np.arange(1, group.size + 1) / group.size
        spectra.plot(share, np.sort(group.fidelity.singletons)[::-1], color=colour, label=group.name)
        curves.plot(np.concatenate([[0], share]), np.concatenate([[0], group.curve]), color=colour)
    curves.axhline(0.8, color="grey", linewidth=0.8, linestyle=":")
    spectra.set(xlabel="share of components, best first", ylabel="singleton fidelity", ylim=(0, None), xlim=(0, 1))
    curves.set(xlabel="share of components, best first", ylabel="Subset Fidelity", ylim=(0, 1.02), xlim=(0, 1))
    if len(groups) <= NAMED:
        spectra.legend(fontsize="x-small", frameon=False)
    figure.suptitle(f"{label}: {len(groups)} groups, {samples} samples")
    save(figure, path)


def check_plot(path: str | os.PathLike[str]) -> None:
    """Refuse, before any work, what could not be drawn."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: pictures are written as {', '.join(SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(f"{path}: drawing needs matplotlib: pip install 'modhifi-graph[plot]'") from error


def save(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file that appears whole or not at all, with the same bytes each time."""
    import matplotlib

    kind = Path(path).suffix.lower().removeprefix(".")
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with matplotlib.rc_context({"svg.hashsalt": "modhifi-graph"}), atomic_write(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=150, metadata=undated)


def _panels() -> tuple[Any, Any]:
    """A figure of two panels, without the global state of pyplot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    return figure, figure.subplots(1, 2)


def _colours(count: int) -> Any:
    """From dark to light in the order of the groups."""
    from matplotlib import colormaps

    return colormaps["viridis"](np.linspace(0, 0.9, count))
