"""Pieces of a graph that an engine runs as one: an op, and the work on single numbers that follows it.

Runtimes fuse a convolution or a product with the bias, the activation and the shortcut behind it. Timed alone, such a piece
takes what it takes in the whole, but for where its data lies.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from modhifi_graph.dialects.onnx import Lifted
from modhifi_graph.graph import Graph, Op, Value
from modhifi_graph.observe.pointwise import is_pointwise
from modhifi_graph.observe.sites import readers_of

SMALL = 64
"""Constants of up to so many elements may be shapes, axes or scales: they are part of what a piece is."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Some ops in order; ``inputs`` are the activations that they read from outside, ``outputs`` those that are read there."""

    ops: tuple[Op, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]

    @property
    def name(self) -> str:
        """The name of its first value, which slimming does not change."""
        return self.ops[0].outputs[0].name


def pieces(graph: Graph) -> list[Piece]:
    """A graph cut into pieces, in the order in which they can run."""
    made: dict[Value, int] = {}
    members: list[list[Op]] = []
    for op in graph.ops:
        read = [value for value in (*op.inputs, *op.captured) if value is not None and value in made]
        last = max((made[value] for value in read), default=None)
        if last is not None and is_pointwise(op):
            members[last].append(op)
        else:
            last = len(members)
            members.append([op])
        made.update(dict.fromkeys(op.outputs, last))
    readers = readers_of(graph)
    return [_piece(graph, number, ops, made, readers) for number, ops in enumerate(members)]


def _piece(
    graph: Graph, number: int, ops: list[Op], made: Mapping[Value, int], readers: Mapping[Value, Sequence[Op]]
) -> Piece:
    read = [v for op in ops for v in (*op.inputs, *op.captured) if v is not None and not v.is_constant]
    inputs = dict.fromkeys(v for v in read if made.get(v) != number)
    inside = set(ops)
    results = [v for op in ops for v in op.outputs]
    outputs = [v for v in results if v in graph.outputs or not inside.issuperset(readers.get(v, ()))]
    return Piece(tuple(ops), tuple(inputs), tuple(outputs))


def model_of(piece: Piece, lifted: Lifted, values: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """The piece as a model of its own, with the shapes and types that its inputs have among ``values``."""
    nodes = [ir.serde.serialize_node(lifted.nodes[op]) for op in piece.ops]
    constants = dict.fromkeys(
        v for op in piece.ops for v in (*op.inputs, *op.captured) if v is not None and v.is_constant
    )
    held = [_tensor(lifted.values[value]) for value in constants]
    inputs = [_info(value.name, values[value.name]) for value in piece.inputs]
    outputs = [_open_info(value) for value in piece.outputs]
    graph = onnx.helper.make_graph(nodes, "piece", inputs, outputs, held)
    versions = [onnx.helper.make_opsetid(domain, version) for domain, version in lifted.model.opset_imports.items()]
    return onnx.helper.make_model(
        graph,
        opset_imports=versions,
        ir_version=lifted.model.ir_version,
        functions=[ir.serde.serialize_function(function) for function in lifted.model.functions.values()],
    )


def signature(model: onnx.ModelProto) -> str:
    """The same for pieces that differ in nothing but names and weights."""
    names: dict[str, int] = {}

    def number(name: str) -> str:
        return "-" if not name else str(names.setdefault(name, len(names)))

    parts = [f"{entry.domain}:{entry.version}" for entry in model.opset_import]
    for info in model.graph.input:
        parts.append(f"in {number(info.name)} {info.type.SerializeToString().hex()}")
    for tensor in model.graph.initializer:
        array = (
            onnx.numpy_helper.to_array(tensor) if math.prod(tensor.dims) <= SMALL and tensor.data_type != 1 else None
        )
        kept = "" if array is None else str(array.tolist())
        parts.append(f"const {number(tensor.name)} {tensor.data_type} {list(tensor.dims)} {kept}")
    for node in model.graph.node:
        attributes = sorted(attribute.SerializeToString().hex() for attribute in node.attribute)
        wires = f"{','.join(map(number, node.input))} -> {','.join(map(number, node.output))}"
        parts.append(f"{node.domain}.{node.op_type} {wires} {attributes}")
    parts.append("out " + ",".join(number(info.name) for info in model.graph.output))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _tensor(value: ir.Value) -> onnx.TensorProto:
    assert value.const_value is not None
    tensor: onnx.TensorProto = ir.serde.serialize_tensor(value.const_value)
    tensor.name = value.name or ""
    return tensor


def _open_info(value: Value) -> onnx.ValueInfoProto:
    """An output of whatever shape it will have."""
    if value.dtype is None or value.rank is None:
        return onnx.helper.make_empty_tensor_value_info(value.name)
    kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    return onnx.helper.make_tensor_value_info(value.name, kind, [None] * value.rank)


def _info(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
