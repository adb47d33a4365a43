"""The main job: a model and unlabelled inputs in, a smaller, repaired, verified and timed model out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from modhifi_graph.frontends.choice import is_module, opened
from modhifi_graph.frontends.frontend import Optimized
from modhifi_graph.inputs.image_folders import Preprocess
from modhifi_graph.jobs.pipeline import run
from modhifi_graph.models.opening import Source
from modhifi_graph.options.request import made
from modhifi_graph.options.table import OPTIONS
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
    details: bool = False,
    mode: str = "default",
    percentile: float = 0.1,
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
    preprocess: Preprocess | None = None,
    fold_batchnorm: bool = True,
    reestimate_batchnorm: bool | None = None,
    threads: int = 0,
    bench_seconds: float = 2.0,
    batch: int = 1,
    device: str | None = None,
    depth: bool | None = None,
    mirror: bool | None = None,
    prices: str = "output",
    dynamic_shapes: Any = None,
    progress: Progress | None = None,
) -> Optimized:
    """Prune a model to a budget, repair it in closed form, verify it and time it. No labels, gradients or training.

    Parameters
    ----------
    model : path, "sample:NAME", onnx.ModelProto, onnx_ir.Model or onnx_graphsurgeon.Graph; nn.Module or ExportedProgram
        It is not modified. A path that ends in ``.pt2`` is an exported program.
    inputs : tensor, tuple of arguments or dict, optional
        Of a module its example inputs; of an ONNX model short for ``calib``.
    calib : path, array or dict of arrays, for modules also tensors or a loader of them, optional
        Unlabelled inputs; see :func:`modhifi_graph.inputs.calibration.load`. Where nothing is given they are synthesised
        (:func:`modhifi_graph.synthesise`), or are a module's example inputs where these are many or are all there can be.
    budget : Budget or Goal, optional
        A budget or a goal as an object: ``Macs(0.5)``, ``Params(0.5)``, ``Keep(0.5)``; ``Speedup(1.5)``, ``Latency(20)``,
        ``Fidelity(0.99)``.
    macs : float in (0, 1], optional
        A budget: the fraction of multiply-accumulates that stays.
    params : float in (0, 1], optional
        A budget: the fraction of parameters that stays.
    keep : float in (0, 1], optional
        A budget: the fraction of the components of every group that stays.
    speedup : float >= 1, optional
        A goal in place of a budget, measured on ``backend`` with ``threads`` and ``batch``: so many times as fast as the
        original, timed in turns (:mod:`modhifi_graph.latency.search`). Only for ONNX models, as the next two.
    latency : float > 0, optional
        A goal: so many milliseconds a run.
    fidelity : float in (0, 1], optional
        A goal: the fastest engine whose outputs keep this fidelity.
    backend : str, default "onnxruntime"
        One of ``onnxruntime``, ``openvino``, ``tensorrt``, ``inductor``. The engine that latency is measured on.
    plan : Plan, optional
        Apply this plan, in place of a budget or a goal. Exactly one of all these is given; mode "paper" takes ``macs``,
        ``params`` or ``rounds``.
    details : bool, default False
        Add to the report what its page shows besides (:mod:`modhifi_graph.report.page`): of every group what each component
        costs, and what every layer takes before and after, which is measured for it.
    mode : str, default "default"
        One of ``default``, ``paper``. ``paper`` is ModHiFi-P (:mod:`modhifi_graph.jobs.rounds`): HiFi sets give up the lowest
        ``percentile`` of what they score, and what all have given up goes, in rounds until ``macs`` or ``params`` is met.
    percentile : float in (0, 1), default 0.1
        Only for mode "paper": the share that HiFi sets give up in a round; there from 0.01 to 0.2.
    rounds : int >= 1, optional
        Only for mode "paper", in place of a budget: so many rounds, and the sparsity is what comes out. One where no budget is
        given either.
    hifi_sets : str, default "layer"
        One of ``layer``, ``channel``. Only for mode "paper": whose HiFi sets are kept. ``layer``: of every layer, all but the
        lowest scores that hold a share ``percentile`` of their sum; ``channel``, the paper's text to the letter: of every
        output channel, all but a share ``percentile`` of its contributions (see :mod:`modhifi_graph.scoring.hifi`).
    criterion : str, default "obs", or "fidelity" in mode "paper"
        One of ``obs``, ``fidelity``, ``alpha``, ``rowsum``, ``energy``, ``magnitude``, ``random``. By what components are
        chosen; see :mod:`modhifi_graph.scoring.criteria`.
    compensation : str, default "joint", or "scalar" in mode "paper"
        One of ``none``, ``bias``, ``scalar``, ``lstsq``, ``sequential``, ``joint``. How the rest is repaired; see
        :mod:`modhifi_graph.repair.methods`.
    samples : int >= 1, optional
        Calibrate on a random subset of this size, or on so many synthesised inputs.
    seed : int, default 0
        The same seed gives the same bytes.
    only : sequence of str, optional
        Glob patterns: prune only groups or parameters that match.
    skip : sequence of str, optional
        Glob patterns: leave groups or parameters that match whole.
    align : int >= 1, optional
        Keep multiples of so many channels: by default 8 in groups of 64 and more and 1 below, and 1 in mode "paper".
    min_keep : int >= 1, default 1
        Components that every group keeps at least.
    preprocess : Preprocess, optional
        How the images of a folder become numbers; on the command line 'mean=0.5;std=0.5;size=224;layout=NCHW'.
    fold_batchnorm : bool, default True
        Fold batch norms into the weights before them first.
    reestimate_batchnorm : bool, default False, or True in mode "paper"
        Take the statistics of the batch norms that are left from the calibration inputs, once all else is done.
    threads : int >= 0, default 0
        Threads within an operator; 0 is the runtime's default.
    bench_seconds : float >= 0, default 2.0
        Time to spend on measuring latency (:func:`modhifi_graph.latency.benchmark.bench`); 0: it is not measured.
    batch : int >= 1, default 1
        Samples in each timed run.
    device : str, optional
        Where a module is observed and repaired; where its parameters are, by default.
    depth : bool, optional
        Let whole residual branches go as well, where that costs less than narrower layers. By default with ``speedup``,
        ``latency`` and ``fidelity``: a layer that is gone saves more time than multiply-accumulates. Not with ``keep``.
    mirror : bool, optional
        Calibrate on the mirror image of each picture as well; by default where small photographs are few. Not in mode "paper".
    prices : str, default "output"
        One of ``output``, ``local``. By what groups compete: ``output``, what their removal does to the network's outputs, or
        ``local``, to the streams that they join, which costs no further forward passes. Not in mode "paper".
    dynamic_shapes : dict or tuple, optional
        For a module, as :func:`torch.export.export` takes them; by default batches may have any size.
    progress : callable, optional
        Called as ``progress(stage, done, total)``.

    Raises
    ------
    InputError
        The model, the calibration inputs or the options cannot be used.
    VerificationError
        The slim graph does not compute what the dense one does with the removed components zeroed.
    """
    given = dict(locals())
    options = made(**{option.name: given[option.name] for option in OPTIONS})
    if calib is None and not is_module(model):
        calib = inputs
    return run(lambda: opened(model, inputs, options, dynamic_shapes), calib, options, progress)
