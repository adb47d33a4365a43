"""Pictures of experiments: a panel for each model, a line for each series."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from modhifi_graph.report.plots import check_plot, save
from tools.experiments.experiment import Series

PANEL = (4.6, 3.6)


def draw(
    title: str, panels: Mapping[str, Series], labels: tuple[str, str], path: Path, columns: int | None = None
) -> None:
    """Write one figure, all panels in one row or ``columns`` in each; series without points are left out."""
    check_plot(path)
    from matplotlib.figure import Figure

    columns = min(columns or len(panels), len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (model, series) in zip(places, panels.items(), strict=False):
        for name, points in series.items():
            if points:
                axes.plot(*zip(*sorted(points), strict=True), marker=".", label=name)
        axes.set(title=model, xlabel=labels[0], ylabel=labels[1])
        axes.legend(fontsize="x-small", frameon=False)
    for axes in list(figure.axes)[len(panels) :]:
        axes.set_axis_off()
    figure.suptitle(title)
    save(figure, path)
