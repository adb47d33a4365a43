"""What every backend does, and where each is found. A backend is a module, imported when it is used and not before."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

import onnx
from numpy.typing import NDArray

from modhifi_graph.errors import InputError
from modhifi_graph.exporters import BACKENDS
from modhifi_graph.interface import InputSpec

if TYPE_CHECKING:
    from torch.export import ExportedProgram

NAMES = BACKENDS

Model: TypeAlias = "onnx.ModelProto | bytes | str | os.PathLike[str] | ExportedProgram"
"""An ONNX model or the path of one; an exported program or the path of one where the backend's ``ONNX`` is False."""

IN_MEMORY = "<model in memory>"


class Engine(Protocol):
    """A model that is ready to run.

    Attributes
    ----------
    label : what messages call it.
    inputs : what :meth:`run` must be fed, in graph order.
    outputs : names of everything the model returns.
    """

    @property
    def label(self) -> str: ...
    @property
    def inputs(self) -> tuple[InputSpec, ...]: ...
    @property
    def outputs(self) -> tuple[str, ...]: ...

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Run once: one array for each of ``inputs``; gives the outputs by name. InputError where the runtime rejects them."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what :meth:`Backend.load` reads, to a file that appears whole or not at all."""

    def describe(self) -> dict[str, Any]:
        """Where its times hold: ``backend``, ``version``, ``device``, ``threads`` and ``precision`` of its arithmetic."""


class Backend(Protocol):
    """One runtime.

    Attributes
    ----------
    SUFFIX : how files of its compiled models end.
    ONNX : whether it compiles ONNX models; the others compile exported programs (``.pt2``).
    SYMMETRIC : whether what it quantises has its zero at zero, and is a signed byte.
    DEVICE : where it runs unless it is told otherwise.
    """

    SUFFIX: str
    ONNX: bool
    SYMMETRIC: bool
    DEVICE: str

    def available(self) -> str | None:
        """None where it can be used here, otherwise the reason why not, for the user to read."""

    def build(self, model: Model, *, threads: int = 0, device: str = "cpu") -> Engine:
        """Compile a model, in the precision that its graph says.

        Parameters
        ----------
        model : ModelProto, bytes or path; ExportedProgram or path where ``ONNX`` is False.
        threads : int, default 0
            Threads within an operator, >= 0; 0 is one for every physical core.
        device : str, default "cpu"
            "cpu" or "cuda:0".

        Raises
        ------
        InputError
            The backend is missing, or rejects the model, the device or the number of threads.
        """

    def load(self, path: str | os.PathLike[str], *, threads: int = 0, device: str = "cpu") -> Engine:
        """What :meth:`Engine.save` wrote; InputError where this runtime cannot use it."""


def backend(name: str) -> Backend:
    """A backend by its name; InputError where there is none or it cannot be used here."""
    if name not in NAMES:
        raise InputError(f"backend {name!r} is unknown; choose one of {', '.join(NAMES)}")
    found = cast(Backend, importlib.import_module(f"modhifi_graph.exporters.{name}"))
    if (reason := found.available()) is not None:
        raise InputError(f"backend {name}: {reason}")
    return found


def onnx_backend(name: str) -> Backend:
    """A backend that compiles ONNX models, by its name; InputError for the others."""
    found = backend(name)
    if not found.ONNX:
        raise InputError(
            f"backend {name}: compiles exported programs (.pt2), not ONNX models; choose another for an ONNX model, "
            "or hand in the module itself"
        )
    return found


def importable(module: str, title: str, remedy: str) -> str | None:
    """None where a module can be imported, otherwise the reason why not, for the user to read."""
    if importlib.util.find_spec(module) is None:
        return f"{title} is not installed: {remedy}"
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken installation raises ImportError, OSError or AttributeError, by platform
        return f"{title} is installed but does not load: {error}"
    return None


def check_threads(threads: int, label: str) -> None:
    """InputError where the number of threads is negative."""
    if threads < 0:
        raise InputError(f"{label}: threads is {threads}; expected 0 (the runtime's default) or more")


def check_names(feeds: Iterable[str], inputs: Sequence[InputSpec], label: str) -> None:
    """InputError unless what is fed is what is wanted, by name."""
    if set(feeds) != {spec.name for spec in inputs}:
        raise InputError(f"{label}: fed {', '.join(feeds)}; expected {', '.join(spec.name for spec in inputs)}")


def asked_for(outputs: Sequence[str] | None, given: Sequence[str], label: str) -> list[str]:
    """The names of the outputs to return, all by default; InputError for one that there is not."""
    names = list(given if outputs is None else outputs)
    if unknown := set(names) - set(given):
        raise InputError(f"{label}: asked for {', '.join(unknown)}; it gives {', '.join(given)}")
    return names


def source_of(model: Model) -> tuple[bytes | str, str]:
    """What a runtime is given, and what messages call it."""
    if isinstance(model, onnx.ModelProto):
        return serialised(model, IN_MEMORY), IN_MEMORY
    if isinstance(model, bytes):
        return model, IN_MEMORY
    if not isinstance(model, str | os.PathLike):
        raise InputError(f"cannot compile a {type(model).__qualname__}: give an ONNX model, or choose backend inductor")
    path = os.fspath(model)
    if not os.path.isfile(path):
        raise InputError(f"{path}: there is no such file; give the path of an ONNX model")
    return path, path


def serialised(model: onnx.ModelProto, label: str) -> bytes:
    """A model's bytes; InputError over 2 GiB."""
    try:
        payload: bytes = model.SerializeToString()
    except Exception as error:  # EncodeError or ValueError, by version of protobuf
        raise InputError(
            f"{label}: cannot be serialised ({error}); over 2 GiB, save it with external data and give the path"
        ) from error
    return payload
