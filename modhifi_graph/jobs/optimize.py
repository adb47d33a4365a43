"""The main job: a model and unlabelled inputs in, a smaller, repaired, verified and timed model out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from modhifi_graph.frontends.frontend import Optimized
from modhifi_graph.frontends.kinds import is_module, opened
from modhifi_graph.inputs.images import Preprocess
from modhifi_graph.jobs.pipeline import run
from modhifi_graph.models.opening import Source
from modhifi_graph.options.options import PERCENTILE, made
from modhifi_graph.plan import Plan
from modhifi_graph.progress import Progress
from modhifi_graph.select.budget import Budget
from modhifi_graph.select.goal import Goal

if TYPE_CHECKING:
    from modhifi_graph.frontends.torch import Module

__all__ = ["Optimized", "optimize"]

Calib = str | os.PathLike[str] | np.ndarray | Mapping[str, np.ndarray] | None


def optimize(
    model: Source | Module,
    inputs: Any = None,
    *,
    calib: Any = None,
    budget: Budget | Goal | None = None,
    macs: float | None = None,
    params: float | None = None,
    keep: float | None = None,
    speedup: float | None = None,
    latency: float | None = None,
    fidelity: float | None = None,
    backend: str = "onnxruntime",
    plan: Plan | None = None,
    mode: str = "default",
    percentile: float = PERCENTILE,
    rounds: int | None = None,
    hifi_sets: str = "layer",
    criterion: str | None = None,
    compensation: str | None = None,
    samples: int | None = None,
    seed: int = 0,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    align: int | None = None,
    min_keep: int = 1,
    fold_batchnorm: bool = True,
    reestimate_batchnorm: bool | None = None,
    preprocess: Preprocess | None = None,
    threads: int = 0,
    bench_seconds: float = 2.0,
    batch: int = 1,
    device: str | None = None,
    depth: bool | None = None,
    mirror: bool | None = None,
    prices: str = "output",
    details: bool = False,
    dynamic_shapes: Any = None,
    progress: Progress | None = None,
) -> Optimized:
    """Prune a model to a budget, repair it in closed form, verify it and time it. No labels, gradients or training.

    Parameters
    ----------
    model : path, "sample:NAME", onnx.ModelProto, onnx_ir.Model or onnx_graphsurgeon.Graph; nn.Module or ExportedProgram
        It is not modified. A path that ends in ``.pt2`` is an exported program.
    inputs : of a module its example inputs (a tensor, a tuple of arguments, a dict); of an ONNX model short for ``calib``.
    calib : path, array or dict of arrays; for modules also tensors, or a loader of them
        Unlabelled inputs; see :func:`modhifi_graph.inputs.calibration.load`. Where nothing is given they are synthesised
        (:func:`modhifi_graph.synthesise`), or are a module's example inputs where these are many or are all there can be.
    macs, params, keep : float in (0, 1]
        The budget: the fraction of multiply-accumulates, of parameters, or of the components of every group that stays.
    speedup, latency, fidelity : float
        A goal that is measured on ``backend``, with ``threads`` and ``batch``, in place of a budget: so many times as fast as
        the original, timed in turns; so many milliseconds; or the fastest engine whose outputs keep this fidelity in (0, 1]
        (:mod:`modhifi_graph.latency.search`). Only for ONNX models.
    backend : str, default "onnxruntime"
        The engine that latency is measured on; one of :data:`modhifi_graph.exporters.backend.NAMES`.
    budget : Budget or Goal
        The same as an object: ``Macs(0.5)``, ``Params(0.5)``, ``Keep(0.5)``; ``Speedup(1.5)``, ``Latency(20)``,
        ``Fidelity(0.99)``.
    plan : Plan
        Apply this plan instead. Exactly one of these is given; mode "paper" takes ``macs``, ``params`` or ``rounds``.
    mode : str, default "default"
        ``paper`` is ModHiFi-P (:mod:`modhifi_graph.jobs.rounds`): HiFi sets give up the lowest ``percentile`` of what they score,
        and what all have given up goes, in rounds until ``macs`` or ``params`` is met.
    percentile : float in (0, 1), default 0.1
        Only for mode "paper"; there from 0.01 to 0.2.
    rounds : int, default 1
        Only for mode "paper", in place of a budget: so many rounds, and the sparsity is what comes out.
    hifi_sets : str, default "layer"
        Only for mode "paper": whose HiFi sets are kept. ``layer``: of every layer, all but the lowest scores that hold a share
        ``percentile`` of their sum; ``channel``, the paper's text to the letter: of every output channel, all but a share
        ``percentile`` of its contributions (see :mod:`modhifi_graph.scoring.hifi`).
    criterion : str, default "obs", or "fidelity" in mode "paper"
        One of ``obs``, ``fidelity``, ``alpha``, ``rowsum``, ``energy``, ``magnitude``, ``random``.
    compensation : str, default "joint", or "scalar" in mode "paper"
        One of ``none``, ``bias``, ``scalar``, ``lstsq``, ``sequential``, ``joint``.
    samples : int, optional
        Calibrate on a random subset of this size, or on as many synthesised ones.
    seed : int, default 0
        The same seed gives the same bytes.
    only, skip : sequences of glob patterns on group and parameter names.
    align : int, optional
        Channel multiple; 8 in groups of 64 and more and 1 below by default, and 1 in mode "paper".
    min_keep : int, default 1
        Fewest components of a group that stay.
    fold_batchnorm : bool, default True
        Fold batch norms into the weights before them first.
    reestimate_batchnorm : bool, default False, or True in mode "paper"
        Take the statistics of the batch norms that are left from the calibration inputs, once all else is done.
    threads, bench_seconds, batch : how latency is measured; see :func:`modhifi_graph.latency.benchmark.bench`. 0 seconds: not at all.
    device : str, optional
        Where a module is observed and repaired; where its parameters are, by default.
    depth : bool, optional
        Let whole residual branches go as well, where that costs less than narrower layers. By default with ``speedup``,
        ``latency`` and ``fidelity``: a layer that is gone saves more time than multiply-accumulates. Not with ``keep``.
    mirror : bool, optional
        Calibrate on the mirror image of each picture as well; by default where small photographs are few. Not in mode "paper".
    prices : str, default "output"
        By what groups compete: ``output``, what their removal does to the network's outputs, or ``local``, to the streams that
        they join, which costs no further forward passes. Not in mode "paper".
    details : bool, default False
        Add to the report what its page shows besides (:mod:`modhifi_graph.page`): of every group what each component costs, and
        what every layer takes before and after, which is measured for it.
    dynamic_shapes : for a module, as :func:`torch.export.export` takes them; by default batches may have any size.
    progress : callable, optional
        Called as ``progress(stage, done, total)``.

    Raises
    ------
    InputError
        The model, the calibration inputs or the options cannot be used.
    VerificationError
        The slim graph does not compute what the dense one does with the removed components zeroed.
    """
    options = made(
        budget=budget,
        macs=macs,
        params=params,
        keep=keep,
        speedup=speedup,
        latency=latency,
        fidelity=fidelity,
        plan=plan,
        criterion=criterion,
        compensation=compensation,
        mode=mode,
        percentile=percentile,
        rounds=rounds,
        hifi_sets=hifi_sets,
        reestimate_batchnorm=reestimate_batchnorm,
        samples=samples,
        seed=seed,
        only=only,
        skip=skip,
        align=align,
        min_keep=min_keep,
        fold_batchnorm=fold_batchnorm,
        preprocess=preprocess,
        threads=threads,
        bench_seconds=bench_seconds,
        batch=batch,
        device=device,
        depth=depth,
        mirror=mirror,
        prices=prices,
        backend=backend,
        details=details,
    )
    if calib is None and not is_module(model):
        calib = inputs
    return run(lambda: opened(model, inputs, options, dynamic_shapes), calib, options, progress)
