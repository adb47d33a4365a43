"""An ``onnx_ir`` model as a proto."""

from __future__ import annotations

import onnx
import onnx_ir as ir


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """A proto that carries all its weights; the model keeps those that lie in external data there."""
    if any(isinstance(value.const_value, ir.ExternalTensor) for value in model.graph.initializers.values()):
        model = ir.external_data.load_to_model(model.clone())
    return ir.to_proto(model)
