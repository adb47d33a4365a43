"""Running an ONNX model: all at once for its values, or in steps, each one ONNX Runtime session between two frontiers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import from_torch_dtype

from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.dialects.program import Runner, Stepper, Weights, tensor
from modhifi_graph.errors import InputError
from modhifi_graph.exporters.onnxruntime import Engine
from modhifi_graph.interface import Feeds


def runner(model: ir.Model, names: Sequence[str], threads: int = 0, device: torch.device | str = "cpu") -> Runner:
    """Runs whole batches for the named values, in one session, as tensors on ``device``."""
    proto = to_proto(model)
    present = {value.name for value in [*proto.graph.input, *proto.graph.output]}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    engine = _observing(proto, threads, device)
    fed = {value.name for value in proto.graph.input}

    def run(batch: Feeds) -> dict[str, torch.Tensor]:
        given = _tensors(batch, torch.device(device))
        found = {**given, **engine.run_tensors(given, [name for name in names if name not in fed])}
        return {name: found[name] for name in names}

    return run


def _observing(proto: onnx.ModelProto, threads: int, device: torch.device | str) -> Engine:
    """An engine that is asked for values inside the graph.

    ONNX Runtime 1.31 fuses a convolution of an odd width into the sum behind it although its own output is asked for, and then
    does not find that output. Left as it is, the graph gives all of them.
    """
    try:
        return Engine.compile(proto, threads=threads, device=str(device))
    except InputError:
        return Engine.compile(proto, threads=threads, device=str(device), optimise=False)


class OnnxStepper(Stepper):
    """Runs a normalised ``model`` on ``batches`` in steps; see :class:`modhifi_graph.dialects.program.Stepper`."""

    def __init__(
        self,
        model: ir.Model,
        batches: Sequence[Feeds],
        wanted: Iterable[str] = (),
        threads: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._proto = to_proto(model)
        self._threads, self._device = threads, torch.device(device)
        self._constants = {constant.name: constant for constant in self._proto.graph.initializer}
        made = {name: i for i, node in enumerate(self._proto.graph.node) for name in node.output}
        super().__init__(made, self._uses(), [_tensors(batch, self._device) for batch in batches], wanted)

    def _segment(self, end: int, visited: set[str]) -> Callable[[Feeds], Feeds]:
        nodes = self._proto.graph.node[self._next : end]
        if not nodes or not self._live:
            return lambda batch: {}
        needed = {name for node in nodes for name in _reads(node)}
        made = [name for node in nodes for name in node.output if name]
        outputs = [name for name in made if name in visited or self._is_needed(name, end)]
        fed = [name for name in self._live[0] if name in needed]
        engine = self._engine(self._between(nodes, fed, outputs, needed, self._constants))
        return lambda batch: dict(engine.run_tensors({name: batch[name] for name in fed}, outputs))

    def _engine(self, segment: onnx.ModelProto) -> Engine:
        return _observing(segment, self._threads, self._device)

    def replace(self, name: str, array: np.ndarray) -> None:
        """Give the constant ``name`` another array, for nodes that have not run yet."""
        self._constants[name] = onnx.numpy_helper.from_array(array, name)

    def outcome(
        self, outputs: Sequence[str], weights: Mapping[str, Weights], constants: Mapping[str, np.ndarray] | None = None
    ) -> list[dict[str, torch.Tensor]]:
        for name in outputs:
            self._wanted[name] = max(1, self._wanted[name])
        nodes: list[onnx.NodeProto] = []
        trial: dict[str, onnx.TensorProto] = {}
        last = max([self._made[name] for name in outputs if name in self._made], default=-1)
        for node in self._proto.graph.node[self._next : last + 1]:
            replaced = [name for name in node.output if name in (constants or {})]
            nodes += _replaced(node, replaced) if replaced else [node]
            for name in replaced:
                trial[f"{name}_never"] = onnx.numpy_helper.from_array(np.zeros((), bool), f"{name}_never")
                trial[f"{name}_instead"] = onnx.numpy_helper.from_array((constants or {})[name], f"{name}_instead")
            if replaced or not node.output or node.output[0] not in weights:
                continue
            slot, weight, shift = weights[node.output[0]]
            changed = onnx.NodeProto()
            changed.CopyFrom(node)
            name = node.output[0]
            changed.input[slot], changed.output[0] = f"{name}_trial", f"{name}_before"
            trial[f"{name}_trial"] = onnx.numpy_helper.from_array(weight, f"{name}_trial")
            trial[f"{name}_shift"] = onnx.numpy_helper.from_array(shift, f"{name}_shift")
            nodes[-1:] = [changed, onnx.helper.make_node("Add", [f"{name}_before", f"{name}_shift"], [name])]
        needed = {name for node in nodes for name in _reads(node)}
        made = {name for node in nodes for name in node.output}
        fed = [name for name in self._live[0] if name in needed]
        left = [name for name in outputs if name in made]  # the others have been computed already
        if not left:
            return [{name: batch[name] for name in outputs} for batch in self._live]
        engine = self._engine(self._between(nodes, fed, left, needed, {**self._constants, **trial}))
        outcomes = []
        for batch in self._live:
            found = engine.run_tensors({name: batch[name] for name in fed}, left)
            outcomes.append({name: found[name] if name in found else batch[name] for name in outputs})
        return outcomes

    def rewire(self, output: str, slot: int, name: str, array: np.ndarray) -> None:
        """Let the node that makes ``output`` read a new constant ``name`` in ``slot``."""
        self.replace(name, array)
        node = self._proto.graph.node[self._made[output]]
        node.input.extend([""] * (slot + 1 - len(node.input)))
        node.input[slot] = name

    def _uses(self) -> dict[str, int]:
        last: dict[str, int] = {}
        for i, node in enumerate(self._proto.graph.node):
            last.update(dict.fromkeys(_reads(node), i))
        return last

    def _between(
        self,
        nodes: Sequence[onnx.NodeProto],
        fed: list[str],
        outputs: list[str],
        needed: set[str],
        constants: Mapping[str, onnx.TensorProto],
    ) -> onnx.ModelProto:
        segment = onnx.ModelProto(ir_version=self._proto.ir_version, opset_import=self._proto.opset_import)
        segment.graph.name = "step"
        segment.graph.node.extend(nodes)
        segment.graph.initializer.extend(tensor for name, tensor in constants.items() if name in needed)
        for name in fed:
            held = self._live[0][name]
            kind = int(from_torch_dtype(held.dtype))
            segment.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, [None] * held.ndim))
        segment.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        return segment


def _replaced(node: onnx.NodeProto, names: Sequence[str]) -> list[onnx.NodeProto]:
    """A node, some of whose outputs are replaced by constants of other names, broadcast to their shapes."""
    renamed = onnx.NodeProto()
    renamed.CopyFrom(node)
    for i, name in enumerate(node.output):
        renamed.output[i] = f"{name}_before" if name in names else name
    instead = [
        onnx.helper.make_node("Where", [f"{name}_never", f"{name}_before", f"{name}_instead"], [name]) for name in names
    ]
    return [renamed, *instead]


def _tensors(batch: Feeds, device: torch.device) -> Feeds:
    return {name: tensor(value).to(device) for name, value in batch.items()}


def _reads(node: onnx.NodeProto) -> set[str]:
    """Every outer value a node reads, its subgraphs included."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
            inner = {name for inside in graph.node for name in _reads(inside)}
            made = {name for inside in graph.node for name in inside.output} | {t.name for t in graph.initializer}
            names |= (inner | {value.name for value in graph.output}) - made - {value.name for value in graph.input}
    return names
