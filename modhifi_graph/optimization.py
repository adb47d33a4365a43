"""The main job: a model and unlabelled inputs in, a smaller, repaired, verified and timed model out.

Data flows one way: load, couple, observe, score, plan, slim, verify, compensate, time. Each stage is a function of the ones
before it; this module only calls them in order and keeps the books. What depends on the kind of model is its front end's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from modhifi_graph.accounting import Cost
from modhifi_graph.axes.branches import find_branches
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Groups, find_groups
from modhifi_graph.dialects.program import Feeds
from modhifi_graph.fidelity.analysis import Analysis, analyse, unobserved
from modhifi_graph.fidelity.batchnorm import reestimate
from modhifi_graph.fidelity.compensation import compensate
from modhifi_graph.fidelity.selection import Budget, Limits, plan_of, select_all
from modhifi_graph.frontends.frontend import Batches, FrontEnd, Optimized
from modhifi_graph.frontends.onnx import OnnxFrontEnd
from modhifi_graph.images import Preprocess
from modhifi_graph.latency.search import Search
from modhifi_graph.mirrors import with_mirrors
from modhifi_graph.models import Source
from modhifi_graph.options import DEFAULTS, PERCENTILE, Options, budget_of
from modhifi_graph.plan import Plan
from modhifi_graph.progress import Progress, silent
from modhifi_graph.report import output_fidelity, sizes, warnings
from modhifi_graph.rounds import Pruned, prune, replay

if TYPE_CHECKING:
    from modhifi_graph.frontends.torch import Module

__all__ = ["Optimized", "optimize"]

Calib = str | os.PathLike[str] | np.ndarray | Mapping[str, np.ndarray] | None


def optimize(
    model: Source | Module,
    inputs: Any = None,
    *,
    calib: Any = None,
    budget: Budget | None = None,
    macs: float | None = None,
    params: float | None = None,
    keep: float | None = None,
    speedup: float | None = None,
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
    depth: bool = False,
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
        Unlabelled inputs; see :func:`modhifi_graph.calibration.load`. Where nothing is given they are synthesised
        (:func:`modhifi_graph.synthesise`), or are a module's example inputs where these are many or are all there can be.
    macs, params, keep : float in (0, 1]
        The budget: the fraction of multiply-accumulates, of parameters, or of the components of every group that stays.
    speedup : float >= 1
        The budget as measured latency: so many times as fast as the original on ``backend``, with ``threads`` and ``batch``,
        timed in turns (:mod:`modhifi_graph.latency.search`). Only for ONNX models.
    backend : str, default "onnxruntime"
        The engine that latency is measured on; one of :data:`modhifi_graph.exporters.backend.NAMES`.
    budget : Budget
        The same as an object: ``Macs(0.5)``, ``Params(0.5)``, ``Keep(0.5)``, ``Speedup(1.5)``.
    plan : Plan
        Apply this plan instead. Exactly one of these is given; mode "paper" takes ``macs``, ``params`` or ``rounds``.
    mode : str, default "default"
        ``paper`` is ModHiFi-P (:mod:`modhifi_graph.rounds`): HiFi sets give up the lowest ``percentile`` of what they score,
        and what all have given up goes, in rounds until ``macs`` or ``params`` is met.
    percentile : float in (0, 1), default 0.1
        Only for mode "paper"; there from 0.01 to 0.2.
    rounds : int, default 1
        Only for mode "paper", in place of a budget: so many rounds, and the sparsity is what comes out.
    hifi_sets : str, default "layer"
        Only for mode "paper": whose HiFi sets are kept. ``layer``: of every layer, all but the lowest scores that hold a share
        ``percentile`` of their sum; ``channel``, the paper's text to the letter: of every output channel, all but a share
        ``percentile`` of its contributions (see :mod:`modhifi_graph.fidelity.hifi`).
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
    threads, bench_seconds, batch : how latency is measured; see :func:`modhifi_graph.timing.bench`. 0 seconds: not at all.
    device : str, optional
        Where a module is observed and repaired; where its parameters are, by default.
    depth : bool, default False
        Let whole residual branches go as well, where that costs less than narrower layers; with ``macs`` or ``params``.
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
    default_criterion, default_compensation = DEFAULTS.get(mode, ("", ""))
    options = Options(
        budget=budget_of(macs, params, keep, budget, speedup),
        plan=plan,
        criterion=criterion or default_criterion,
        compensation=compensation or default_compensation,
        mode=mode,
        percentile=percentile,
        rounds=rounds,
        hifi_sets=hifi_sets,
        reestimate_batchnorm=mode == "paper" if reestimate_batchnorm is None else reestimate_batchnorm,
        samples=samples,
        seed=seed,
        limits=Limits(tuple(only), tuple(skip), 1 if align is None and mode == "paper" else align, min_keep),
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


def opened(model: Any, inputs: Any, options: Options, dynamic_shapes: Any = None) -> FrontEnd:
    """The front end for a model; torch.export is imported only for a module."""
    if not is_module(model):
        return OnnxFrontEnd(model, options)
    from modhifi_graph.frontends.torch import TorchFrontEnd

    return TorchFrontEnd(model, inputs, options, dynamic_shapes=dynamic_shapes)


def is_module(model: Any) -> bool:
    """Whether it is an ``nn.Module``, an exported program or a file of one."""
    if isinstance(model, str | os.PathLike):
        return os.fspath(model).endswith(".pt2")
    return any(base.__module__.startswith("torch.") for base in type(model).__mro__)


def run(front_end: Callable[[], FrontEnd], calib: Any, options: Options, progress: Progress | None = None) -> Optimized:
    """The whole job on the model that ``front_end`` opens; gives what its front end hands back."""
    say: Progress = progress or silent
    clock = Clock()
    with clock("load"):
        front = front_end()
    with clock("inputs"):
        data = front.calibration(calib, options, say)
        if data is not None and options.mode == "default":
            data = with_mirrors(data, front.program.graph, options.mirror)
    batches = list(data.feeds) if data is not None else []
    with clock("couple"):
        groups = find_groups(couple(front.program.graph))
        cost = Cost(groups)
    with clock("score"):
        pruned = _pruned(front, groups, cost, data, options, say)
        analysis = pruned.analysis if pruned else _analysis(front, groups, data, options, say)
    with clock("plan"):
        searched = _search(front, groups, analysis, batches, options, say)
        found = pruned or searched
        plan = found.plan if found else options.plan
        if plan is None:
            plan = _plan(analysis, cost, data, options)
    with clock("slim"):
        slim = front.slimmed(plan)
    with clock("verify"):
        verified = front.verified(slim, plan, batches, options)
    with clock("compensate"):
        if pruned:
            replay(front, groups, slim, plan, pruned.repairs, batches, options)
        else:
            compensate(
                front.program,
                groups,
                slim,
                plan,
                options.compensation,
                batches=batches,
                moments=analysis.moments if analysis is not None else None,
                seed=options.seed,
                threads=options.threads,
                progress=lambda done, total: say("compensate", done, total),
            )
        if options.reestimate_batchnorm:
            reestimate(slim, batches, threads=options.threads)
    with clock("check"):
        finished = front.finish(slim)
        fidelity = output_fidelity(finished, batches, options.threads)
    with clock("time"):
        timed = finished.latency(batches, options) if options.bench_seconds > 0 else {}
    layers = None
    if options.details and options.bench_seconds > 0:
        with clock("layers"):
            layers = front.layers(slim, batches, options)
    report = {
        **sizes(groups, plan, cost, analysis, details=options.details),
        "bytes": dict(zip(("before", "after"), finished.sizes, strict=True)),
        **({"rounds": pruned.rounds} if pruned else {}),
        **({"search": searched.to_json()} if searched else {}),
        **timed,
        **({"layers": layers} if layers is not None else {}),
        "fidelity": fidelity,
        "calibration": data.to_json() if data is not None else None,
        "warnings": [
            *([data.warning] if data is not None and data.warning else []),
            *warnings(groups, plan, options.budget, cost, analysis),
            *(_out_of_reach(searched, options) if searched and not searched.met else []),
        ],
        "verify": verified.to_json(),
        "seconds": clock.seconds,
        "plan": plan.to_json(),
    }
    accuracy = finished.accuracy(options.threads)
    return finished.hand_back(plan, report if accuracy is None else {**report, "accuracy": accuracy})


def _pruned(
    front: FrontEnd, groups: Groups, cost: Cost, data: Batches | None, options: Options, progress: Progress
) -> Pruned | None:
    """What the rounds of mode "paper" come to; None in any other."""
    return prune(front, groups, cost, data, options, progress) if options.mode == "paper" and data else None


def _analysis(
    front: FrontEnd, groups: Groups, data: Batches | None, options: Options, progress: Progress
) -> Analysis | None:
    if not options.needs_analysis:
        return None
    if data is None:
        return unobserved(groups, options.criterion, options.limits.allows, options.seed)
    return analyse(
        front.program,
        groups,
        data.feeds,
        criterion=options.criterion,
        wanted=options.limits.allows,
        branches=[b for b in find_branches(groups).found if options.limits.allows_branch(b)] if options.depth else [],
        prices=options.prices,
        seed=options.seed,
        threads=options.threads,
        progress=progress,
    )


def _search(
    front: FrontEnd,
    groups: Groups,
    analysis: Analysis | None,
    batches: Sequence[Feeds],
    options: Options,
    progress: Progress,
) -> Search | None:
    """What meets a budget of measured latency; None for any other budget."""
    if options.budget is None or options.budget.kind != "latency" or options.plan is not None:
        return None
    assert analysis is not None
    return front.search(groups, analysis, batches, options, progress)


def _out_of_reach(searched: Search, options: Options) -> list[str]:
    assert options.budget is not None
    best = max(attempt.speedup for attempt in searched.attempts)
    return [
        f"the speed-up {1 / options.budget.fraction:g} was out of reach on {options.backend}; {best:.3f} is the best found"
    ]


def _plan(analysis: Analysis | None, cost: Cost, data: Batches | None, options: Options) -> Plan:
    assert analysis is not None
    assert options.budget is not None
    removed, branches = select_all(analysis.rankings, analysis.branches, cost, options.budget, options.limits)
    return plan_of(analysis.rankings, removed, options.settings(data.samples if data is not None else 0), branches)


class Clock:
    """Seconds spent in each stage, in the order in which they ran."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)
