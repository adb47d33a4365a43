"""Running an exported module: all at once for its values, or in steps, node by node where its tensors are."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from modhifi_graph.dialects.aten_module import constant
from modhifi_graph.dialects.program import Runner, Stepper, Weights
from modhifi_graph.graph import Op
from modhifi_graph.interface import Feeds


class AtenStepper(Stepper):
    """Runs a functional ``module`` on ``batches`` in steps; see :class:`modhifi_graph.dialects.program.Stepper`.

    What is kept goes by the names of nodes; a value that is one of several results is called ``node.i``, as in the graph.
    ``calls`` has the call of every op whose weight may be changed.
    """

    def __init__(
        self, module: fx.GraphModule, calls: Mapping[Op, fx.Node], batches: Sequence[Feeds], wanted: Iterable[str] = ()
    ) -> None:
        self._module = module
        self._ops = {node: op for op, node in calls.items()}
        self._nodes = [node for node in module.graph.nodes if node.op == "call_function"]
        self._names = {node: name_of(node) for node in module.graph.nodes}
        made = {self._names[node]: i for i, node in enumerate(self._nodes)}
        super().__init__(made, self._uses(), batches, wanted)

    def _uses(self) -> dict[str, int]:
        last: dict[str, int] = {}
        for i, node in enumerate(self._nodes):
            last.update({self._names[source]: i for source in node.all_input_nodes if source.op != "get_attr"})
        return last

    def _segment(self, end: int, visited: set[str]) -> Callable[[Feeds], Feeds]:
        nodes = self._nodes[self._next : end]
        return lambda batch: self._run(nodes, batch, lambda name: name in visited or self._is_needed(name, end))

    def _run(
        self,
        nodes: Sequence[fx.Node],
        held: Feeds,
        asked: Callable[[str], bool],
        changes: Mapping[fx.Node, Weights] | None = None,
        constants: Mapping[str, np.ndarray] | None = None,
    ) -> Feeds:
        """Execute some nodes; a value is dropped after its last use unless it is asked for."""
        values: dict[str, Any] = dict(held)
        position = {node: self._made[self._names[node]] for node in nodes}
        with torch.no_grad():
            for node in nodes:
                result = self._call(node, values, (changes or {}).get(node))
                instead = (constants or {}).get(self._names[node])
                if instead is not None:
                    result = torch.from_numpy(instead).to(result.device, result.dtype).expand_as(result).clone()
                values[self._names[node]] = result
                for source in node.all_input_nodes:
                    name = self._names.get(source, "")
                    if name in values and self._last_use.get(name, -1) <= position[node] and not asked(name):
                        del values[name]
        return {self._names[node]: values[self._names[node]] for node in nodes if self._names[node] in values}

    def _call(self, node: fx.Node, values: Mapping[str, Any], change: Weights | None = None) -> Any:
        def load(source: fx.Node) -> Any:
            if source.op == "get_attr":
                return constant(self._module, str(source.target))
            return values[self._names[source]]

        found: Any = fx.node.map_arg((node.args, node.kwargs), load)
        args, kwargs = list(found[0]), found[1]
        if change is None:
            return node.target(*args, **kwargs)  # type: ignore[operator]
        slot, weight, shift = change
        place, arrange = _place(node, self._ops[node], slot)
        device = next(a.device for a in args if isinstance(a, torch.Tensor))
        args[place] = arrange(torch.from_numpy(weight).to(device, args[place].dtype))
        result = node.target(*args, **kwargs)  # type: ignore[operator]
        return result + torch.from_numpy(shift).to(device, result.dtype)

    def outcome(
        self, outputs: Sequence[str], weights: Mapping[str, Weights], constants: Mapping[str, np.ndarray] | None = None
    ) -> list[dict[str, torch.Tensor]]:
        for name in outputs:
            self._wanted[name] = max(1, self._wanted[name])
        changes = {self._nodes[self._made[name]]: change for name, change in weights.items()}
        nodes = self._nodes[self._next :]
        found = []
        for batch in self._live:
            results = {**batch, **self._run(nodes, batch, lambda name: name in outputs, changes, constants)}
            found.append({name: results[name] for name in outputs})
        return found


def name_of(node: fx.Node) -> str:
    """What the value of a node is called in the neutral graph."""
    if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
        return f"{node.args[0].name}.{node.args[1]}"
    return node.name


def _place(node: fx.Node, op: Op, slot: int) -> tuple[int, Callable[[torch.Tensor], torch.Tensor]]:
    """Which argument of an op's call holds an input of the op, and how the call wants it arranged."""
    value = op.input(slot)
    assert value is not None
    for i, argument in enumerate(node.args):
        if not isinstance(argument, fx.Node):
            continue
        if argument.op == "get_attr" and argument.target == value.name:
            return i, lambda array: array
        sources = argument.all_input_nodes
        if len(sources) == 1 and sources[0].op == "get_attr" and sources[0].target == value.name:
            return i, lambda array, call=argument: call.target(array, *call.args[1:], **call.kwargs)
    raise LookupError(f"{op}: input {slot} is no argument of its call")


def runner(module: fx.GraphModule, names: Sequence[str]) -> Runner:
    """Runs whole batches for the named values."""
    wanted = set(names)
    stepper = AtenStepper(module, {}, [])

    def run(batch: Feeds) -> dict[str, torch.Tensor]:
        found = {**batch, **stepper._run(stepper._nodes, batch, wanted.__contains__)}
        return {name: found[name] for name in names}

    return run
