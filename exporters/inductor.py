"""The Inductor backend: an exported program to a package of native code, by AOTInductor, and to a file of it.

What it compiles is the ``.pt2`` that ``torch.export.save`` wrote (or an ``ExportedProgram``), never an ONNX model: a slim
module's ``save`` writes one. Programs are read as data. **A package is native code**: to load one is to run it, so load none
that you have not compiled yourself, or got from someone whose programs you would run. Only :func:`load` does, and only what is
called ``*.aoti.pt2`` is handed to it; :func:`build` refuses packages.
"""

from __future__ import annotations

import os
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modhifi_graph.errors import InputError, first_line
from modhifi_graph.exporters.backend import Model, asked_for, check_threads, importable
from modhifi_graph.exporters.inductor_signature import Signature, dtype_of
from modhifi_graph.files import atomic_write
from modhifi_graph.interface import InputSpec

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

SUFFIX = ".aoti.pt2"
ONNX = False
SYMMETRIC = False
DEVICE = "cpu"

NOTE = "modhifi"
"""Under this name a package says what its inputs and outputs are: AOTInductor keeps neither names nor types."""

ZIP = b"PK\x03\x04"
NATIVE = "/data/aotinductor/"
"""Where in an archive native code lies."""


def available() -> str | None:
    """None where programs can be compiled here, otherwise the reason why not, for the user to read."""
    if (reason := importable("torch", "PyTorch", "pip install torch")) is not None:
        return reason
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:  # by platform
        return f"there is no C++ compiler ({first_line(error)}): install g++ or clang, or name one in CXX"
    return None


@dataclass(frozen=True)
class Engine:
    """A compiled program, as :class:`modhifi_graph.exporters.backend.Engine` says."""

    label: str
    threads: int
    device: str
    _signature: Signature = field(repr=False)
    _loader: Any = field(repr=False, compare=False)
    _package: bytes = field(repr=False, compare=False)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        return self._signature.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        return self._signature.outputs

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        names = asked_for(outputs, self.outputs, self.label)
        self._signature.check(feeds, self.label)
        tensors = [
            _laid_out(_tensor(np.asarray(feeds[spec.name])).to(self.device), order)
            for spec, order in zip(self.inputs, self._signature.orders, strict=True)
        ]
        try:
            with _threads(self.threads):
                found = dict(zip(self.outputs, self._loader.run(tensors), strict=True))
        except RuntimeError as error:
            raise InputError(f"{self.label}: Inductor cannot run it: {first_line(error)}") from error
        return {name: _array(found[name]) for name in names}

    def save(self, path: str | os.PathLike[str]) -> None:
        """As a package, which this version of PyTorch runs on processors like this one."""
        with atomic_write(path) as temporary:
            temporary.write_bytes(self._package)

    def describe(self) -> dict[str, Any]:
        import torch

        return {
            "backend": "inductor",
            "version": torch.__version__,
            "device": self.device,
            "threads": self.threads,
            "precision": self._signature.precision,
        }


def build(model: Model, *, threads: int = 0, device: str = "cpu") -> Engine:
    """Compile an exported program; see :meth:`modhifi_graph.exporters.backend.Backend.build`.

    Takes the path of a ``.pt2`` file or an ``ExportedProgram``, in the precision that it is in.
    """
    program, label = _program(model)
    place = _place(label, threads, device)
    program = _moved(program, place)
    signature = Signature.of(program, label)
    settings = {
        "cpp.dynamic_threads": True,  # otherwise the number of threads would be compiled in
        "freezing": place.type == "cpu",  # weights are packed once, for this processor
        "aot_inductor.metadata": {NOTE: signature.to_json()},
    }
    import torch

    with tempfile.TemporaryDirectory() as folder, _threads(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch to itself
        path = Path(folder) / "engine.pt2"
        try:
            with torch.no_grad():
                torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=settings)
            return _loaded(path, label, threads, place)
        except (InputError, KeyboardInterrupt):
            raise
        except Exception as error:  # whatever a compiler may find wrong
            raise InputError(f"{label}: Inductor cannot compile it: {first_line(error)}") from error


