"""Module in, module out: an ``nn.Module`` or an exported program through ``torch.export``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.export import ExportedProgram

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects.aten import Lifted, lift
from modhifi_graph.dialects.aten_module import copied, functional, placeholders
from modhifi_graph.dialects.program import Program
from modhifi_graph.errors import InputError
from modhifi_graph.exporters.devices import device_of, home_of
from modhifi_graph.exporters.exported_program import load
from modhifi_graph.files import atomic_write
from modhifi_graph.frontends.frontend import Finished, FrontEnd, Optimized
from modhifi_graph.inputs.batches import Batches, batch_bytes, cut, samples_in, subset
from modhifi_graph.inputs.calibration import Calibration, batch_size
from modhifi_graph.inputs.calibration import load as load_calibration
from modhifi_graph.inputs.synthesis.subject import Subject
from modhifi_graph.interface import Feeds, InputSpec
from modhifi_graph.latency import machine
from modhifi_graph.latency.turns import compare
from modhifi_graph.models.calls import Example, calls_of
from modhifi_graph.models.exporting import export, exported, open_axes, open_shapes
from modhifi_graph.options.request import Options
from modhifi_graph.passes.fx.fold_batchnorm import FoldBatchNorm
from modhifi_graph.passes.fx.slim import Slim
from modhifi_graph.plan import Plan
from modhifi_graph.prove.modules import answer, randomised, verify_modules
from modhifi_graph.prove.verification import Verification

Module = torch.nn.Module | ExportedProgram | str | os.PathLike[str]


@dataclass(frozen=True)
class OptimizedModule(Optimized):
    """A slim module: it runs, trains, exports and compiles, and its parameters have their original names."""

    _example: Example = field(repr=False)
    _shapes: Any = field(repr=False, default=None)

    @property
    def module(self) -> fx.GraphModule:
        """The slim module itself."""
        assert isinstance(self.model, fx.GraphModule)
        return self.model

    @property
    def exported_program(self) -> ExportedProgram:
        """The module exported again, where it is now, with the dynamic shapes that it came with."""
        example = self._example.widened(open_axes(self.module)).to(home_of(self.module))
        return export(self.module, example, self._shapes)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the exported program (``.pt2``) to a file that appears whole or not at all."""
        with atomic_write(path) as part:
            torch.export.save(self.exported_program, part)

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the module as ONNX, by PyTorch's exporter."""
        program = torch.onnx.export(self.exported_program, verbose=False)
        assert program is not None
        with atomic_write(path) as part:
            part.write_bytes(program.model_proto.SerializeToString())


