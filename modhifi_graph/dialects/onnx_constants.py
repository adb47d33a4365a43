"""Reading and replacing the constants of an ``onnx_ir`` model."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir


def origin(value: ir.Value) -> ir.Value:
    """The value that ``value`` is a copy of, through any number of Identity nodes."""
    while (node := value.producer()) is not None and node.op_type == "Identity" and not node.domain:
        if node.inputs[0] is None:
            break
        value = node.inputs[0]
    return value


def constant_array(value: ir.Value | None) -> np.ndarray | None:
    """The array of an initialiser or Constant node, also through Identity nodes; None where there is none."""
    source = None if value is None else origin(value)
    if source is None or source.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(source)
    return None if tensor is None else np.asarray(tensor.numpy())


def new_initialiser(model: ir.Model, array: np.ndarray, name: str) -> ir.Value:
    """Register a constant under ``name``, or the next free name after it; an initialiser nobody reads makes room."""
    taken, base, count = model.graph.initializers, name, 2
    while name in taken and (taken[name].uses() or taken[name].is_graph_output()):
        name, count = f"{base}_{count}", count + 1
    if name in taken:
        del taken[name]
    value = ir.Value(name=name, const_value=ir.tensor(np.asarray(array, order="C"), name=name))
    value.shape, value.type = ir.Shape(array.shape), ir.TensorType(ir.DataType.from_numpy(array.dtype))
    model.graph.register_initializer(value)
    return value


def replace_constant(model: ir.Model, node: ir.Node, slot: int, array: np.ndarray, name: str) -> None:
    """Give ``node`` a constant of its own in ``slot``: under the name of the one it had, ``name`` where it had none.

    Where other nodes read the old constant, they keep it and its name.
    """
    old = node.inputs[slot] if slot < len(node.inputs) else None
    if slot >= len(node.inputs):
        node.resize_inputs(slot + 1)
    node.replace_input_with(slot, None)
    source = None if old is None else origin(old)
    known = source.name if source is not None and source.is_initializer() else None
    node.replace_input_with(slot, new_initialiser(model, array, known or name))
