"""Several engines along the front of speed and fidelity, from one analysis of the model."""

from __future__ import annotations

from typing import Any

from modhifi_graph.errors import InputError
from modhifi_graph.frontends.choice import opened
from modhifi_graph.frontends.frontend import Optimized
from modhifi_graph.jobs.pipeline import Job
from modhifi_graph.models.opening import Source
from modhifi_graph.options.request import made
from modhifi_graph.progress import Progress
from modhifi_graph.select.goal import Speedup

FASTEST = 2.0
"""The last engine's speed-up where none is given."""


def pareto(
    model: Source,
    calib: Any = None,
    *,
    engines: int = 4,
    speedup: float = FASTEST,
    progress: Progress | None = None,
    **options: Any,
) -> list[Optimized]:
    """Slim models of growing speed, the slowest first: scored once, then one search, repair and proof each.

    Parameters
    ----------
    model, calib : as for :func:`modhifi_graph.optimize`; only ONNX models.
    engines : int, default 4
        How many; their speed-ups divide the way from 1 to ``speedup`` into equal ratios.
    speedup : float > 1, default 2
        Of the last.
    options : of :func:`modhifi_graph.optimize`, but budgets, plans and mode "paper".

    Raises
    ------
    InputError
        As :func:`modhifi_graph.optimize`; or fewer than two engines are asked for.
    """
    if engines < 2:
        raise InputError(f"pareto is {engines}; expected at least 2 engines along the front")
    if not speedup > 1:
        raise InputError(f"speedup is {speedup:g}; expected more than 1, what the fastest engine of the front reaches")
    asked = made(speedup=speedup, **options)
    job = Job(lambda: opened(model, None, asked), calib, asked, progress)
    return job.front([Speedup(speedup ** ((number + 1) / engines)) for number in range(engines)])
