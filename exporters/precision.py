"""In which precision an ONNX graph calculates: what its own nodes and weights say, and graphs that say another.

Runtimes are strongly typed: there is no switch for half precision or for integers, only graphs that are written so
(TensorRT 11 has dropped its switches). So fp16 casts weights and activations, and keeps the types of inputs and outputs; int8
puts QuantizeLinear and DequantizeLinear around what is quantised, with ranges from calibration inputs.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from modhifi_graph.errors import InputError

PRECISIONS = ("fp32", "fp16", "int8")

_TYPES = {
    onnx.TensorProto.FLOAT: "fp32",
    onnx.TensorProto.FLOAT16: "fp16",
    onnx.TensorProto.BFLOAT16: "bf16",
    onnx.TensorProto.DOUBLE: "fp64",
}


def precision_of(model: onnx.ModelProto | bytes | str | os.PathLike[str]) -> str:
    """``int8`` where anything is quantised, else the type of most of the weights; ``fp32`` where there are none."""
    proto = _loaded(model)
    if any(_is_quantised(node) for node in proto.graph.node):
        return "int8"
    sizes: Counter[str] = Counter()
    for tensor in proto.graph.initializer:
        if tensor.data_type in _TYPES:
            sizes[_TYPES[tensor.data_type]] += math.prod(tensor.dims)
    return max(sizes, key=lambda name: sizes[name]) if sizes else "fp32"


def converted(
    model: onnx.ModelProto,
    precision: str,
    batches: Iterable[Mapping[str, NDArray[Any]]] = (),
    label: str = "the model",
    *,
    symmetric: bool = False,
) -> onnx.ModelProto:
    """The model in another precision; the same object for the one that it has.

    Parameters
    ----------
    precision : "fp32", "fp16" or "int8".
    batches : for int8, the inputs that ranges are taken from.
    symmetric : for int8, whether activations are signed with zero at zero, which is all that TensorRT has; by default they are
        unsigned with a zero point, for which processors have instructions.

    Raises
    ------
    InputError
        The precision is unknown, the model is in another than fp32 already, or there are no inputs to calibrate on.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    has = precision_of(model)
    if precision == has:
        return model
    if has != "fp32":
        raise InputError(f"{label}: calculates in {has} already; {precision} is made of a model in fp32")
    return _halved(model) if precision == "fp16" else _quantised(model, list(batches), label, symmetric)


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    halved = ir.from_proto(convert_float_to_float16(_copy(model), keep_io_types=True))
    halved.graph.sort()  # the casts of inputs come last
    proto: onnx.ModelProto = ir.to_proto(halved)
    return proto


def _quantised(
    model: onnx.ModelProto, batches: list[Mapping[str, NDArray[Any]]], label: str, symmetric: bool
) -> onnx.ModelProto:
    """Symmetric weights a channel.

    Symmetric graphs keep their biases in floating point: TensorRT dequantises nothing from int32.
    """
    if not batches:
        raise InputError(f"{label}: int8 needs calibration inputs: give --calib")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._left, None)
            return None if batch is None else {name: np.asarray(array) for name, array in batch.items()}

    with tempfile.TemporaryDirectory() as folder:
        prepared, written = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(_copy(model), prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            written,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"ActivationSymmetric": symmetric, "QuantizeBias": not symmetric},
        )
        return onnx.load(written)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """For libraries that write into what they are given."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _loaded(model: onnx.ModelProto | bytes | str | os.PathLike[str]) -> onnx.ModelProto:
    if isinstance(model, onnx.ModelProto):
        return model
    if isinstance(model, bytes):
        return onnx.load_model_from_string(model)
    return onnx.load(os.fspath(model), load_external_data=False)


def _is_quantised(node: onnx.NodeProto) -> bool:
    return node.op_type in ("QuantizeLinear", "DequantizeLinear") or node.op_type.startswith("QLinear")
