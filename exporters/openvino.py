"""The OpenVINO backend: an ONNX model to a compiled model, and to a file of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modhifi_graph.errors import InputError
from modhifi_graph.exporters.backend import Model, check_names, check_threads, importable, source_of
from modhifi_graph.files import atomic_write
from modhifi_graph.interface import InputSpec

if TYPE_CHECKING:
    import openvino

SUFFIX = ".blob"
ONNX = True
SYMMETRIC = False
DEVICE = "cpu"

PRECISIONS = {"i8": "int8", "u8": "int8", "bf16": "bf16", "f16": "fp16", "f32": "fp32"}
"""OpenVINO's names and ours, the lowest first."""

COMPUTING = ("Convolution", "Deconvolution", "FullyConnected", "MatMul", "RNNCell", "RNNSeq")
"""What the runtime calls the layers that take the time."""


def available() -> str | None:
    """None when OpenVINO can be used here, otherwise the reason why not, for the user to read."""
    return importable("openvino", "OpenVINO", "pip install openvino")


@dataclass(frozen=True)
class Engine:
    """A compiled model, as :class:`modhifi_graph.exporters.backend.Engine` says.

    What the graph says is asked for: on some CPUs OpenVINO would otherwise calculate in bfloat16 and say nothing.
    """

    label: str
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    threads: int
    precision: str
    _compiled: openvino.CompiledModel = field(repr=False, compare=False)
    _request: openvino.InferRequest = field(repr=False, compare=False)

    @classmethod
    def of(cls, compiled: openvino.CompiledModel, label: str, threads: int) -> Engine:
        inputs = tuple(_spec(port, label) for port in compiled.inputs)
        outputs = tuple(port.get_any_name() for port in compiled.outputs)
        return cls(label, inputs, outputs, threads, _precision(compiled), compiled, compiled.create_infer_request())

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        names = self.outputs if outputs is None else outputs
        check_names(feeds, self.inputs, self.label)
        try:
            self._request.infer(dict(feeds), share_inputs=True)
            return {name: np.array(self._request.get_tensor(name).data) for name in names}
        except RuntimeError as error:
            raise InputError(f"{self.label}: OpenVINO cannot run it: {_first_line(error)}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """As a blob, which this version of OpenVINO reads on processors like this one."""
        blob = self._compiled.export_model()
        with atomic_write(path) as temporary:
            temporary.write_bytes(blob.getvalue())

    def describe(self) -> dict[str, Any]:
        import openvino

        return {
            "backend": "openvino",
            "version": openvino.__version__.split("-")[0],
            "device": "cpu",
            "threads": self.threads,
            "precision": self.precision,
        }


def build(model: Model, *, threads: int = 0, device: str = "cpu") -> Engine:
    """Compile an ONNX model; see :meth:`modhifi_graph.exporters.backend.Backend.build`."""
    source, label = source_of(model)
    core = _core(label, threads, device)
    try:
        compiled = core.compile_model(core.read_model(source), "CPU", _settings(threads))
    except RuntimeError as error:
        raise InputError(f"{label}: OpenVINO cannot compile it: {_first_line(error)}") from error
    return Engine.of(compiled, label, threads)


def load(path: str | os.PathLike[str], *, threads: int = 0, device: str = "cpu") -> Engine:
    """A compiled model from its file; see :meth:`modhifi_graph.exporters.backend.Backend.load`."""
    label = os.fspath(path)
    core = _core(label, threads, device)
    if not os.path.isfile(label):
        raise InputError(f"{label}: there is no such file; give the path of a model that OpenVINO compiled")
    try:
        compiled = core.import_model(Path(label).read_bytes(), "CPU", _settings(threads))
    except RuntimeError as error:
        raise InputError(
            f"{label}: OpenVINO cannot load it: {_first_line(error)}; compile the model again on this machine"
        ) from error
    return Engine.of(compiled, label, threads)


def _core(label: str, threads: int, device: str) -> openvino.Core:
    check_threads(threads, label)
    if device != "cpu":
        raise InputError(f"{label}: OpenVINO is used on cpu here, not on {device}")
    if (reason := available()) is not None:
        raise InputError(f"{label}: cannot be compiled: {reason}")
    import openvino

    return openvino.Core()


def _settings(threads: int) -> dict[str, Any]:
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    return {**settings, **({"INFERENCE_NUM_THREADS": threads} if threads else {})}


def _spec(port: Any, label: str) -> InputSpec:
    shape = [dim.get_length() if dim.is_static else None for dim in port.get_partial_shape()]
    try:
        dtype = np.dtype(port.get_element_type().to_dtype())
    except (RuntimeError, TypeError):
        raise InputError(f"{label}: input {port.get_any_name()} is of a type that numpy does not have") from None
    return InputSpec.of(port.get_any_name(), shape, dtype)


def _precision(compiled: openvino.CompiledModel) -> str:
    """The lowest that any convolution or product really runs in: the runtime may choose another than the graph's."""
    found = set()
    for op in compiled.get_runtime_model().get_ordered_ops():
        told = op.get_rt_info()
        if told["layerType"].astype(str) in COMPUTING:
            found.add(told["runtimePrecision"].astype(str))
    return next((name for key, name in PRECISIONS.items() if key in found), "fp32")


def _first_line(error: Exception) -> str:
    """OpenVINO's messages begin with where in its sources they come from."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (told or lines or ["no reason given"])[0][:300]
