"""Models in ONNX Runtime alone, with nothing of this project between: what they answer, and which axes they declare."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

onnxruntime = pytest.importorskip("onnxruntime")


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def axes(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    return tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)
