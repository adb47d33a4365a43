"""The TensorRT backend: an ONNX model to an engine for one kind of GPU, and to a file of it. TensorRT 10 and 11.

Networks are strongly typed, as 11 has no others: the graph says in what precision it calculates
(:mod:`modhifi_graph.exporters.precision`), and no switch changes that; TF32 is off, so single precision is single precision.
Engines are version compatible, so a file outlives an upgrade, and for that **they hold native code** that runs when they are
loaded: load none that you have not compiled yourself, or got from someone whose programs you would run.

Written to the documented interface, and not yet run: that takes TensorRT's own library and a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from modhifi_graph.errors import InputError, first_line
from modhifi_graph.exporters.backend import Model, asked_for, check_names, check_threads, importable, source_of
from modhifi_graph.exporters.tensorrt_builder import built, log_of_all
from modhifi_graph.exporters.tensorrt_graph import Range, prepared, ranges
from modhifi_graph.exporters.tensorrt_runner import Runner
from modhifi_graph.files import atomic_write
from modhifi_graph.interface import InputSpec

if TYPE_CHECKING:
    import tensorrt
    import torch

SUFFIX = ".engine"
ONNX = True
SYMMETRIC = True
DEVICE = "cuda:0"


def available() -> str | None:
    """None when TensorRT can be used here, otherwise the reason why not, for the user to read."""
    if (reason := importable("tensorrt", "TensorRT", "pip install tensorrt onnx-graphsurgeon")) is not None:
        return reason
    if (reason := importable("onnx_graphsurgeon", "onnx-graphsurgeon", "pip install onnx-graphsurgeon")) is not None:
        return reason
    import torch

    return None if torch.cuda.is_available() else "TensorRT needs a GPU, and PyTorch finds none: install its CUDA build"


@dataclass(frozen=True)
class Engine:
    """A compiled model, as :class:`modhifi_graph.exporters.backend.Engine` says.

    Open lengths may be as in ``profile``: those that the engine was compiled for.
    """

    label: str
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    profile: Mapping[str, Range]
    threads: int
    device: str
    precision: str
    _engine: tensorrt.ICudaEngine = field(repr=False, compare=False)
    _runner: Runner = field(repr=False, compare=False)
    _plan: bytes = field(repr=False, compare=False)

    @classmethod
    def of(cls, plan: bytes, label: str, threads: int, place: torch.device) -> Engine:
        """From the bytes of an engine; InputError where this TensorRT or this GPU cannot use them."""
        import tensorrt as trt
        import torch

        with torch.cuda.device(place):
            runtime = trt.Runtime(log_of_all())
            runtime.engine_host_code_allowed = True
            log_of_all().errors.clear()
            engine = runtime.deserialize_cuda_engine(plan)
            if engine is None:
                raise InputError(
                    f"{label}: TensorRT cannot load it: {log_of_all().told()}; compile the model again on this machine"
                )
            context = engine.create_execution_context()
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        taken = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        given = tuple(n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.OUTPUT)
        kinds = {name: _dtype(engine, name, label) for name in names}
        specs = tuple(InputSpec.of(n, tuple(engine.get_tensor_shape(n)), kinds[n]) for n in taken)
        profile = {spec.name: _lengths(engine, spec) for spec in specs}
        runner = Runner(label, context, {n: kinds[n] for n in given}, place)
        return cls(label, specs, given, profile, threads, str(place), engine.name or "fp32", engine, runner, plan)

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        names = asked_for(outputs, self.outputs, self.label)
        check_names(feeds, self.inputs, self.label)
        arrays = {spec.name: np.ascontiguousarray(feeds[spec.name]) for spec in self.inputs}
        for spec in self.inputs:
            _check_fed(arrays[spec.name], spec, self.profile[spec.name], self.label)
        found = self._runner(arrays)
        return {name: found[name].cpu().numpy() for name in names}

    def save(self, path: str | os.PathLike[str]) -> None:
        """As TensorRT writes it: for this version and later ones, on GPUs like this one."""
        with atomic_write(path) as temporary:
            temporary.write_bytes(self._plan)

    def describe(self) -> dict[str, Any]:
        import tensorrt as trt
        import torch

        return {
            "backend": "tensorrt",
            "version": trt.__version__,
            "device": self.device,
            "gpu": torch.cuda.get_device_name(self.device),
            "threads": self.threads,
            "precision": self.precision,
        }


def build(model: Model, *, threads: int = 0, device: str = "cpu", shapes: Mapping[str, Range] | None = None) -> Engine:
    """Compile an ONNX model; see :meth:`modhifi_graph.exporters.backend.Backend.build`.

    ``device`` is "cuda" or "cuda:N". ``shapes`` says for which lengths, by input; by default what
    :func:`modhifi_graph.exporters.tensorrt_graph.ranges` finds. ``threads`` are only noted: a GPU has none.
    """
    import torch

    source, label = source_of(model)
    place = _place(label, threads, device)
    try:
        proto = onnx.load_model_from_string(source) if isinstance(source, bytes) else onnx.load(source)
    except Exception as error:  # DecodeError, ValueError or OSError, by what is wrong
        raise InputError(f"{label}: TensorRT cannot load it: {first_line(error)}; give an ONNX model") from error
    ready = prepared(proto, label)
    lengths = ranges(ready) if shapes is None else shapes
    with torch.cuda.device(place):
        plan = built(ready, lengths, label, place)
    return Engine.of(plan, label, threads, place)


def load(path: str | os.PathLike[str], *, threads: int = 0, device: str = "cpu") -> Engine:
    """An engine from its file; see :meth:`modhifi_graph.exporters.backend.Backend.load`.

    This runs native code of the file: see above.
    """
    label = os.fspath(path)
    place = _place(label, threads, device)
    if not os.path.isfile(label):
        raise InputError(f"{label}: there is no such file; give the path of an engine that TensorRT compiled")
    return Engine.of(Path(label).read_bytes(), label, threads, place)


def _place(label: str, threads: int, device: str) -> torch.device:
    check_threads(threads, label)
    kind, _, index = device.partition(":")
    if kind != "cuda" or not (index or "0").isdigit():
        raise InputError(f"{label}: TensorRT runs on cuda, not on {device}; give cuda:0 as the device")
    if (reason := available()) is not None:
        raise InputError(f"{label}: cannot be compiled: {reason}")
    from modhifi_graph.exporters.devices import device_of

    place = device_of(f"cuda:{index or 0}")
    assert place is not None
    return place


def _lengths(engine: tensorrt.ICudaEngine, spec: InputSpec) -> Range:
    shape = tuple(engine.get_tensor_shape(spec.name))
    if min(shape, default=0) >= 0:
        return Range(shape, shape, shape)
    least, best, most = engine.get_tensor_profile_shape(spec.name, 0)
    return Range(tuple(least), tuple(best), tuple(most))


def _check_fed(array: NDArray[Any], spec: InputSpec, profile: Range, label: str) -> None:
    fits = array.dtype == spec.dtype and array.ndim == len(profile.least)
    if not fits or any(not a <= n <= b for a, n, b in zip(profile.least, array.shape, profile.most, strict=True)):
        raise InputError(
            f"{label}: fed {spec.name} as {array.dtype} {array.shape}; "
            f"compiled for {spec.dtype} from {profile.least} to {profile.most}"
        )


def _dtype(engine: tensorrt.ICudaEngine, name: str, label: str) -> np.dtype[Any]:
    import tensorrt as trt

    try:
        dtype: np.dtype[Any] = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
    except TypeError:
        raise InputError(f"{label}: {name} is of a type that numpy does not have; cast it in the model") from None
    return dtype
