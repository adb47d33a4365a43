"""Module in, module out: an ``nn.Module`` or an exported program through ``torch.export``."""

from __future__ import annotations

import inspect
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from modhifi_graph.calibration import batch_size
from modhifi_graph.calibration import load as load_calibration
from modhifi_graph.dialects.aten import Lifted, copied, functional, lift
from modhifi_graph.dialects.program import Feeds, Program
from modhifi_graph.errors import InputError, VerificationError
from modhifi_graph.files import atomic_write
from modhifi_graph.frontends.frontend import Batches, Finished, FrontEnd, Optimized
from modhifi_graph.interface import InputSpec
from modhifi_graph.options import Options
from modhifi_graph.passes.fx.fold_batchnorm import FoldBatchNorm
from modhifi_graph.passes.fx.mask import Mask
from modhifi_graph.passes.fx.slim import Slim
from modhifi_graph.plan import Plan
from modhifi_graph.timing import compare
from modhifi_graph.verification import RELATIVE, Verification, compare_outputs, summary

Module = torch.nn.Module | ExportedProgram | str | os.PathLike[str]


@dataclass(frozen=True)
class Example:
    """One call of the module: what it was exported with."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @classmethod
    def of(cls, inputs: Any, kwargs: Mapping[str, Any] | None = None) -> Example:
        """A tensor, a tuple of arguments, or a dict of keyword arguments."""
        if isinstance(inputs, Mapping):
            return cls((), {**inputs, **(kwargs or {})})
        args = tuple(inputs) if isinstance(inputs, list | tuple) else () if inputs is None else (inputs,)
        return cls(args, dict(kwargs or {}))

    def flat(self) -> list[Any]:
        """The leaves of the arguments, in the order of a module's placeholders."""
        return pytree.tree_flatten((self.args, dict(self.kwargs)))[0]

    def to(self, device: str | torch.device) -> Example:
        moved = pytree.tree_map_only(torch.Tensor, lambda t: t.to(device), (self.args, dict(self.kwargs)))
        return Example(*moved)

    def widened(self, axes: Sequence[Collection[int]]) -> Example:
        """With two in place of one along some axes of every leaf: torch.export takes a length of one for a constant."""
        flat, spec = pytree.tree_flatten((self.args, dict(self.kwargs)))
        wide = [
            leaf.repeat([2 if i in mine and n == 1 else 1 for i, n in enumerate(leaf.shape)]) if mine else leaf
            for leaf, mine in zip(flat, axes, strict=True)
        ]
        return Example(*pytree.tree_unflatten(wide, spec))


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
        example = self._example.widened(_open_axes(self.module)).to(_device_of(self.module))
        return _export(self.module, example, self._shapes)

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

    def __init__(
        self,
        module: Module,
        inputs: Any,
        options: Options,
        *,
        kwargs: Mapping[str, Any] | None = None,
        dynamic_shapes: Any = None,
    ) -> None:
        self.label = os.fspath(module) if isinstance(module, str | os.PathLike) else f"<{type(module).__name__}>"
        if isinstance(module, str | os.PathLike):
            module = load(module)
        self._device = _device(options.device)
        if isinstance(module, ExportedProgram):
            example = (
                Example(*module.example_inputs)
                if inputs is None and module.example_inputs
                else Example.of(inputs, kwargs)
            )
            exported = module
            self.original: Any = module.module()
        else:
            example = Example.of(inputs, kwargs)
            if not example.flat():
                raise InputError(f"{self.label}: needs example inputs: a tensor, a tuple of arguments, or a dict")
            training, self.original = module.training, module
            with suppress(NotImplementedError):  # what export has made is in the mode that it was exported in
                module.eval()
            try:
                exported = _exported(module, example, dynamic_shapes, self.label)
            finally:
                with suppress(NotImplementedError):
                    module.train(training)
        self.example = example
        dense = functional(exported)
        if options.fold_batchnorm:
            FoldBatchNorm()(dense)
        if self._device is not None:
            dense.to(self._device)
        self.program = lift(dense)
        self.shapes = _open_shapes(dense)

    def calibration(self, calib: Any, options: Options) -> Batches | None:
        given = self.example if calib is None else calib
        if calib is None and not options.needs_data:
            return None
        step = self._fixed_batch() or batch_size(self.program.graph)
        if isinstance(given, str | os.PathLike):
            specs = [
                InputSpec.of(v.name, v.shape or (), v.dtype or np.dtype(np.float32)) for v in self.program.graph.inputs
            ]
            data = load_calibration(
                given, specs, samples=options.samples, seed=options.seed, preprocess=options.preprocess
            )
            given = [{name: torch.from_numpy(a) for name, a in arrays.items()} for arrays in data.batches(step)]
        names = [node.name for node in self.program.module.graph.nodes if node.op == "placeholder"]
        calls = list(_calls(given, self.example))
        feeds = [dict(zip(names, call.flat(), strict=True)) for call in calls]
        if not feeds:
            raise InputError(f"{self.label}: the calibration inputs are empty")
        cut = [part for feed in feeds for part in _cut(feed, step, self._fixed_batch() is not None)]
        device = self._device or _device_of(self.program.module)
        moved = [{name: _moved(value, device) for name, value in feed.items()} for feed in cut]
        chosen = _subset(moved, options.samples, options.seed)
        return Batches(chosen, sum(_samples(feed) for feed in chosen))

    def _fixed_batch(self) -> int | None:
        """The batch size, where the module was exported for one only."""
        shape = self.program.graph.inputs[0].shape if self.program.graph.inputs else None
        return shape[0] if shape and isinstance(shape[0], int) else None

    def slimmed(self, plan: Plan) -> Lifted:
        slim = copied(self.program.module)
        Slim(plan)(slim)
        return lift(slim)

    def verified(self, slim: Program, plan: Plan, batches: Sequence[Feeds], options: Options) -> Verification:
        assert isinstance(slim, Lifted)
        masked = copied(self.program.module)
        Mask(plan)(masked)
        device = _device_of(masked)
        names = [node.name for node in masked.graph.nodes if node.op == "placeholder"]
        example = dict(zip(names, self.example.to(device).flat(), strict=True))
        feeds = [_randomised(example, options.seed), *([batches[0]] if batches else [example])]
        kinds = {p.dtype for p in masked.parameters()}
        least = next((k for k in ("bfloat16", "float16") if getattr(torch, k) in kinds), "float32")
        errors = []
        for feed in feeds:
            try:
                found = _answer(slim.module, feed)
            except RuntimeError as error:
                raise VerificationError(f"the slim module does not run: {error}") from error
            errors += list(compare_outputs(_arrays(_answer(masked, feed)), _arrays(found), RELATIVE[least]))
        return summary(errors, len(feeds))

    def finish(self, slim: Program) -> FinishedModule:
        assert isinstance(slim, Lifted)
        return FinishedModule(self, slim.module)


