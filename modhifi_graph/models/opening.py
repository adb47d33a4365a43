"""Opening a model of any kind, and giving the same kind back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import onnx
import onnx_ir as ir

from modhifi_graph import samples
from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.errors import InputError
from modhifi_graph.models import validity

if TYPE_CHECKING:
    import onnx_graphsurgeon

Kind = Literal["path", "proto", "ir", "graphsurgeon"]
Source: TypeAlias = "str | os.PathLike[str] | onnx.ModelProto | ir.Model | onnx_graphsurgeon.Graph"

SAMPLE = "sample:"
NOT_ONNX = {
    b"PK\x03\x04": "a zip archive, as PyTorch and Keras write",
    b"\x80\x02": "a Python pickle, as PyTorch writes",
    b"\x89HDF": "an HDF5 file, as Keras writes",
}


@dataclass(frozen=True)
class Opened:
    """A model that passed every check, and what it was opened from.

    Attributes
    ----------
    model : onnx_ir.Model
        A copy of its own: what happens to it does not reach the object that the user gave.
    label : str
        What messages call it: its path, `sample:NAME`, or the kind of object.
    kind : "path", "proto", "ir" or "graphsurgeon"
        What it was opened from.
    path : Path or None
        The file it was read from.
    back : callable
        Makes what was opened from a model: a path gives an `onnx.ModelProto`.
    """

    model: ir.Model
    label: str
    kind: Kind
    path: Path | None
    _declared: dict[str, ir.Shape | None] = field(repr=False)
    back: Callable[[ir.Model], Any] = field(repr=False)

    def restored(self, model: ir.Model) -> ir.Model:
        """A copy whose inputs and outputs are declared as they were.

        Inference has learned more about some of them, or has given unknown lengths other names.
        """
        result = model.clone()
        for value in (*result.graph.inputs, *result.graph.outputs):
            if value.name in self._declared:
                shape = self._declared[value.name]
                value.shape = None if shape is None else shape.copy()
        return result

    def give_back(self, model: ir.Model) -> Any:
        """A model of the kind that was opened, declared as it was: for a path an `onnx.ModelProto`."""
        return self.back(self.restored(model))


def open_model(source: Source) -> Opened:
    """Read a model and check that it can be worked on.

    Weights in external data stay on disk, memory-mapped. Nothing is ever unpickled, and no file outside the model's own
    folder is read.

    Parameters
    ----------
    source : path, "sample:NAME", onnx.ModelProto, onnx_ir.Model or onnx_graphsurgeon.Graph
        The model. It is not modified.

    Returns
    -------
    Opened

    Raises
    ------
    InputError
        The file is missing, is not ONNX or is damaged; the graph is invalid, has no inputs or outputs, an opset that is
        too old or too new, or nodes in training mode.

    Examples
    --------
    >>> opened = open_model("sample:digits-cnn")
    >>> opened.kind, len(opened.model.graph.inputs), type(opened.give_back(opened.model)).__name__
    ('path', 1, 'ModelProto')
    """
    if isinstance(source, str | os.PathLike):
        return _from_path(os.fspath(source))
    if isinstance(source, onnx.ModelProto):
        label = "<onnx.ModelProto>"
        copy = onnx.ModelProto()
        copy.CopyFrom(source)
        return _opened(_from_proto(copy, label, None), label, "proto")
    if isinstance(source, ir.Model):
        label = "<onnx_ir.Model>"
        return _opened(validity.checked(source.clone(), label), label, "ir", back=lambda model: model)
    # By name: whoever holds such an object has imported the library, and nobody else needs it.
    if type(source).__module__.startswith("onnx_graphsurgeon"):
        return _from_graphsurgeon(cast("onnx_graphsurgeon.Graph", source))
    raise InputError(
        f"cannot open a {type(source).__module__}.{type(source).__qualname__}: expected the path of an ONNX file, an "
        "onnx.ModelProto, an onnx_ir.Model or an onnx_graphsurgeon.Graph (torch.onnx.export makes ONNX from a module)"
    )


def _opened(
    model: ir.Model, label: str, kind: Kind, path: Path | None = None, back: Callable[[ir.Model], Any] = to_proto
) -> Opened:
    values = (*model.graph.inputs, *model.graph.outputs)
    declared = {str(v.name): None if v.shape is None else v.shape.copy() for v in values}
    return Opened(model, label, kind, path, declared, back)


def _from_path(text: str) -> Opened:
    path = sample_path(text) if text.startswith(SAMPLE) else Path(text)
    if path.is_dir():
        raise InputError(f"{text}: is a folder; give the path of the .onnx file in it")
    if not path.exists():
        raise InputError(f"{text}: there is no such file; give the path of an ONNX model or {_samples()}")
    model = _from_proto(_parsed(path), text, path)
    return _opened(model, text, "path", path)


def sample_path(name: str) -> Path:
    """The file of `sample:NAME`; `InputError` lists the samples there are."""
    bare = name.removeprefix(SAMPLE)
    if bare not in samples.names():
        raise InputError(f"{name}: there is no such sample; give {_samples()}")
    return Path(samples.__file__).parent / f"{bare}.onnx"


def _samples() -> str:
    return " or ".join(f"{SAMPLE}{name}" for name in samples.names())


def _parsed(path: Path) -> onnx.ModelProto:
    try:
        with path.open("rb") as file:
            start = file.read(8)
        if not start:
            raise InputError(f"{path}: is empty; export or download it again")
        for magic, what in NOT_ONNX.items():
            if start.startswith(magic):
                raise InputError(f"{path}: is {what}, not an ONNX model; export it first, as with torch.onnx.export")
        proto = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except InputError:
        raise
    except Exception as error:  # DecodeError, ParseError, UnicodeDecodeError, ValueError: by file suffix and protobuf
        raise InputError(f"{path}: is not an ONNX model, or is truncated; export or download it again") from error
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise InputError(f"{path}: holds no graph, so it is not an ONNX model; export or download it again")
    return proto


def _from_proto(proto: onnx.ModelProto, label: str, path: Path | None) -> ir.Model:
    """The IR of a proto of our own, checked; external data is looked for beside ``path``."""
    validity.check_stored(proto, label)
    try:
        model = ir.from_proto(proto)
    except Exception as error:  # whatever a damaged message makes the deserialiser do
        raise InputError(f"{label}: is not a valid ONNX model: {validity.one_line(error)}") from error
    validity.check_external(model, label, None if path is None else Path(os.path.abspath(path)).parent)
    return validity.checked(model, label)


def _from_graphsurgeon(graph: onnx_graphsurgeon.Graph) -> Opened:
    import onnx_graphsurgeon

    label = "<onnx_graphsurgeon.Graph>"
    try:
        proto = onnx_graphsurgeon.export_onnx(graph)
    except Exception as error:  # whatever an incomplete graph makes the library do
        raise InputError(f"{label}: cannot be exported to ONNX: {validity.one_line(error)}") from error
    back: Callable[[ir.Model], Any] = lambda model: onnx_graphsurgeon.import_onnx(to_proto(model))  # noqa: E731
    return _opened(_from_proto(proto, label, None), label, "graphsurgeon", back=back)
