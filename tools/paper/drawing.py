"""Pictures of experiments: a panel for each model, a line for each series."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from modhifi_graph.plotting import check_plot, save
from tools.paper.experiment import Series

PANEL = (4.6, 3.6)


def draw(title: str, panels: Mapping[str, Series], labels: tuple[str, str], path: Path) -> None:
    """Write one figure; series without points are left out."""
    check_plot(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PANEL[0] * len(panels), PANEL[1]), layout="constrained")
    for axes, (model, series) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name, points in series.items():
            if points:
                axes.plot(*zip(*sorted(points), strict=True), marker=".", label=name)
        axes.set(title=model, xlabel=labels[0], ylabel=labels[1])
        axes.legend(fontsize="x-small", frameon=False)
    figure.suptitle(title)
    save(figure, path)
