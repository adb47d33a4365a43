"""The main job: a model and unlabelled inputs in, a smaller, repaired, verified and timed model out.

Data flows one way: load, couple, observe, score, plan, slim, verify, compensate, time. Each stage is a function of the ones
before it; this module only calls them in order and keeps the books.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from modhifi_graph import calibration, samples
from modhifi_graph.accounting import Cost
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Groups, find_groups
from modhifi_graph.calibration import Calibration
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.dialects.onnx_stepper import Feeds
from modhifi_graph.errors import InputError
from modhifi_graph.exporters import onnxruntime as backend
from modhifi_graph.fidelity.analysis import Analysis, analyse, unobserved
from modhifi_graph.fidelity.scores import CRITERIA
from modhifi_graph.fidelity.selection import Budget, Limits, plan_of, select
from modhifi_graph.fidelity.sensitivity import relative_error
from modhifi_graph.images import Preprocess
from modhifi_graph.interface import specs_of
from modhifi_graph.models import SAMPLE, Opened, Source, normalise, open_model, to_proto
from modhifi_graph.passes.compensate import METHODS, Compensate
from modhifi_graph.passes.slim import Slim
from modhifi_graph.plan import Plan
from modhifi_graph.timing import bench
from modhifi_graph.verification import check_interface, check_validity, random_feeds, verify

Progress = Callable[[str, int, int], None]
Calib = str | os.PathLike[str] | np.ndarray | Mapping[str, np.ndarray] | None

BATCH_BYTES = 1 << 28
LARGEST_BATCH = 100
"""Calibration runs in batches of at most this many samples, fewer where a batch's activations would exceed BATCH_BYTES."""

FIDELITY_SAMPLES = 256
"""The report's fidelity is measured on this many calibration samples."""


