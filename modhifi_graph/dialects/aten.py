"""The ATen dialect: lifting what ``torch.export`` makes of a module into the neutral graph."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.utils import _pytree as pytree

from modhifi_graph.dialects.aten_call import Arguments, Call, NotCovered
from modhifi_graph.dialects.aten_module import assign, attribute, like, operator_name, readers, set_argument
from modhifi_graph.dialects.aten_stepper import AtenStepper, runner
from modhifi_graph.dialects.aten_table import ATEN, BOUNDARIES
from modhifi_graph.dialects.program import Program, Runner, Stepper
from modhifi_graph.graph import Dim, Graph, Op, Value
from modhifi_graph.interface import Feeds

OPSET = 24
"""The neutral kinds mean what this version of ONNX says."""


@dataclass(frozen=True)
class Lifted(Program):
    """A module and its neutral graph, with the way back from every op and value.

    Attributes
    ----------
    nodes : the call of every op.
    values : the node of every value; of an output of several the call itself.
    """

    module: fx.GraphModule
    graph: Graph
    nodes: dict[Op, fx.Node]
    values: dict[Value, fx.Node]

    def stepper(self, batches: Sequence[Feeds], wanted: Iterable[str] = (), threads: int = 0) -> AtenStepper:
        return AtenStepper(self.module, self.nodes, batches, wanted)

    def runner(self, names: Sequence[str], threads: int = 0) -> Runner:
        return runner(self.module, names)

    def assign(self, op: Op, slot: int, array: np.ndarray, stepper: Stepper | None = None) -> None:
        node, value = self.nodes[op], op.input(slot)
        model = value or op.inputs[1]  # a bias that is not there yet is made like the weight
        assert model is not None
        old = attribute(self.module, model.name)
        made = torch.from_numpy(np.ascontiguousarray(array)).to(old.device, old.dtype)
        if value is None:
            name, source = f"{model.name.removesuffix('weight')}bias", None
        elif len(readers(self.module, value.name)) == 1:
            assign(self.module, value.name, like(old, made))
            return
        else:
            name, source = f"{value.name}_{node.name}", self._argument(node, value.name)
        assign(self.module, name, like(old, made))
        with self.module.graph.inserting_before(node):
            fresh = self.module.graph.get_attr(name)
        fresh.meta["val"] = made
        if source is not None:
            node.replace_input_with(source, fresh)
        else:
            set_argument(node, "bias", fresh)
        self.module.recompile()

    def _argument(self, node: fx.Node, name: str) -> fx.Node:
        """The node that brings a parameter to a call."""
        return next(n for n in node.all_input_nodes if n.op == "get_attr" and n.target == name)


def lift(module: fx.GraphModule) -> Lifted:
    """Lift a functional module. Parameters and buffers stay where they are until they are read."""
    return _Lifter(module).run()


class _Lifter:
    """One walk over the nodes of a module."""

    def __init__(self, module: fx.GraphModule) -> None:
        self._module = module
        self._known: dict[fx.Node, Value] = {}
        self._parts: dict[fx.Node, list[Value]] = {}
        self._constants: dict[str, Value] = {}
        self._ops: dict[Op, fx.Node] = {}
        self._absorbed: set[fx.Node] = set()

    def run(self) -> Lifted:
        inputs, outputs = [], []
        for node in self._module.graph.nodes:
            if node.op == "placeholder" and isinstance(node.meta.get("val"), torch.Tensor):
                self._known[node] = _value(node.name, node.meta["val"])
                inputs.append(self._known[node])
            elif node.op == "get_attr":
                self._attribute(node)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                flat, _ = pytree.tree_flatten(node.args)
                outputs = [self._known[n] for n in flat if isinstance(n, fx.Node) and n in self._known]
        read = {value for op in self._ops for value in op.inputs} | set(outputs)
        left = {op: n for op, n in self._ops.items() if n not in self._absorbed or read & set(op.outputs)}
        graph = Graph(tuple(inputs), tuple(outputs), tuple(left))
        values = {value: node for node, value in self._known.items()}
        values.update({value: node for node, parts in self._parts.items() for value in parts if value not in values})
        return Lifted(self._module, graph, left, values)

    def _attribute(self, node: fx.Node) -> None:
        """A parameter or buffer: one value, however many nodes read it."""
        name = str(node.target)
        tensor = attribute(self._module, name)
        if not isinstance(tensor, torch.Tensor):
            return
        if name not in self._constants:
            made = _value(name, tensor)
            made.load = lambda: _array(tensor)
            self._constants[name] = made
        self._known[node] = self._constants[name]

    def _call(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            source, index = node.args
            if isinstance(source, fx.Node) and source in self._parts and isinstance(index, int):
                self._known[node] = self._parts[source][index]
            return
        results = self._results(node)
        if not results:
            return  # numbers, not tensors
        call = self._neutral(node)
        op = Op(
            call.kind,
            node.name,
            call.inputs,
            tuple(results),
            call.attributes,
            domain=call.domain,
            opset=OPSET,
        )
        self._ops[op] = node

    def _results(self, node: fx.Node) -> list[Value]:
        """The tensors that a call makes; one that nobody reads has no name."""
        made = node.meta.get("val")
        if isinstance(made, torch.Tensor):
            self._known[node] = _value(node.name, made)
            return [self._known[node]]
        if not isinstance(made, list | tuple) or not any(isinstance(part, torch.Tensor) for part in made):
            return []
        read = {user.args[1] for user in node.users if user.target is operator.getitem}
        parts = [
            _value(f"{node.name}.{i}" if i in read else "", part) if isinstance(part, torch.Tensor) else Value("", None)
            for i, part in enumerate(made)
        ]
        self._parts[node] = parts
        return parts

    def _neutral(self, node: fx.Node) -> Call:
        tensors = tuple(self._known[n] for n in node.all_input_nodes if n in self._known)
        if not isinstance(node.target, torch._ops.OpOverload):
            return _boundary(node, tensors, "nothing is known about this call")
        entry = ATEN.get(operator_name(node.target))
        if entry is None:
            pointwise = torch.Tag.pointwise in node.target.tags
            reason = BOUNDARIES.get(operator_name(node.target), "nothing is known about this op")
            return Call("Pointwise", tensors) if pointwise else _boundary(node, tensors, reason)
        try:
            call = entry(Arguments(self._arguments(node), node.name))
        except NotCovered as error:
            return _boundary(node, tensors, str(error))
        return self._untransposed(node, call) if call.kind in ("MatMul", "Gemm", "GroupedMatMul") else call

    def _arguments(self, node: fx.Node) -> dict[str, Any]:
        """By schema name, defaults filled in: nodes of tensors become values, lists stay lists."""
        schema = node.target._schema  # type: ignore[union-attr]
        found: dict[str, Any] = {}
        for i, argument in enumerate(schema.arguments):
            given = node.args[i] if i < len(node.args) else node.kwargs.get(argument.name, argument.default_value)
            found[argument.name] = _mapped(given, self._known)
        return found

    def _untransposed(self, node: fx.Node, call: Call) -> Call:
        """A product with transposed matrices is what ``linear`` is: the parameter itself is the weight."""
        weight = call.inputs[1]
        source = next((n for n in node.all_input_nodes if self._known.get(n) is weight), None)
        if source is None or operator_name(source.target) not in ("t", "mT", "permute", "transpose"):
            return call
        moved = ATEN[operator_name(source.target)](Arguments(self._arguments(source), source.name))
        (parameter,), order = moved.inputs, list(range(len(moved.attributes["perm"])))
        swapped = [*order[:-2], *order[:-3:-1]]
        rank = 3 if call.kind == "GroupedMatMul" else 2
        if parameter is None or not parameter.is_constant or moved.attributes["perm"] != swapped or len(order) != rank:
            return call
        self._absorbed.add(source)
        inputs = (call.inputs[0], parameter, *call.inputs[2:])
        return Call("GroupedMatMul" if rank == 3 else "Gemm", inputs, {**call.attributes, "transB": 1})


def _boundary(node: fx.Node, tensors: tuple[Value, ...], reason: str) -> Call:
    return Call(str(node.target), tensors, {"boundary": reason}, domain="aten")


def _mapped(argument: Any, known: Mapping[fx.Node, Value]) -> Any:
    """An argument with the nodes of tensors, also those in lists, replaced by their values."""
    if isinstance(argument, list | tuple):
        return [_mapped(part, known) for part in argument]
    return known.get(argument, argument) if isinstance(argument, fx.Node) else argument


def _value(name: str, tensor: torch.Tensor) -> Value:
    return Value(name, tuple(map(_dim, tensor.shape)), numpy_type(tensor.dtype))


def _dim(dim: int | torch.SymInt) -> Dim:
    """A number, a symbol by its name, or None for what is computed from symbols."""
    if isinstance(dim, int):
        return dim
    expression = dim.node.expr
    if expression.is_number:
        return int(expression)  # a symbol that export has found to be one number only
    return str(expression) if expression.is_symbol else None


def numpy_type(dtype: torch.dtype) -> np.dtype[Any] | None:
    """As numpy has it; bfloat16 and the like are computed in float32."""
    if dtype.is_floating_point and dtype.itemsize <= 2 and dtype is not torch.float16:
        return np.dtype(np.float32)
    try:
        return torch.empty(0, dtype=dtype).numpy().dtype
    except TypeError:
        return None


def _array(tensor: torch.Tensor) -> np.ndarray:
    plain = tensor.detach().cpu()
    return np.asarray((plain.float() if plain.dtype is torch.bfloat16 else plain).numpy())
