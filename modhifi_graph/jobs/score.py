"""Scoring without pruning: the Subset Fidelity of every group of a model, the paper's scores, and the sets they make."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Group, find_groups
from modhifi_graph.errors import InputError
from modhifi_graph.frontends.choice import is_module, opened
from modhifi_graph.frontends.frontend import FrontEnd
from modhifi_graph.inputs.batches import Batches
from modhifi_graph.inputs.image_folders import Preprocess
from modhifi_graph.jobs.calibrate import calibrated
from modhifi_graph.models.opening import Source
from modhifi_graph.observe.consumers import Consumer
from modhifi_graph.observe.moments import Moments
from modhifi_graph.observe.observe import observe
from modhifi_graph.options.request import Options
from modhifi_graph.progress import Progress, silent
from modhifi_graph.report.scores import Scores
from modhifi_graph.scoring.analysis import scorable
from modhifi_graph.scoring.bounds import bounds_of
from modhifi_graph.scoring.results import GroupScores, LayerScores
from modhifi_graph.scoring.scores import contributions
from modhifi_graph.select.budget import Keep, Limits

if TYPE_CHECKING:
    from modhifi_graph.frontends.torch import Module


ROWS = 2048
"""Rows that a layer is scored on by default. On ResNet-56 with 1,000 images, singleton fidelities are then 5 to 11 per cent of
their mean from those of all rows (3 to 7 with 4096 rows), the curve of a group at most 1.5 points, and its smallest sets one
component. Refitting weights, as `optimize` does, takes many more rows."""

FEW_ROWS = 1000
"""A layer that has fewer rows than this is worth a warning."""


def score(
    model: Source | Module,
    calib: Any = None,
    *,
    inputs: Any = None,
    bounds: bool = False,
    rows: int = ROWS,
    samples: int | None = None,
    seed: int = 0,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    fold_batchnorm: bool = True,
    preprocess: Preprocess | None = None,
    threads: int = 0,
    device: str | None = None,
    dynamic_shapes: Any = None,
    progress: Progress | None = None,
) -> Scores:
    """Measure how much of every layer's output each component and set of components reconstructs. Nothing is pruned.

    Parameters
    ----------
    model : path, "sample:NAME", onnx.ModelProto, onnx_ir.Model or onnx_graphsurgeon.Graph; nn.Module or ExportedProgram
    calib : path, array or dict of arrays; for modules also tensors, or a loader of them
        Unlabelled inputs, as for :func:`modhifi_graph.optimize`. A sample brings its own.
    inputs : of a module its example inputs, which also serve where ``calib`` is missing.
    bounds : bool, default False
        Measure too how errors travel to the outputs (:mod:`modhifi_graph.scoring.bounds`).
    rows : int, default 2048
        Rows of input that every layer is observed on; the scores' relative error falls with its root.
    samples, seed, only, skip, fold_batchnorm, preprocess, threads, device, dynamic_shapes, progress
        As for :func:`modhifi_graph.optimize`.

    Raises
    ------
    InputError
        The model or the calibration inputs cannot be used.

    Examples
    --------
    >>> import modhifi_graph
    >>> found = modhifi_graph.score("sample:digits-cnn")            # doctest: +SKIP
    >>> found.groups[0].fidelity.search(4, "exhaustive").components  # doctest: +SKIP
    """
    if rows < 1:
        raise InputError(f"rows is {rows}; expected 1 or more")
    options = Options(
        budget=Keep(1.0),  # nothing goes
        plan=None,
        samples=samples,
        seed=seed,
        limits=Limits(tuple(only), tuple(skip)),
        fold_batchnorm=fold_batchnorm,
        preprocess=preprocess,
        threads=threads,
        device=device,
    )
    say: Progress = progress or silent
    front = opened(model, inputs, options, dynamic_shapes)
    data = calibrated(front, inputs if calib is None and not is_module(model) else calib, options, say)
    assert data is not None
    return scored(front, data, options, rows=rows, bounds=bounds, progress=progress)


def scored(
    front: FrontEnd,
    data: Batches,
    options: Options,
    *,
    rows: int = ROWS,
    bounds: bool = False,
    progress: Progress | None = None,
) -> Scores:
    """The scores of a model that has been opened. Time: the forward passes, and O(rows p^2) a layer with p inputs."""
    say: Progress = progress or silent
    start = time.perf_counter()
    groups = find_groups(couple(front.program.graph))
    members, unscored = scorable(groups)
    members = {group: layers for group, layers in members.items() if options.limits.allows(group)}
    # A layer that reads two groups is one consumer, in the order of the graph.
    by_place = {layer.contraction: layer for layers in members.values() for layer in layers}
    moments = observe(
        front.program,
        data.feeds,
        list(by_place.values()),
        wanted_rows=lambda inputs: rows,
        seed=options.seed,
        threads=options.threads,
        progress=lambda done, total: say("observe", done, total),
    ).moments
    observed = time.perf_counter()
    found = []
    for number, (group, layers) in enumerate(members.items()):
        seen = [by_place[layer.contraction] for layer in layers]
        parts = tuple(_layer(group, layer, moments[layer]) for layer in seen)
        found.append(GroupScores(group.name, group.kind, group.size, parts))
        say("score", number + 1, len(members))
    done = time.perf_counter()
    seconds = {"observe": observed - start, "score": done - observed}
    measured = None
    if bounds:
        every = list(by_place.values())
        measured = bounds_of(
            front.program, every, moments, data.feeds, seed=options.seed, threads=options.threads, progress=say
        )
        seconds["bounds"] = time.perf_counter() - done
    return Scores(front.label, data.samples, tuple(found), unscored, tuple(_few(found)), seconds, measured)


def _layer(group: Group, layer: Consumer, moments: Moments) -> LayerScores:
    weight = layer.op.inputs[layer.contraction.other]
    assert weight is not None
    return LayerScores(
        weight.name, str(layer.op), moments.count, contributions(layer, moments, group), layer, moments, group
    )


def _few(groups: list[GroupScores]) -> Iterator[str]:
    for layer in {layer.name: layer for group in groups for layer in group.layers}.values():
        if layer.rows < FEW_ROWS:
            error = 1 / np.sqrt(layer.rows)
            yield f"{layer.op}: scored on {layer.rows} rows only, an error of about {error:.0%}; give more samples"