class FinishedModule(Finished):
    """The slim module beside the one that was handed in."""

    def __init__(self, front: TorchFrontEnd, slim: fx.GraphModule) -> None:
        self._front, self._slim = front, slim
        self.sizes = _bytes(front.original), _bytes(slim)

    def answers(self, batches: Sequence[Feeds], threads: int) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        dense = self._front.program.module
        return [(_floats(_answer(dense, feed)), _floats(_answer(self._slim, feed))) for feed in batches]

    def latency(self, batches: Sequence[Feeds], options: Options) -> dict[str, Any]:
        """Both modules as they are, in eager mode, on the example inputs."""
        device = _device_of(self._slim)
        call = self._front.example.to(device)
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
            "timing": {"threads": torch.get_num_threads(), "provider": f"torch eager on {device}"},
        }

    def hand_back(self, plan: Plan, report: dict[str, Any]) -> OptimizedModule:
        return OptimizedModule(self._slim, plan, report, self._front.example, self._front.shapes)


FORCE, FORCE_NOT = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def load(path: str | os.PathLike[str]) -> ExportedProgram:
    """Read a ``.pt2`` file that ``torch.export.save`` wrote; InputError where it is something else, or would run code.

    PyTorch's reader unpickles some payloads without restrictions, unless the environment forbids it; here it does.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such file; give a .pt2 file that torch.export.save wrote")
    before = {name: os.environ.pop(name, None) for name in (FORCE, FORCE_NOT)}
    os.environ[FORCE] = "1"
    try:
        return torch.export.load(Path(path))
    except Exception as error:  # whatever a damaged or hostile archive makes the reader do
        raise InputError(f"{path}: is not an exported program that can be read safely: {_first_line(error)}") from error
    finally:
        del os.environ[FORCE]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _first_line(error: BaseException) -> str:
    """What PyTorch says first; its messages run to pages."""
    return next(iter(str(error).strip().splitlines()), repr(error))


def _exported(module: torch.nn.Module, example: Example, shapes: Any, label: str) -> ExportedProgram:
    """Export with an open batch where nothing else was asked for and the module allows it."""
    if shapes is None:
        with suppress(Exception):  # a module that does not allow it says so in many ways
            wide = _widened_batch(example)
            return _export(module, wide, open_batch(module, wide))
    try:
        return _export(module, example, shapes)
    except Exception as error:
        raise InputError(f"{label}: torch.export cannot export it with these inputs: {_first_line(error)}") from error


def _export(module: torch.nn.Module, example: Example, shapes: Any) -> ExportedProgram:
    with torch.no_grad():
        return torch.export.export(module, example.args, dict(example.kwargs) or None, dynamic_shapes=shapes)


def open_batch(module: torch.nn.Module, example: Example) -> dict[str, Any]:
    """Dynamic shapes that open the first axis of every tensor, by the names of the arguments."""
    bound = inspect.signature(module.forward).bind(*example.args, **example.kwargs)
    opened = pytree.tree_map(
        lambda leaf: {0: Dim.AUTO} if isinstance(leaf, torch.Tensor) and leaf.ndim else None, dict(bound.arguments)
    )
    assert isinstance(opened, dict)
    return opened


def _widened_batch(example: Example) -> Example:
    """The same call for a batch of two, where it is for one."""
    flat = example.flat()
    tensors = [leaf for leaf in flat if isinstance(leaf, torch.Tensor) and leaf.ndim]
    if any(len(leaf) != 1 for leaf in tensors):
        return example
    return example.widened([{0} if isinstance(leaf, torch.Tensor) and leaf.ndim else () for leaf in flat])


def _open_axes(module: fx.GraphModule) -> list[tuple[int, ...]]:
    """The axes of every input of an exported module that may have any length."""
    values = [node.meta.get("val") for node in module.graph.nodes if node.op == "placeholder"]
    return [
        tuple(axis for axis, dim in enumerate(v.shape) if not str(dim).isdigit()) if isinstance(v, torch.Tensor) else ()
        for v in values
    ]


def _open_shapes(module: fx.GraphModule) -> Any:
    """The dynamic shapes that an exported module has, as export takes them."""
    flat = [dict.fromkeys(axes, Dim.AUTO) or None for axes in _open_axes(module)]
    args, kwargs = pytree.tree_unflatten(flat, module._in_spec)
    names = [node.name for node in module.graph.nodes if node.op == "placeholder"]
    if args and kwargs:
        return {**dict(zip(names, args, strict=False)), **kwargs}
    return kwargs or args


def _calls(given: Any, example: Example) -> Iterator[Example]:
    """Calibration inputs as calls: a tensor, a tuple, a dict, or a loader of these (labels that come along are left out)."""
    if isinstance(given, Example):
        yield given
    elif isinstance(given, np.ndarray):
        yield Example((torch.from_numpy(given),), {})
    elif isinstance(given, torch.Tensor | Mapping):
        yield Example.of(given)
    elif isinstance(given, tuple) and all(isinstance(part, torch.Tensor) for part in given):
        yield Example(given[: len(example.args)], {})
    elif isinstance(given, Iterable):
        for item in given:
            whole = Example.of(item)
            yield Example(whole.args[: len(example.args)], whole.kwargs)
    else:
        raise InputError(f"calibration: expected tensors, a dict of them, or a loader; got {type(given).__name__}")


def _cut(feed: Feeds, step: int, whole: bool) -> Iterator[Feeds]:
    """One call in batches of ``step`` samples, where all its tensors have as many; a remainder only where any size runs."""
    sizes = {len(value) for value in feed.values() if isinstance(value, torch.Tensor) and value.ndim}
    if len(sizes) != 1 or next(iter(sizes)) <= step:
        yield feed
        return
    (count,) = sizes
    for start in range(0, count - count % step if whole else count, step):
        yield {k: v[start : start + step] if isinstance(v, torch.Tensor) and v.ndim else v for k, v in feed.items()}


def _subset(feeds: list[Feeds], samples: int | None, seed: int) -> list[Feeds]:
    """Random batches that hold about so many samples."""
    if samples is None:
        return feeds
    order = np.random.default_rng(seed).permutation(len(feeds))
    chosen: list[int] = []
    for number in order:
        if sum(_samples(feeds[i]) for i in chosen) < samples:
            chosen.append(int(number))
    return [feeds[i] for i in sorted(chosen)]


def _samples(feed: Feeds) -> int:
    return max((len(v) for v in feed.values() if isinstance(v, torch.Tensor) and v.ndim), default=1)


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value


def _device(name: str | None) -> torch.device | None:
    try:
        device = torch.device(name) if name else None
        if device is not None:
            torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} cannot be used here: {_first_line(error)}") from error
    return device


def _device_of(module: torch.nn.Module) -> torch.device:
    tensors = [*module.parameters(), *module.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def _randomised(feed: Feeds, seed: int) -> Feeds:
    """Normal numbers in place of floating-point inputs; token ids and masks stay what they are."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(v.shape, generator=generator).to(v)
        if isinstance(v, torch.Tensor) and v.is_floating_point()
        else v
        for name, v in feed.items()
    }


def _answer(module: fx.GraphModule, feed: Feeds) -> dict[str, torch.Tensor]:
    """Every tensor that a module gives for one batch, by its place among the outputs."""
    args, kwargs = pytree.tree_unflatten(list(feed.values()), module._in_spec)
    with torch.no_grad():
        flat = pytree.tree_flatten(module(*args, **kwargs))[0]
    return {f"output {i}": value for i, value in enumerate(flat) if isinstance(value, torch.Tensor)}


def _floats(outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.cpu().float() for name, value in outputs.items() if value.is_floating_point()}


def _arrays(outputs: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: (v.float() if v.is_floating_point() else v).cpu().numpy() for name, v in outputs.items()}


def _bytes(module: torch.nn.Module) -> int:
    """Parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()])
