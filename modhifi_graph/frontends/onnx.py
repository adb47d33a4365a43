"""ONNX in, ONNX out: files, protos, ``onnx_ir`` models and graphsurgeon graphs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch

from modhifi_graph import samples
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Groups, find_groups
from modhifi_graph.dialects.onnx import Lifted, lift
from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.dialects.program import Program
from modhifi_graph.exporters import onnxruntime as backend
from modhifi_graph.exporters.backend import onnx_backend
from modhifi_graph.exporters.devices import device_of
from modhifi_graph.frontends.frontend import Finished, FrontEnd, Optimized
from modhifi_graph.inputs import calibration
from modhifi_graph.inputs.batches import Batches, batch_bytes, exactly, samples_in
from modhifi_graph.inputs.synthesis.subject import Subject
from modhifi_graph.interface import Feeds, inputs_that_run, specs_of
from modhifi_graph.latency.benchmark import bench
from modhifi_graph.latency.layers import ROUNDS, layer_times
from modhifi_graph.latency.search import Race
from modhifi_graph.latency.timer import Timer
from modhifi_graph.models.opening import SAMPLE, Opened, Source, open_model
from modhifi_graph.options.request import Options
from modhifi_graph.passes.normal_form import normalise
from modhifi_graph.passes.slim import Slim
from modhifi_graph.plan import Plan
from modhifi_graph.progress import Progress
from modhifi_graph.prove.verification import Verification, check_interface, check_validity, random_feeds, verify
from modhifi_graph.scoring.analysis import Analysis


@dataclass(frozen=True)
class OptimizedOnnx(Optimized):
    """A slim ONNX model, given back as it was handed in."""

    _proto: onnx.ModelProto = field(repr=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an ONNX file that appears whole or not at all."""
        backend.save(self._proto, path)


class OnnxFrontEnd(FrontEnd):
    """An ONNX model, opened and normalised; what was handed in is not modified."""

    program: Lifted

    def __init__(self, source: Source, options: Options) -> None:
        onnx_backend(options.backend)  # before anything is observed, not when it is to be timed at the end
        self._device = device_of(options.device) or torch.device("cpu")
        self.opened = open_model(source)
        self.label = self.opened.label
        dense = normalise(self.opened.model.clone(), self.label, fold_batchnorm=options.fold_batchnorm)
        self.program = lift(dense, self._device)

    @property
    def own(self) -> Any:
        """A sample brings its calibration images."""
        return samples.load(self.label).calib if self.label.startswith(SAMPLE) else None

    def batches(self, calib: Any, options: Options) -> Batches:
        specs = specs_of(ir.to_proto(self.program.model))
        data = calibration.load(calib, specs, samples=options.samples, seed=options.seed, preprocess=options.preprocess)
        return Batches(self.fed(data), data.samples)

    def fed(self, data: calibration.Calibration) -> list[Feeds]:
        return list(data.batches(calibration.batch_size(self.program.graph, batch_bytes(self._device))))

    def subject(self, threads: int) -> Subject:
        whole = normalise(self.opened.model.clone(), self.label, fold_batchnorm=False)
        return Subject(lift(whole, self._device), self.label, threads, self._device)

    def slimmed(self, plan: Plan) -> Lifted:
        slim = self.program.model.clone()
        Slim(plan)(slim)
        return lift(slim, self._device)

    def verified(
        self, slim: Program, plan: Plan, batches: Sequence[Feeds], options: Options, dense: Program | None = None
    ) -> Verification:
        dense = dense or self.program
        assert isinstance(slim, Lifted)
        assert isinstance(dense, Lifted)
        if dense is not self.program:  # weights that were shared no longer are, and groups are named after weights
            plan = plan.renamed(*(find_groups(couple(graph)) for graph in (dense.graph, lift(dense.model).graph)))
        feeds = [random_feeds(self.program.model, options.seed, threads=options.threads)]
        feeds += [dict(batches[0])] if batches else []
        return verify(dense.model, slim.model, plan, feeds, threads=options.threads)

    def race(
        self, groups: Groups, analysis: Analysis, batches: Sequence[Feeds], options: Options, progress: Progress
    ) -> Race:
        return Race(
            self.program,
            to_proto(self.opened.model),
            self.slimmed,
            groups,
            analysis,
            exactly(batches, options.batch) or self._random(options),
            options.limits,
            options.settings(sum(map(samples_in, batches))),
            name=options.backend,
            threads=options.threads,
            seed=options.seed,
            progress=progress,
        )

    def layers(self, slim: Program, batches: Sequence[Feeds], options: Options) -> dict[str, Any]:
        assert isinstance(slim, Lifted)
        feeds = exactly(batches, options.batch) or self._random(options)
        timers = [Timer(options.backend, threads=options.threads, fresh=True) for _ in range(ROUNDS)]
        return layer_times(self.program, slim, feeds, timers)

    def _random(self, options: Options) -> Feeds:
        """Inputs to time with, where there are none to calibrate on."""
        engine = backend.Engine.compile(to_proto(self.opened.model), threads=options.threads)
        return dict(inputs_that_run(engine.run, engine.inputs, options.seed, options.batch))

    def finish(self, slim: Program) -> FinishedOnnx:
        assert isinstance(slim, Lifted)
        return FinishedOnnx(self.opened, slim.model)


class FinishedOnnx(Finished):
    """The finished model, declared as the original, and both as protos."""

    def __init__(self, opened: Opened, slim: ir.Model) -> None:
        self._opened = opened
        self._model = opened.restored(slim)
        self._before, self._after = to_proto(opened.model), to_proto(self._model)
        written = open_model(self._after).model
        check_interface(opened.model, written)
        check_validity(opened.model, written)
        self.sizes = self._before.ByteSize(), self._after.ByteSize()

    def answers(self, batches: Sequence[Feeds], threads: int) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        before, after = (backend.Engine.compile(m, threads=threads) for m in (self._before, self._after))
        return [(_floats(before.run(feeds)), _floats(after.run(feeds))) for feeds in batches]

    def latency(self, batches: Sequence[Feeds], options: Options) -> dict[str, Any]:
        found = bench(
            self._before,
            self._after,
            inputs=exactly(batches, options.batch),
            seed=options.seed,
            backend=options.backend,
            threads=options.threads,
            batch=options.batch,
            seconds=options.bench_seconds,
        ).to_json()
        return {
            "latency_ms": {"before": found["a"], "after": found["b"]},
            "speedup": found["speedup"],
            "interval": found["interval"],
            "timing": {key: found[key] for key in ("batch", "engine", "machine")},
        }

    def accuracy(self, threads: int) -> dict[str, float] | None:
        name = self._opened.label
        if not name.startswith(SAMPLE):
            return None
        pair = {"before": self._before, "after": self._after}
        return {when: sample_accuracy(name, proto, threads) for when, proto in pair.items()}

    def hand_back(self, plan: Plan, report: dict[str, Any]) -> OptimizedOnnx:
        plain = self._opened.kind in ("path", "proto")
        return OptimizedOnnx(self._after if plain else self._opened.back(self._model), plan, report, self._after)


def sample_accuracy(name: str, model: onnx.ModelProto, threads: int = 0) -> float:
    """Top-1 accuracy of a model on the test images of a sample, in percent."""
    engine = backend.Engine.compile(model, threads=threads)
    return samples.accuracy(lambda x: engine.run({engine.inputs[0].name: x})[engine.outputs[0]], samples.load(name))


def _floats(outputs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: a for name, a in outputs.items() if isinstance(a, np.ndarray) and a.dtype.kind == "f"}
