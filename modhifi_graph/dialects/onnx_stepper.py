"""Executing a model in steps: run up to some values, look at them, change a weight, go on.

Each step is one ONNX Runtime session over the nodes between two frontiers. What later nodes still need is kept, for every
batch, in memory; what nobody needs any more is dropped. Where a frontier would be too wide to keep, the one before it stays,
and the next step starts there again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from modhifi_graph.exporters.onnxruntime import Engine
from modhifi_graph.models import to_proto

Feeds = dict[str, np.ndarray]

Weights = tuple[int, np.ndarray, np.ndarray]

KEPT_BYTES = 1 << 31
"""A frontier that would take more than this, over all batches, is kept only if it takes less than the one before it."""


class Stepper:
    """Runs ``model`` on ``batches``, step by step in the order of its nodes.

    Parameters
    ----------
    model : a normalised model.
    batches : inputs by name, one dict a batch.
    wanted : the names that will be visited, each as often as it will be; they are kept until then.
    threads : intra-op threads, 0 for all cores.
    """

    def __init__(self, model: ir.Model, batches: Sequence[Feeds], wanted: Iterable[str] = (), threads: int = 0) -> None:
        self._proto = to_proto(model)
        self._threads = threads
        self._constants = {tensor.name: tensor for tensor in self._proto.graph.initializer}
        self._next = 0
        self._live: list[Feeds] = [dict(batch) for batch in batches]
        self._last_use = self._uses()
        self._wanted = Counter(wanted)
        self._made = {name: i for i, node in enumerate(self._proto.graph.node) for name in node.output}

    def visit(self, names: Sequence[str]) -> Iterator[list[np.ndarray]]:
        """The named values of every batch in turn, running as many nodes as that takes.

        A batch's values are dropped after its turn unless a later node or visit needs them, so that no more than one batch
        of what is only looked at is ever held. The iterator must be exhausted before the next visit.
        """
        yield from self._turns(max([self._next, *(self._made[n] + 1 for n in names if n in self._made)]), names)

    def _turns(self, end: int, names: Sequence[str]) -> Iterator[list[np.ndarray]]:
        engine, fed, outputs = self._compile(end, set(names))
        self._wanted.subtract(names)
        start, moves = self._next, True
        for number, batch in enumerate(self._live):
            found = dict(batch)
            if engine is not None:
                found.update(engine.run({name: batch[name] for name in fed}, outputs))
            kept = {name: found[name] for name in found if self._is_needed(name, end)}
            if number == 0:
                size = _bytes(kept)
                moves = size * len(self._live) <= KEPT_BYTES or size <= _bytes(batch)
            yield [found[name] for name in names]
            self._live[number] = kept if moves else {n: a for n, a in batch.items() if self._is_needed(n, start)}
        if moves:
            self._next = end

    @property
    def batches(self) -> int:
        return len(self._live)

    def advance(self, name: str) -> None:
        """Run every node before the one that makes ``name``, unless what that leaves is too much to keep."""
        position = self._made[name]
        if position > self._next:
            for _ in self._turns(position, []):
                pass

    def _is_needed(self, name: str, position: int) -> bool:
        """Whether a node from ``position`` on, or a visit to come, reads the value."""
        return self._last_use.get(name, -1) >= position or self._wanted[name] > 0

    def _compile(self, end: int, visited: set[str]) -> tuple[Engine | None, list[str], list[str]]:
        """An engine for the nodes up to ``end``, what it must be fed, and what of it is to be kept or looked at."""
        nodes = self._proto.graph.node[self._next : end]
        if not nodes or not self._live:
            return None, [], []
        needed = {name for node in nodes for name in _reads(node)}
        made = [name for node in nodes for name in node.output if name]
        outputs = [name for name in made if name in visited or self._is_needed(name, end)]
        fed = [name for name in self._live[0] if name in needed]
        segment = self._segment(nodes, fed, outputs, needed, self._constants)
        return Engine.compile(segment, threads=self._threads), fed, outputs

    def replace(self, name: str, array: np.ndarray) -> None:
        """Give the constant ``name`` another array, for nodes that have not run yet."""
        self._constants[name] = onnx.numpy_helper.from_array(array, name)

    def outcome(self, outputs: Sequence[str], weights: Mapping[str, Weights]) -> list[Feeds]:
        """What the rest of the model would compute if some ops had other weights; nothing is changed.

        ``weights`` maps the name of an op's output to the input slot, the new weight, and what to add to the output.
        An output that has been asked for is kept when its node runs: other outcomes will be compared with it.
        """
        for name in outputs:
            self._wanted[name] = max(1, self._wanted[name])
        nodes = []
        trial: dict[str, onnx.TensorProto] = {}
        for node in self._proto.graph.node[self._next :]:
            nodes.append(node)
            if not node.output or node.output[0] not in weights:
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
        constants = {**self._constants, **trial}
        engine = Engine.compile(self._segment(nodes, fed, left, needed, constants), threads=self._threads)
        results = []
        for batch in self._live:
            found = engine.run({name: batch[name] for name in fed}, left)
            results.append({name: found[name] if name in found else batch[name] for name in outputs})
        return results

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

    def _segment(
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
            array = self._live[0][name]
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            segment.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, [None] * array.ndim))
        segment.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        return segment


def _bytes(values: Feeds) -> int:
    return sum(array.nbytes for array in values.values())


def _reads(node: onnx.NodeProto) -> set[str]:
    """Every outer value a node reads, its subgraphs included."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
            inner = {name for inside in graph.node for name in _reads(inside)}
            made = {name for inside in graph.node for name in inside.output} | {t.name for t in graph.initializer}
            names |= (inner | {value.name for value in graph.output}) - made - {value.name for value in graph.input}
    return names
