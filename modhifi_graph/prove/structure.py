"""Whether two models are the same graph but for the values of weights and biases."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

WEIGHTS = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "Einsum": (0, 1),
    "Add": (0, 1),
    "BatchNormalization": (3, 4),
    "LSTM": (1, 2, 3),
    "GRU": (1, 2, 3),
    "RNN": (1, 2, 3),
}
"""The inputs whose values compensation may change; an addition is the bias of a MatMul, and the statistics
of a batch norm may be taken anew."""

BIAS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
"""The input that compensation may add."""


def first_difference(expected: ir.Model, found: ir.Model) -> str | None:
    """What the first node is that differs and how, for a message; None where the graphs are the same."""
    nodes, others = list(expected.graph), list(found.graph)
    same: dict[ir.Value, ir.Value] = {}
    for mine, theirs in zip(expected.graph.inputs, _inputs(found), strict=False):
        same[theirs] = mine
    for node, other in zip(nodes, others, strict=False):
        if (difference := _node_difference(node, other, same)) is not None:
            return difference
        same.update(zip(other.outputs, node.outputs, strict=True))
    if len(nodes) != len(others):
        return f"it has {len(others)} nodes instead of {len(nodes)}"
    for mine, theirs in zip(expected.graph.outputs, found.graph.outputs, strict=True):
        if same.get(theirs) is not mine:
            return f"output {theirs.name!r} is computed by another node"
    return None


def _inputs(model: ir.Model) -> list[ir.Value]:
    return [value for value in model.graph.inputs if not value.is_initializer()]


def _node_difference(node: ir.Node, other: ir.Node, same: Mapping[ir.Value, ir.Value]) -> str | None:
    what = f"{node.op_type} {node.name!r}"
    if (node.op_type, node.domain, len(node.outputs)) != (other.op_type, other.domain, len(other.outputs)):
        return f"{other.op_type} {other.name!r} is where {what} should be"
    if (name := _attribute_difference(node, other)) is not None:
        return f"the attribute {name!r} of {what} differs"
    mine, theirs = _padded(node, other)
    for slot, (value, candidate) in enumerate(zip(mine, theirs, strict=True)):
        if value is None and candidate is not None and BIAS.get(node.op_type) == slot and _is_float(candidate):
            continue
        if value is None or candidate is None:
            if value is not candidate:
                return f"input {slot} of {what} is {'left out' if candidate is None else 'given'}"
        elif value.const_value is None or candidate.const_value is None:
            if same.get(candidate) is not value:
                return f"input {slot} of {what} is {candidate.name!r} instead of {value.name!r}"
        elif (reason := _constant_difference(value, candidate, slot in WEIGHTS.get(node.op_type, ()))) is not None:
            return f"input {slot} of {what}, {candidate.name!r}, {reason}"
    return None


def _padded(node: ir.Node, other: ir.Node) -> tuple[list[ir.Value | None], list[ir.Value | None]]:
    length = max(len(node.inputs), len(other.inputs))
    mine, theirs = ([*n.inputs, *[None] * (length - len(n.inputs))] for n in (node, other))
    return mine, theirs


def _attribute_difference(node: ir.Node, other: ir.Node) -> str | None:
    for name in sorted(node.attributes.keys() | other.attributes.keys()):
        both = [n.attributes.get(name) for n in (node, other)]
        if None in both or len({_serialised(attr) for attr in both if attr is not None}) > 1:
            return name
    return None


def _serialised(attr: ir.Attr) -> bytes:
    proto = ir.to_proto(attr)
    proto.doc_string = ""
    return bytes(proto.SerializeToString(deterministic=True))


def _is_float(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.dtype.is_floating_point()


def _constant_difference(mine: ir.Value, theirs: ir.Value, may_differ: bool) -> str | None:
    a, b = mine.const_value, theirs.const_value
    assert a is not None
    assert b is not None
    if a.dtype != b.dtype or _dims(a.shape) != _dims(b.shape):
        return f"is {b.dtype} {_dims(b.shape)} instead of {a.dtype} {_dims(a.shape)}"
    if may_differ and a.dtype.is_floating_point():
        return None
    x, y = a.numpy(), b.numpy()
    equal = np.array_equal(x, y, equal_nan=True) if x.dtype.kind == "f" else np.array_equal(x, y)
    return None if equal else "has other values, and is no weight or bias"


def _dims(shape: ir.ShapeProtocol) -> tuple[int, ...]:
    """The shape of a constant: all its lengths are known."""
    return tuple(dim for dim in shape if isinstance(dim, int))