@dataclass(frozen=True)
class Optimized:
    """What :func:`optimize` made.

    Attributes
    ----------
    model : the slim model, of the kind that was given (for a path an ``onnx.ModelProto``).
    plan : which components stay.
    report : figures before and after, by the names that ``--json`` prints.
    """

    model: Any
    plan: Plan
    report: dict[str, Any]
    _proto: onnx.ModelProto = field(repr=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the slim model to a file that appears whole or not at all."""
        backend.save(self._proto, path)


def optimize(
    model: Source,
    calib: Calib = None,
    *,
    macs: float | None = None,
    params: float | None = None,
    keep: float | None = None,
    plan: Plan | None = None,
    criterion: str = "obs",
    compensation: str = "sequential",
    samples: int | None = None,
    seed: int = 0,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    align: int | None = None,
    min_keep: int = 1,
    fold_batchnorm: bool = True,
    preprocess: Preprocess | None = None,
    threads: int = 0,
    bench_seconds: float = 2.0,
    batch: int = 1,
    progress: Progress | None = None,
) -> Optimized:
    """Prune a model to a budget, repair it in closed form, verify it and time it. No labels, gradients or training.

    Parameters
    ----------
    model : path, "sample:NAME", onnx.ModelProto, onnx_ir.Model or onnx_graphsurgeon.Graph
        It is not modified.
    calib : path, array or dict of arrays
        Unlabelled inputs; see :func:`modhifi_graph.calibration.load`.
    macs, params, keep : float in (0, 1]
        The budget: the fraction of multiply-accumulates, of parameters, or of the components of every group that stays.
    plan : Plan
        Apply this plan instead. Exactly one of these four is given.
    criterion : str, default "obs"
        One of ``obs``, ``fidelity``, ``alpha``, ``rowsum``, ``energy``, ``magnitude``, ``random``.
    compensation : str, default "sequential"
        One of ``none``, ``bias``, ``scalar``, ``lstsq``, ``sequential``.
    samples : int, optional
        Calibrate on a random subset of this size.
    seed : int, default 0
        The same seed gives the same bytes.
    only, skip : sequences of glob patterns on group and parameter names.
    align : int, optional
        Channel multiple; 8 in groups of 64 and more and 1 below by default.
    min_keep : int, default 1
        Fewest components of a group that stay.
    fold_batchnorm : bool, default True
        Fold batch norms into the weights before them first.
    threads, bench_seconds, batch : how latency is measured; see :func:`modhifi_graph.timing.bench`. 0 seconds: not at all.
    progress : callable, optional
        Called as ``progress(stage, done, total)``.

    Raises
    ------
    InputError
        The model, the calibration inputs or the options cannot be used.
    VerificationError
        The slim graph does not compute what the dense one does with the removed components zeroed.
    """
    report: Progress = progress or (lambda stage, done, total: None)
    clock = _Clock()
    limits = Limits(tuple(only), tuple(skip), align, min_keep)
    budget = _budget(macs, params, keep, plan)
    _check_methods(criterion, compensation)
    with clock("load"):
        opened = open_model(model)
        original = to_proto(opened.model)
        dense = normalise(opened.model.clone(), opened.label, fold_batchnorm=fold_batchnorm)
        data = _calibration(calib, dense, opened, samples, seed, preprocess, criterion, compensation, plan)
    with clock("couple"):
        groups = find_groups(couple(lift(dense).graph))
        cost = Cost(groups)
    batches = list(data.batches(_batch_size(groups))) if data is not None else []
    analysis = None
    if plan is None or compensation in ("bias", "scalar", "lstsq"):
        with clock("score"):
            analysis = _analyse(dense, groups, batches, criterion, limits, seed, threads, report)
    if plan is None:
        assert analysis is not None
        assert budget is not None
        settings = {
            budget.kind: budget.fraction,
            "criterion": criterion,
            "compensation": compensation,
            "seed": seed,
            "samples": data.samples if data is not None else 0,
            "fold_batchnorm": fold_batchnorm,
        }
        with clock("plan"):
            plan = plan_of(analysis.rankings, select(analysis.rankings, cost, budget, limits), settings)
    with clock("slim"):
        slim = dense.clone()
        Slim(plan)(slim)
    with clock("verify"):
        feeds = [random_feeds(dense, seed, threads=threads), *_first(batches)]
        verified = verify(dense, slim, plan, feeds, threads=threads)
    with clock("compensate"):
        Compensate(
            dense,
            groups,
            plan,
            compensation if plan.groups else "none",
            batches=batches,
            moments=analysis.moments if analysis is not None else None,
            seed=seed,
            threads=threads,
            progress=lambda done, total: report("compensate", done, total),
        )(slim)
    with clock("check"):
        finished = opened.give_back(slim)
        proto = finished if isinstance(finished, onnx.ModelProto) else to_proto(_restored(opened, slim))
        after = open_model(proto).model
        check_interface(opened.model, after)
        check_validity(opened.model, after)
        fidelity = _fidelity(original, proto, batches, threads)
    with clock("time"):
        timed = _timing(original, proto, batches, threads, bench_seconds, batch, seed)
    counts = {factor: len(kept) for factor, kept in plan.resolve(groups).items()}
    summary = {
        "macs": {"before": cost.macs(), "after": cost.macs(counts)},
        "params": {"before": cost.params(), "after": cost.params(counts)},
        "bytes": {"before": original.ByteSize(), "after": proto.ByteSize()},
        "components": {
            "before": sum(group.size for group in groups.groups),
            "after": sum(counts.get(group.factor, group.size) for group in groups.groups),
        },
        **timed,
        "groups": _group_rows(groups, plan, analysis),
        "pinned": [
            {"name": p.name, "size": p.size, "reasons": [str(reason) for reason in p.reasons]} for p in groups.pinned
        ],
        "fidelity": fidelity,
        "warnings": _warnings(groups, plan, budget, cost, counts, analysis),
        "verify": verified.to_json(),
        "seconds": clock.seconds,
        "plan": plan.to_json(),
    }
    if isinstance(model, str) and model.startswith(SAMPLE):
        summary["accuracy"] = _accuracy(model, original, proto, threads)
    return Optimized(finished, plan, summary, proto)


class _Clock:
    """Seconds spent in each stage, in the order in which they ran."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)


def _budget(macs: float | None, params: float | None, keep: float | None, plan: Plan | None) -> Budget | None:
    given = {k: v for k, v in {"macs": macs, "params": params, "keep": keep}.items() if v is not None}
    if len(given) + (plan is not None) != 1:
        raise InputError("give exactly one of macs, params, keep and plan")
    for kind, fraction in given.items():
        if not 0 < fraction <= 1:
            raise InputError(f"{kind} is {fraction:g}; expected a fraction above 0 and at most 1")
        return Budget(kind, fraction)
    return None


def _check_methods(criterion: str, compensation: str) -> None:
    if criterion not in CRITERIA:
        raise InputError(f"criterion {criterion!r} is unknown; choose one of {', '.join(CRITERIA)}")
    if compensation not in METHODS:
        raise InputError(f"compensation {compensation!r} is unknown; choose one of {', '.join(METHODS)}")


def _calibration(
    calib: Calib,
    dense: ir.Model,
    opened: Opened,
    wanted: int | None,
    seed: int,
    preprocess: Preprocess | None,
    criterion: str,
    compensation: str,
    plan: Plan | None,
) -> Calibration | None:
    if calib is None and opened.label.startswith(SAMPLE):
        calib = samples.load(opened.label).calib
    if calib is None:
        if compensation == "none" and (plan is not None or criterion in ("magnitude", "random")):
            return None
        raise InputError(
            f"{opened.label}: needs calibration inputs: give --calib (an .npz with arrays named by input, an .npy, or a "
            "folder of images); only --criterion magnitude or random with --compensation none does without"
        )
    return calibration.load(calib, specs_of(ir.to_proto(dense)), samples=wanted, seed=seed, preprocess=preprocess)


def _batch_size(groups: Groups) -> int:
    """As many samples as keep one batch's activations within BATCH_BYTES, counting known lengths only."""
    elements = 0
    for op in groups.coupling.graph.ops:
        for value in op.outputs:
            dims = [dim for dim in (value.shape or ())[1:] if isinstance(dim, int)]
            elements += int(np.prod(dims, dtype=np.int64)) if dims else 1
    return int(min(LARGEST_BATCH, max(1, BATCH_BYTES // (4 * max(1, elements)))))


def _analyse(
    dense: ir.Model,
    groups: Groups,
    batches: Sequence[Feeds],
    criterion: str,
    limits: Limits,
    seed: int,
    threads: int,
    progress: Progress,
) -> Analysis:
    if not batches:
        return unobserved(groups, criterion, limits.allows, seed)
    return analyse(
        dense,
        groups,
        batches,
        criterion=criterion,
        wanted=limits.allows,
        seed=seed,
        threads=threads,
        progress=progress,
    )


def _first(batches: Sequence[Feeds]) -> list[Feeds]:
    return [dict(batches[0])] if batches else []


def _restored(opened: Opened, slim: ir.Model) -> ir.Model:
    """The slim model with the interface declared as it was, whatever kind it is given back as."""
    result = slim.clone()
    for mine, theirs in zip(
        (*result.graph.inputs, *result.graph.outputs),
        (*opened.model.graph.inputs, *opened.model.graph.outputs),
        strict=True,
    ):
        mine.shape = None if theirs.shape is None else theirs.shape.copy()
    return result


def _fidelity(dense: onnx.ModelProto, slim: onnx.ModelProto, batches: Sequence[Feeds], threads: int) -> float | None:
    """1 - (squared error of the outputs over their variance), on the first calibration samples; at most 1."""
    if not batches:
        return None
    before, after = (backend.Engine.compile(m, threads=threads) for m in (dense, slim))
    size = max((len(array) for array in batches[0].values() if array.ndim), default=1)
    few = batches[: max(1, FIDELITY_SAMPLES // size)]
    results = [(before.run(feeds), after.run(feeds)) for feeds in few]
    floats = [name for name, a in results[0][0].items() if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    if not floats:
        return None
    error = relative_error(
        [{name: a[name] for name in floats} for a, _ in results],
        [{name: b[name] for name in floats} for _, b in results],
    )
    if not np.isfinite(error):
        raise InputError(
            "the repaired model gives values that are not finite on the calibration inputs; nothing written"
        )
    return 1 - error


def _timing(
    dense: onnx.ModelProto,
    slim: onnx.ModelProto,
    batches: Sequence[Feeds],
    threads: int,
    seconds: float,
    batch: int,
    seed: int,
) -> dict[str, Any]:
    if seconds <= 0:
        return {}
    inputs = None
    if batches and any(array.ndim for array in batches[0].values()):
        size = max(len(array) for array in batches[0].values() if array.ndim)
        single = all(array.ndim and len(array) == size for array in batches[0].values())
        inputs = {name: array[:batch] for name, array in batches[0].items()} if single and size >= batch else None
    found = bench(dense, slim, inputs=inputs, seed=seed, threads=threads, batch=batch, seconds=seconds).to_json()
    return {
        "latency_ms": {"before": found["a"], "after": found["b"]},
        "speedup": found["speedup"],
        "interval": found["interval"],
        "timing": {"batch": batch, "threads": found["threads"], "provider": found["provider"]},
    }


def _group_rows(groups: Groups, plan: Plan, analysis: Analysis | None) -> list[dict[str, Any]]:
    left = {entry.name: len(entry.keep) for entry in plan.groups}
    unscored = analysis.unscored if analysis is not None else {}
    return [
        {
            "name": group.name,
            "kind": group.kind,
            "before": group.size,
            "after": left.get(group.name, group.size),
            **({"not_scored": unscored[group.name]} if group.name in unscored else {}),
        }
        for group in groups.groups
    ]


def _warnings(
    groups: Groups,
    plan: Plan,
    budget: Budget | None,
    cost: Cost,
    counts: Mapping[Any, int],
    analysis: Analysis | None,
) -> list[str]:
    found = list(analysis.warnings) if analysis is not None else []
    if not groups.groups:
        found.append(
            "nothing can be pruned here: no factor is produced by a weight, consumed by a contraction and free"
        )
    elif not plan.groups and (budget is None or budget.fraction < 1):
        found.append("nothing was removed: every group was left out or is already as small as it may be")
    if budget is not None and budget.kind in ("macs", "params"):
        measure = cost.macs if budget.kind == "macs" else cost.params
        reached = measure(counts) / max(1, measure())
        if reached > budget.fraction:
            found.append(
                f"the budget {budget.kind} {budget.fraction:g} was out of reach; {reached:.4f} is what is left"
            )
    return found


def _accuracy(name: str, dense: onnx.ModelProto, slim: onnx.ModelProto, threads: int) -> dict[str, float]:
    sample = samples.load(name)

    def score(proto: onnx.ModelProto) -> float:
        engine = backend.Engine.compile(proto, threads=threads)
        return samples.accuracy(lambda x: engine.run({engine.inputs[0].name: x})[engine.outputs[0]], sample)

    return {"before": score(dense), "after": score(slim)}
