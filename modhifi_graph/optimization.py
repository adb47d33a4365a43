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
from modhifi_graph.images import Preprocess
from modhifi_graph.interface import specs_of
from modhifi_graph.models import SAMPLE, Opened, Source, normalise, open_model, to_proto
from modhifi_graph.passes.compensate import METHODS, Compensate
from modhifi_graph.passes.slim import Slim
from modhifi_graph.plan import Plan
from modhifi_graph.report import latency, output_fidelity, sample_accuracy, sizes, warnings
from modhifi_graph.verification import Verification, check_interface, check_validity, random_feeds, verify

Progress = Callable[[str, int, int], None]
Calib = str | os.PathLike[str] | np.ndarray | Mapping[str, np.ndarray] | None


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
    options = Options(
        budget=_budget(macs, params, keep, plan),
        plan=plan,
        criterion=criterion,
        compensation=compensation,
        samples=samples,
        seed=seed,
        limits=Limits(tuple(only), tuple(skip), align, min_keep),
        fold_batchnorm=fold_batchnorm,
        preprocess=preprocess,
        threads=threads,
        bench_seconds=bench_seconds,
        batch=batch,
    )
    return _Job(options, progress or (lambda stage, done, total: None)).run(model, calib)


@dataclass(frozen=True)
class Options:
    """What :func:`optimize` was asked for, by the names of its parameters; checked when made."""

    budget: Budget | None
    plan: Plan | None
    criterion: str
    compensation: str
    samples: int | None
    seed: int
    limits: Limits
    fold_batchnorm: bool
    preprocess: Preprocess | None
    threads: int
    bench_seconds: float
    batch: int

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            raise InputError(f"criterion {self.criterion!r} is unknown; choose one of {', '.join(CRITERIA)}")
        if self.compensation not in METHODS:
            raise InputError(f"compensation {self.compensation!r} is unknown; choose one of {', '.join(METHODS)}")

    @property
    def needs_data(self) -> bool:
        return self.compensation != "none" or (self.plan is None and self.criterion not in ("magnitude", "random"))

    @property
    def needs_analysis(self) -> bool:
        return self.plan is None or self.compensation in ("bias", "scalar", "lstsq")

    def settings(self, samples: int) -> dict[str, Any]:
        """What a plan says about how it was made."""
        assert self.budget is not None
        return {
            self.budget.kind: self.budget.fraction,
            "criterion": self.criterion,
            "compensation": self.compensation,
            "seed": self.seed,
            "samples": samples,
            "fold_batchnorm": self.fold_batchnorm,
        }


class _Job:
    """One run: every method is a stage, and :meth:`run` is their order."""

    def __init__(self, options: Options, progress: Progress) -> None:
        self._options = options
        self._progress = progress

    def run(self, source: Source, calib: Calib) -> Optimized:
        options, clock = self._options, _Clock()
        with clock("load"):
            opened = open_model(source)
            original = to_proto(opened.model)
            dense = normalise(opened.model.clone(), opened.label, fold_batchnorm=options.fold_batchnorm)
            data = self._calibration(calib, dense, opened)
        with clock("couple"):
            groups = find_groups(couple(lift(dense).graph))
            cost = Cost(groups)
        batches = list(data.batches(calibration.batch_size(groups.coupling.graph))) if data is not None else []
        with clock("score"):
            analysis = self._analysis(dense, groups, batches)
        with clock("plan"):
            plan = self._plan(analysis, cost, data)
        with clock("slim"):
            slim = dense.clone()
            Slim(plan)(slim)
        with clock("verify"):
            verified = self._verified(dense, slim, plan, batches)
        with clock("compensate"):
            self._compensate(dense, groups, plan, batches, analysis, slim)
        with clock("check"):
            finished = opened.restored(slim)
            proto = to_proto(finished)
            written = open_model(proto).model
            check_interface(opened.model, written)
            check_validity(opened.model, written)
            fidelity = output_fidelity(original, proto, batches, options.threads)
        with clock("time"):
            timed = latency(
                original,
                proto,
                batches,
                seconds=options.bench_seconds,
                batch=options.batch,
                threads=options.threads,
                seed=options.seed,
            )
        counts = {factor: len(kept) for factor, kept in plan.resolve(groups).items()}
        report = {
            **sizes(groups, plan, cost, counts, analysis),
            "bytes": {"before": original.ByteSize(), "after": proto.ByteSize()},
            **timed,
            "fidelity": fidelity,
            "warnings": warnings(groups, plan, options.budget, cost, counts, analysis),
            "verify": verified.to_json(),
            "seconds": clock.seconds,
            "plan": plan.to_json(),
        }
        if isinstance(source, str) and source.startswith(SAMPLE):
            report["accuracy"] = {
                "before": sample_accuracy(source, original, options.threads),
                "after": sample_accuracy(source, proto, options.threads),
            }
        returned = proto if opened.kind in ("path", "proto") else opened.back(finished)
        return Optimized(returned, plan, report, proto)

    def _calibration(self, calib: Calib, dense: ir.Model, opened: Opened) -> Calibration | None:
        options = self._options
        if calib is None and opened.label.startswith(SAMPLE):
            calib = samples.load(opened.label).calib
        if calib is not None:
            specs = specs_of(ir.to_proto(dense))
            return calibration.load(
                calib, specs, samples=options.samples, seed=options.seed, preprocess=options.preprocess
            )
        if not options.needs_data:
            return None
        raise InputError(
            f"{opened.label}: needs calibration inputs: give --calib (an .npz with arrays named by input, an .npy, or a "
            "folder of images); only --criterion magnitude or random with --compensation none does without"
        )

    def _analysis(self, dense: ir.Model, groups: Groups, batches: Sequence[Feeds]) -> Analysis | None:
        options = self._options
        if not options.needs_analysis:
            return None
        if not batches:
            return unobserved(groups, options.criterion, options.limits.allows, options.seed)
        return analyse(
            dense,
            groups,
            batches,
            criterion=options.criterion,
            wanted=options.limits.allows,
            seed=options.seed,
            threads=options.threads,
            progress=self._progress,
        )

    def _plan(self, analysis: Analysis | None, cost: Cost, data: Calibration | None) -> Plan:
        options = self._options
        if options.plan is not None:
            return options.plan
        assert analysis is not None
        assert options.budget is not None
        removed = select(analysis.rankings, cost, options.budget, options.limits)
        return plan_of(analysis.rankings, removed, options.settings(data.samples if data is not None else 0))

    def _verified(self, dense: ir.Model, slim: ir.Model, plan: Plan, batches: Sequence[Feeds]) -> Verification:
        feeds = [random_feeds(dense, self._options.seed, threads=self._options.threads)]
        if batches:
            feeds.append(dict(batches[0]))
        return verify(dense, slim, plan, feeds, threads=self._options.threads)

    def _compensate(
        self,
        dense: ir.Model,
        groups: Groups,
        plan: Plan,
        batches: Sequence[Feeds],
        analysis: Analysis | None,
        slim: ir.Model,
    ) -> None:
        Compensate(
            dense,
            groups,
            plan,
            self._options.compensation if plan.groups else "none",
            batches=batches,
            moments=analysis.moments if analysis is not None else None,
            seed=self._options.seed,
            threads=self._options.threads,
            progress=lambda done, total: self._progress("compensate", done, total),
        )(slim)


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