def load(path: str | os.PathLike[str], *, threads: int = 0, device: str = "cpu") -> Engine:
    """A package that :meth:`Engine.save` wrote; see :meth:`modhifi_graph.exporters.backend.Backend.load`.

    This runs native code of the file: see above.
    """
    label = os.fspath(path)
    place = _place(label, threads, device)
    if not os.path.isfile(label):
        raise InputError(f"{label}: there is no such file; give the path of a package that Inductor compiled")
    if not _is_package(label):
        raise InputError(
            f"{label}: Inductor cannot load it: it is no package; compile the model with --backend inductor"
        )
    return _loaded(Path(path), label, threads, place)


def _loaded(path: Path, label: str, threads: int, place: torch.device) -> Engine:
    import torch

    try:
        loader = torch._inductor.aoti_load_package(path, device_index=-1 if place.index is None else place.index).loader
        signature = Signature.from_json(loader.get_metadata()[NOTE])
    except Exception as error:  # whatever a damaged package, or one for another processor, makes the loader do
        raise InputError(
            f"{label}: Inductor cannot load it: {first_line(error)}; compile the model again on this machine"
        ) from error
    return Engine(label, threads, str(place), signature, loader, path.read_bytes())


def _program(model: Model) -> tuple[ExportedProgram, str]:
    """The program, and what messages call it; packages and models of another kind are refused unopened."""
    from torch.export import ExportedProgram

    if isinstance(model, ExportedProgram):
        return model, "<ExportedProgram>"
    remedy = "give the .pt2 that torch.export.save wrote of the module"
    if not isinstance(model, str | os.PathLike):
        raise InputError(f"<model in memory>: Inductor cannot compile an ONNX model; {remedy}")
    label = os.fspath(model)
    if not os.path.isfile(label):
        raise InputError(f"{label}: there is no such file; {remedy}")
    with open(label, "rb") as file:
        if file.read(4) != ZIP:
            raise InputError(f"{label}: Inductor cannot compile an ONNX model; {remedy}")
    if _is_package(label):
        raise InputError(
            f"{label}: is compiled already, so it holds native code, and is not loaded as a model; "
            f"if you compiled it yourself, give it a name that ends in {SUFFIX}"
        )
    from modhifi_graph.exporters.exported_program import load as read

    return read(label), label


def _is_package(path: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(NATIVE in f"/{name}" for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _place(label: str, threads: int, device: str) -> torch.device:
    from modhifi_graph.exporters.devices import device_of

    check_threads(threads, label)
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise InputError(f"{label}: Inductor is used on cpu or cuda here, not on {device}")
    place = device_of(device)
    assert place is not None
    return place


def _moved(program: ExportedProgram, place: torch.device) -> ExportedProgram:
    from torch.export.passes import move_to_device_pass

    held = [*program.state_dict.values(), *program.constants.values()]
    homes = {value.device.type for value in held if hasattr(value, "device")}
    return program if homes <= {place.type} and place.type == "cpu" else move_to_device_pass(program, place)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads within an operator; 0 leaves PyTorch's number, which is the same for all that this process runs."""
    import torch

    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count:
            torch.set_num_threads(before)


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    """A tensor that shares the array's memory where it can; numpy's bfloat16 is an extension that PyTorch does not read."""
    import torch

    held = array if array.flags.c_contiguous and array.flags.writeable else array.copy(order="C")
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(held.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(held)


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    import torch

    held = tensor.detach().cpu()
    if held.dtype is torch.bfloat16:
        return held.contiguous().view(torch.int16).numpy().view(dtype_of("bfloat16"))
    array: NDArray[Any] = held.numpy()
    return array


def _laid_out(tensor: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """The same numbers with their axes in memory as the program was exported with (channels last, say)."""
    return tensor.permute(order).contiguous().permute([order.index(axis) for axis in range(len(order))])
