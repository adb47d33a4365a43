"""From a model to an engine of a backend, in a precision."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import onnx
from numpy.typing import NDArray

from modhifi_graph import samples as sample_models
from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.errors import InputError
from modhifi_graph.exporters import backend as backends
from modhifi_graph.exporters.precision import converted
from modhifi_graph.inputs import calibration
from modhifi_graph.inputs.image_folders import Preprocess
from modhifi_graph.interface import specs_of
from modhifi_graph.models import opening as models

if TYPE_CHECKING:
    from torch.export import ExportedProgram

RANGE_SAMPLES = 128
"""So many calibration inputs say between which numbers activations lie."""

RANGE_BATCH = 8


def compile_model(
    model: models.Source | ExportedProgram,
    calib: Any = None,
    *,
    backend: str = "onnxruntime",
    precision: str = "fp32",
    samples: int | None = RANGE_SAMPLES,
    seed: int = 0,
    preprocess: Preprocess | None = None,
    threads: int = 0,
    device: str | None = None,
) -> backends.Engine:
    """Compile a model. The engine's ``run`` takes and gives arrays by name, ``save`` writes it to a file.

    Parameters
    ----------
    model : path, "sample:NAME", onnx.ModelProto, onnx_ir.Model or onnx_graphsurgeon.Graph
        In single precision, or in ``precision`` already. For inductor the path of a ``.pt2`` or an ExportedProgram, which is
        compiled in the precision that it is in.
    calib : path, array or dict of arrays
        For int8: inputs that ranges are taken from; see :func:`modhifi_graph.inputs.calibration.load`. Samples have theirs.
    backend : str, default "onnxruntime"
        One of :data:`modhifi_graph.exporters.backend.NAMES`.
    precision : str, default "fp32"
        "fp32", "fp16" or "int8": of the graph (:mod:`modhifi_graph.exporters.precision`). In what the engine really calculates
        its ``describe`` says.
    samples : int, default 128
        Take ranges from a random subset of this size, or of all where there are fewer.
    threads : int, default 0
        Threads within an operator; 0 is one for every physical core.
    device : str, optional
        "cpu" or "cuda:0"; by default the backend's own: the latter for tensorrt, which has no other.

    Raises
    ------
    InputError
        The backend or the precision is unknown or cannot be had here, or the model cannot be compiled.
    """
    chosen = backends.backend(backend)
    device = device or chosen.DEVICE
    if not chosen.ONNX:
        if precision != "fp32":
            raise InputError(
                f"backend {backend} compiles programs in the precision that they are in, not in {precision}: "
                "convert the module before it is exported, as with module.half()"
            )
        return chosen.build(cast(backends.Model, model), threads=threads, device=device)
    opened = models.open_model(cast(models.Source, model))
    proto = to_proto(opened.model)
    ranges = _ranges(opened.label, proto, calib, samples, seed, preprocess) if precision == "int8" else []
    source = converted(proto, precision, ranges, opened.label, symmetric=chosen.SYMMETRIC)
    if source is proto and isinstance(model, str | os.PathLike) and os.path.isfile(model):
        return chosen.build(model, threads=threads, device=device)  # external data lies beside it
    return chosen.build(source, threads=threads, device=device)


def load_engine(
    path: str | os.PathLike[str], *, backend: str = "onnxruntime", threads: int = 0, device: str | None = None
) -> backends.Engine:
    """An engine from the file that its ``save`` wrote; InputError where this machine's runtime cannot use it.

    Files of inductor and of TensorRT hold native code that runs when they are loaded: load none whose source you would not run.
    """
    chosen = backends.backend(backend)
    return chosen.load(path, threads=threads, device=device or chosen.DEVICE)


def _ranges(
    label: str, proto: onnx.ModelProto, calib: Any, samples: int | None, seed: int, preprocess: Preprocess | None
) -> list[Mapping[str, NDArray[Any]]]:
    if calib is None and label.startswith(models.SAMPLE):
        calib = sample_models.load(label).calib
    if calib is None:
        raise InputError(f"{label}: int8 needs calibration inputs: give --calib")
    data = calibration.load(calib, specs_of(proto), samples=samples, seed=seed, preprocess=preprocess)
    return list(data.batches(RANGE_BATCH))
