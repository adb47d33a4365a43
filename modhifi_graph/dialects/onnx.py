"""The ONNX dialect: lifting an ``onnx_ir`` model into the neutral graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from modhifi_graph.dialects.onnx_constants import new_initialiser
from modhifi_graph.dialects.onnx_stepper import OnnxStepper, runner
from modhifi_graph.dialects.program import Program, Runner, Stepper
from modhifi_graph.graph import Dim, Graph, Op, Value
from modhifi_graph.interface import Feeds


@dataclass(frozen=True)
class Lifted(Program):
    """A model and its neutral graph, with the way back from every op and value; ``device`` is where it is run."""

    model: ir.Model
    graph: Graph
    nodes: dict[Op, ir.Node]
    values: dict[Value, ir.Value]
    device: torch.device

    def stepper(self, batches: Sequence[Feeds], wanted: Iterable[str] = (), threads: int = 0) -> OnnxStepper:
        return OnnxStepper(self.model, batches, wanted, threads, self.device)

    def runner(self, names: Sequence[str], threads: int = 0) -> Runner:
        return runner(self.model, names, threads, self.device)

    def assign(self, op: Op, slot: int, array: np.ndarray, stepper: Stepper | None = None) -> None:
        node = self.nodes[op]
        if slot >= len(node.inputs):
            node.resize_inputs(slot + 1)
        old = node.inputs[slot]
        if old is not None and old.is_initializer() and len(old.uses()) == 1 and not old.is_graph_output():
            old.const_value = ir.tensor(array, name=old.name)
            old.shape = ir.Shape(array.shape)
            if isinstance(stepper, OnnxStepper):
                stepper.replace(old.name or "", array)
            return
        other = node.inputs[1]
        name = old.name if old is not None else f"{other.name if other is not None else node.name}_bias"
        new = new_initialiser(self.model, array, name or "bias")
        node.replace_input_with(slot, new)
        if isinstance(stepper, OnnxStepper):
            stepper.rewire(node.outputs[0].name or "", slot, new.name or "", array)


def lift(model: ir.Model, device: torch.device | str = "cpu") -> Lifted:
    """Lift a normalised model. Weights stay where they are until they are read; it is run on ``device``."""
    known: dict[ir.Value, Value] = {}
    opset = opset_of(model)

    def value(source: ir.Value) -> Value:
        if source not in known:
            known[source] = _value(source)
        return known[source]

    nodes: dict[Op, ir.Node] = {}
    for node in model.graph:
        op = Op(
            kind=node.op_type,
            name=node.name or "",
            inputs=tuple(None if source is None else value(source) for source in node.inputs),
            outputs=tuple(value(result) for result in node.outputs),
            attributes={name: _attribute(attr) for name, attr in node.attributes.items() if _is_plain(attr)},
            domain="" if node.domain == "ai.onnx" else node.domain,
            opset=opset,
            captured=tuple(value(source) for source in dict.fromkeys(_captured(node)) if source.graph is model.graph),
        )
        nodes[op] = node
    graph = Graph(
        inputs=tuple(value(v) for v in model.graph.inputs),
        outputs=tuple(value(v) for v in model.graph.outputs),
        ops=tuple(nodes),
    )
    values = {mine: source for source, mine in known.items()}
    return Lifted(model, graph, nodes, values, torch.device(device))


def opset_of(model: ir.Model) -> int:
    """The version of ONNX's own operators that a model imports; 0 where it imports none."""
    return model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0))


def interface(model: ir.Model) -> list[tuple[str | None, str, str]]:
    """Names, types and shapes of a model's inputs and outputs: what no pass may change."""
    return [(v.name, str(v.type), str(v.shape)) for v in (*model.graph.inputs, *model.graph.outputs)]


def _value(source: ir.Value) -> Value:
    tensor = source.const_value if source.is_initializer() and not source.is_graph_input() else None
    shape = tensor.shape if tensor is not None else source.shape
    dims = None if shape is None else tuple(_dim(dim) for dim in shape)
    dtype = tensor.dtype if tensor is not None else source.dtype
    return Value(
        name=source.name or "",
        shape=dims,
        dtype=_numpy_type(dtype),
        load=None if tensor is None else lambda: np.asarray(tensor.numpy()),
    )


def _dim(dim: int | ir.SymbolicDimProtocol) -> Dim:
    if isinstance(dim, int):
        return dim if dim >= 0 else None
    return dim.value if dim.value is None else str(dim.value)


def _numpy_type(dtype: ir.DataType | None) -> np.dtype[Any] | None:
    try:
        return None if dtype is None else np.dtype(dtype.numpy())
    except (TypeError, KeyError):
        return None


def _is_plain(attr: ir.Attr) -> bool:
    return attr.type not in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) and not attr.is_ref()


def _attribute(attr: ir.Attr) -> Any:
    if attr.type is ir.AttributeType.TENSOR:
        return attr.as_tensor().numpy()
    return list(attr.value) if isinstance(attr.value, tuple) else attr.value


def _captured(node: ir.Node) -> Iterator[ir.Value]:
    """Outer values that the node's subgraphs read."""
    for attr in node.attributes.values():
        graphs: Sequence[ir.Graph] = ()
        if attr.type is ir.AttributeType.GRAPH:
            graphs = (attr.as_graph(),)
        elif attr.type is ir.AttributeType.GRAPHS:
            graphs = attr.as_graphs()
        for graph in graphs:
            for inner in graph.all_nodes():
                yield from (source for source in inner.inputs if source is not None)
            yield from (result for result in graph.outputs if result.producer() is None)
