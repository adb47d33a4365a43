"""The onnxruntime backend: an ONNX model to a running engine, or to a file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from modhifi_graph.errors import InputError
from modhifi_graph.exporters.backend import Model, check_threads, importable, serialised, source_of
from modhifi_graph.exporters.precision import precision_of
from modhifi_graph.files import atomic_write
from modhifi_graph.interface import InputSpec

if TYPE_CHECKING:
    import torch

SUFFIX = ".onnx"
ONNX = True
SYMMETRIC = False
DEVICE = "cpu"

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# Failures are raised as exceptions, which say the same as the log would.
FATAL_ONLY = 4
# onnxruntime names element types as C++ does; numpy has its own names for these, and the same one for the integers.
NUMPY_NAMES = {"float": "float32", "double": "float64", "string": "object"}


def available() -> str | None:
    """None when onnxruntime can be used here, otherwise the reason why not, for the user to read."""
    return importable("onnxruntime", "onnxruntime", "pip install onnxruntime (or onnxruntime-gpu)")


@dataclass(frozen=True)
class Engine:
    """A compiled model.

    Attributes
    ----------
    label : str
        What error messages call the model: its path, or `<model in memory>`.
    inputs : tuple of InputSpec
        What `run` must be fed, in graph order; initialisers are not among them.
    outputs : tuple of str
        Names of everything the model returns.
    provider : str
        The execution provider that was asked for and loaded.
    threads : int
        Threads within an operator; 0 is the runtime's default, one for every physical core.
    device : str
        Where tensors are that it is fed and that it gives: "cpu" or "cuda:0".
    precision : str or None
        What the graph calculates in; None unless it comes from :func:`build`.
    """

    label: str
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    provider: str
    threads: int
    device: str
    _session: Any = field(repr=False, compare=False)
    precision: str | None = None
    _source: bytes | str | None = field(default=None, repr=False, compare=False)

    @classmethod
    def compile(
        cls,
        model: onnx.ModelProto | bytes | str | os.PathLike[str],
        *,
        threads: int = 0,
        provider: str = CPU,
        optimise: bool = True,
        device: str | None = None,
        label: str | None = None,
    ) -> Engine:
        """Build an engine.

        Parameters
        ----------
        model : ModelProto, bytes or path
            Give the path of a model over 2 GiB or with external data: the runtime then finds the data beside it.
        threads : int, default 0
            Threads within an operator, >= 0; 0 is the runtime's default.
        provider : str, default "CPUExecutionProvider"
            Where to run. Operators that a GPU provider lacks still fall to the CPU.
        optimise : bool, default True
            Whether the runtime fuses and rewrites the graph. Off, it computes node by node what the file says.
        device : str, optional
            Run there, on "cpu" or "cuda:0", instead of where ``provider`` says.
        label : str, optional
            What error messages call the model, where its path is not meant.

        Returns
        -------
        Engine

        Raises
        ------
        InputError
            onnxruntime or the provider is missing, the file does not exist, or the runtime rejects the model.
        """
        source, path = source_of(model)
        label = label or path
        provider = provider if device is None else provider_of(device)
        session = _session(source, label, threads, provider, device or "cpu", optimise)
        inputs = tuple(_spec(argument, label) for argument in session.get_inputs())
        outputs = tuple(argument.name for argument in session.get_outputs())
        return cls(label, inputs, outputs, provider, threads, device or "cpu", session)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the graph as the runtime has optimised it for this machine; ValueError unless it comes from :func:`build`."""
        if self._source is None:
            raise ValueError(f"{self.label}: its source is gone; make it with build()")
        with atomic_write(path) as temporary:
            _session(self._source, self.label, self.threads, self.provider, self.device, optimised=str(temporary))

    def describe(self) -> dict[str, Any]:
        """Where its times hold; see :meth:`modhifi_graph.exporters.backend.Engine.describe`."""
        import onnxruntime

        return {
            "backend": "onnxruntime",
            "version": onnxruntime.__version__,
            "device": self.device,
            "provider": self.provider,
            "threads": self.threads,
            "precision": self.precision,
        }

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Run the model once.

        Parameters
        ----------
        feeds : dict of arrays
            One array for each of `inputs`, of its type.
        outputs : list of str, optional
            What to return; everything by default, nothing for an empty list.

        Returns
        -------
        dict of arrays
            By output name, in the order asked for.

        Raises
        ------
        InputError
            The runtime rejects the inputs or the names, or fails while running.
        """
        names = list(self.outputs if outputs is None else outputs)
        if not names:  # the runtime would take an empty list for everything
            return {}
        try:
            values = self._session.run(names, dict(feeds))
        except Exception as error:  # the runtime's exceptions share no base class of their own
            raise InputError(f"{self.label}: onnxruntime cannot run it: {error}") from error
        return dict(zip(names, values, strict=True))

    def run_tensors(self, feeds: Mapping[str, torch.Tensor], outputs: Sequence[str]) -> dict[str, torch.Tensor]:
        """As :meth:`run`, on tensors that are where the engine runs; nothing is copied, results come by DLPack."""
        if not outputs:
            return {}
        import torch
        from onnx_ir.tensor_adapters import from_torch_dtype

        kind, index = _place(self.device)
        held = {name: tensor.contiguous() for name, tensor in feeds.items()}
        binding = self._session.io_binding()
        for name, tensor in held.items():
            element = int(from_torch_dtype(tensor.dtype))
            binding.bind_input(name, kind, index, element, tuple(tensor.shape), tensor.data_ptr())
        for name in outputs:
            binding.bind_output(name, kind, index)
        if kind == "cuda":
            torch.cuda.current_stream(index).synchronize()  # the runtime reads in a stream of its own
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # the runtime's exceptions share no base class of their own
            raise InputError(f"{self.label}: onnxruntime cannot run it: {error}") from error
        binding.synchronize_outputs()
        return dict(zip(outputs, map(_tensor, binding.get_outputs()), strict=True))


def build(model: Model, *, threads: int = 0, device: str = "cpu", provider: str | None = None) -> Engine:
    """Compile an ONNX model; see :meth:`modhifi_graph.exporters.backend.Backend.build`.

    ``provider`` names an execution provider, where the device's own is not meant.
    """
    source, label = source_of(model)
    engine = Engine.compile(
        source, threads=threads, provider=provider or CPU, device=None if provider is not None else device, label=label
    )
    return dataclasses.replace(engine, precision=precision_of(source), _source=source)


def load(path: str | os.PathLike[str], *, threads: int = 0, device: str = "cpu") -> Engine:
    """A model that :meth:`Engine.save` wrote; see :meth:`modhifi_graph.exporters.backend.Backend.load`."""
    return build(path, threads=threads, device=device)


def _session(
    source: bytes | str,
    label: str,
    threads: int,
    provider: str,
    device: str,
    optimise: bool = True,
    optimised: str | None = None,
) -> Any:
    """A session; ``optimised`` is where the graph is written as it will run."""
    if (reason := available()) is not None:
        raise InputError(f"{label}: cannot be compiled: {reason}")
    import onnxruntime

    check_threads(threads, label)
    present = onnxruntime.get_available_providers()
    if provider not in present:
        remedy = "; pip install onnxruntime-gpu in place of onnxruntime" if provider == CUDA else ""
        raise InputError(
            f"{label}: provider {provider} is not in this onnxruntime; available: {', '.join(present)}{remedy}"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.intra_op_num_threads = threads
    # Idle workers of one engine otherwise spin for a while on the cores that another one is being timed on.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    if optimised is not None:
        options.optimized_model_filepath = optimised
    kind, index = _place(device)
    settings = {"device_id": index} if kind == "cuda" else {}
    try:
        session = onnxruntime.InferenceSession(source, options, providers=[(provider, settings)], enable_fallback=0)
    except Exception as error:  # the runtime's exceptions share no base class of their own
        raise InputError(f"{label}: onnxruntime cannot load it: {error}") from error
    # A provider whose libraries do not load is dropped with no more than a warning; a timing would be of the CPU.
    if provider not in session.get_providers():
        raise InputError(f"{label}: the provider {provider} does not load on this machine; try provider={CPU}")
    return session


def provider_of(device: str) -> str:
    """The execution provider that runs on a device; InputError where there is none."""
    kind, _ = _place(device)
    if kind not in ("cpu", "cuda"):
        raise InputError(f"device {device}: ONNX models are run on cpu or cuda")
    return CUDA if kind == "cuda" else CPU


def _place(device: str) -> tuple[str, int]:
    kind, _, index = device.partition(":")
    return kind, int(index or 0)


def _tensor(value: Any) -> torch.Tensor:
    """A result of the runtime as a tensor that shares its memory; DLPack hands booleans over as bytes."""
    import torch
    from torch.utils.dlpack import from_dlpack

    tensor: torch.Tensor = from_dlpack(value)
    return tensor.view(torch.bool) if value.data_type() == "tensor(bool)" else tensor


def save(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Write a model to a file that appears whole or not at all.

    Parameters
    ----------
    model : ModelProto
        At most 2 GiB with the weights it carries. Weights kept as external data must already lie beside `path`.
    path : str or path-like
        The file to create or replace.

    Raises
    ------
    InputError
        The model is too large, its external data would not be found, or the file cannot be written.
    """
    folder = Path(os.path.realpath(path)).parent
    for tensor in model.graph.initializer:
        if uses_external_data(tensor) and not (folder / (data := ExternalDataInfo(tensor).location)).is_file():
            raise InputError(f"{path}: {tensor.name} is kept in {data}, not found in {folder}; save it there first")
    payload = serialised(model, str(path))
    with atomic_write(path) as temporary:
        temporary.write_bytes(payload)


def _spec(argument: Any, label: str) -> InputSpec:
    kind = argument.type.removeprefix("tensor(").removesuffix(")")
    try:
        dtype = np.dtype(NUMPY_NAMES.get(kind, kind))
    except TypeError:
        raise InputError(
            f"{label}: input {argument.name} is a {argument.type}; only tensors of a type that numpy has can be fed"
        ) from None
    return InputSpec.of(argument.name, argument.shape, dtype)