class TorchFrontEnd(FrontEnd):
    """A module, exported and made functional; what was handed in is not modified.

    Parameters
    ----------
    module : nn.Module, GraphModule, ExportedProgram or the path of one.
    inputs : a tensor, a tuple of arguments, or a dict of keyword arguments.
    dynamic_shapes : as :func:`torch.export.export` takes them; by default the first axis of every tensor is open where the
        module allows it.
    """

    program: Lifted

    def __init__(self, module: Module, inputs: Any, options: Options, *, dynamic_shapes: Any = None) -> None:
        self.label = os.fspath(module) if isinstance(module, str | os.PathLike) else f"<{type(module).__name__}>"
        if isinstance(module, str | os.PathLike):
            module = load(module)
        device = device_of(options.device)
        if isinstance(module, ExportedProgram):
            stored = inputs is None and module.example_inputs
            self.call = Example(*module.example_inputs) if stored else Example.of(inputs)
            self.original: torch.nn.Module = module.module()
            program = module
        else:
            self.call, self.original = Example.of(inputs), module
            program = self._exported(module, dynamic_shapes)
        self._source = program
        dense = functional(program, device)
        if options.fold_batchnorm:
            FoldBatchNorm()(dense)
        self._device = home_of(dense)
        self.program = lift(dense)
        self.shapes = open_shapes(dense)

    def _exported(self, module: torch.nn.Module, dynamic_shapes: Any) -> ExportedProgram:
        """Export in evaluation mode; the module is left in the mode in which it came."""
        if not self.call.flat():
            raise InputError(f"{self.label}: needs example inputs: a tensor, a tuple of arguments, or a dict")
        training = module.training
        with suppress(NotImplementedError):  # what export has made is in the mode that it was exported in
            module.eval()
        try:
            return exported(module, self.call, dynamic_shapes, self.label)
        finally:
            with suppress(NotImplementedError):
                module.train(training)

    @property
    def example(self) -> Feeds:
        return self._feed(self.call)

    def batches(self, calib: Any, options: Options) -> Batches:
        given, whole = self.call if calib is None else calib, self._fixed_batch() is not None
        if isinstance(given, str | os.PathLike):
            given = self._read(given, options)
        calls = (self._feed(call) for call in calls_of(given, self.call))
        feeds = [part for call in calls for part in cut(call, self._step(), whole)]
        if not feeds:
            raise InputError(f"{self.label}: the calibration inputs are empty")
        chosen = subset(feeds, options.samples, options.seed, whole)
        return Batches(chosen, sum(map(samples_in, chosen)))

    def fed(self, data: Calibration) -> list[Feeds]:
        return [{k: torch.from_numpy(v).to(self._device) for k, v in f.items()} for f in data.batches(self._step())]

    def subject(self, threads: int) -> Subject:
        return Subject(lift(functional(self._source, self._device)), self.label, threads, self._device)

    def _read(self, path: str | os.PathLike[str], options: Options) -> list[dict[str, torch.Tensor]]:
        """Calibration inputs from a file or a folder, as they are read for an ONNX model."""
        inputs = self.program.graph.inputs
        specs = [InputSpec.of(v.name, v.shape or (), v.dtype or np.dtype(np.float32)) for v in inputs]
        data = load_calibration(path, specs, samples=options.samples, seed=options.seed, preprocess=options.preprocess)
        return [{name: torch.from_numpy(a) for name, a in arrays.items()} for arrays in data.batches(self._step())]

    def _feed(self, call: Example) -> Feeds:
        """A call as one batch, where the module is."""
        names = [node.name for node in placeholders(self.program.module)]
        return dict(zip(names, call.to(self._device).flat(), strict=True))

    def _step(self) -> int:
        """Samples in a batch."""
        return self._fixed_batch() or batch_size(self.program.graph, batch_bytes(self._device))

    def _fixed_batch(self) -> int | None:
        """The batch size, where the module was exported for one only."""
        shape = self.program.graph.inputs[0].shape if self.program.graph.inputs else None
        return shape[0] if shape and isinstance(shape[0], int) else None

    def slimmed(self, plan: Plan) -> Lifted:
        slim = copied(self.program.module)
        Slim(plan)(slim)
        return lift(slim)

    def verified(
        self, slim: Program, plan: Plan, batches: Sequence[Feeds], options: Options, dense: Program | None = None
    ) -> Verification:
        dense = dense or self.program
        assert isinstance(slim, Lifted)
        assert isinstance(dense, Lifted)
        if dense is not self.program:  # weights that were shared no longer are, and groups are named after weights
            plan = plan.renamed(*(find_groups(couple(graph)) for graph in (dense.graph, lift(dense.module).graph)))
        example = self._feed(self.call)
        feeds = [randomised(example, options.seed), *([batches[0]] if batches else [example])]
        return verify_modules(dense.module, slim.module, plan, feeds)

    def finish(self, slim: Program) -> FinishedModule:
        assert isinstance(slim, Lifted)
        return FinishedModule(self, slim.module)


class FinishedModule(Finished):
    """The slim module beside the one that was handed in."""

    def __init__(self, front: TorchFrontEnd, slim: fx.GraphModule) -> None:
        self._front, self._slim = front, slim
        for child in slim.modules():
            child.training = front.original.training
        self.sizes = _bytes(front.original), _bytes(slim)

    def answers(self, batches: Sequence[Feeds], threads: int) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        dense = self._front.program.module
        return [(_floats(answer(dense, feed)), _floats(answer(self._slim, feed))) for feed in batches]

    def latency(self, batches: Sequence[Feeds], options: Options) -> dict[str, Any]:
        """Both modules as they are, in eager mode, on the example inputs."""
        device = home_of(self._slim)
        call = self._front.call.to(device)
        dense = self._front.program.module

        def timed(module: torch.nn.Module) -> Any:
            def once() -> None:
                with torch.inference_mode():
                    module(*call.args, **call.kwargs)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)

            return once

        found = compare(timed(dense), timed(self._slim), seconds=options.bench_seconds, seed=options.seed).to_json()
        return {
            "latency_ms": {"before": found["a"], "after": found["b"]},
            "speedup": found["speedup"],
            "interval": found["interval"],
            "timing": {"engine": _eager(device), "machine": machine.describe()},
        }

    def hand_back(self, plan: Plan, report: dict[str, Any]) -> OptimizedModule:
        return OptimizedModule(self._slim, plan, report, self._front.call, self._front.shapes)


def _eager(device: torch.device) -> dict[str, Any]:
    """What was timed, in the terms of :meth:`modhifi_graph.exporters.backend.Engine.describe`."""
    threads = torch.get_num_threads()
    return {
        "backend": "torch, eager",
        "version": torch.__version__,
        "device": str(device),
        "threads": threads,
        "precision": str(torch.get_default_dtype()).removeprefix("torch."),
    }


def _floats(outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.cpu().float() for name, value in outputs.items() if value.is_floating_point()}


def _bytes(module: torch.nn.Module) -> int:
    """Parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()])
