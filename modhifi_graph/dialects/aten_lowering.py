"""Lowering onto a module: parameters sliced, and every number that ``torch.export`` burned into a call made anew."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from modhifi_graph.axes.branches import Branch
from modhifi_graph.axes.layout import Layout, leaves
from modhifi_graph.axes.shrink import Shrink
from modhifi_graph.dialects.aten import Lifted
from modhifi_graph.dialects.aten_module import argument, assign, attribute, like, parameters_of, set_argument
from modhifi_graph.graph import Op

INFERRED = -1
"""What an entry of a target shape says, where it says no length."""


@dataclass(frozen=True)
class Lowering:
    """One plan being lowered onto one module, in place."""

    lifted: Lifted
    shrink: Shrink

    def run(self) -> None:
        """Slice every parameter and buffer and rewrite every stale argument."""
        self._slice()
        for op in self.lifted.graph.ops:
            node = self.lifted.nodes[op]
            for count in self.shrink.attributes(op).values():
                taken = parameters_of(node)
                set_argument(node, next(name for name in ("groups", "num_groups", "group") if name in taken), count)
            if op.kind in REWRITES and not op.domain:
                REWRITES[op.kind](self, op, node)
        self._update_shapes()
        self.lifted.module.recompile()

    def _update_shapes(self) -> None:
        """Note the new lengths with every value; symbols stay what they are."""
        known = set(self.lifted.nodes.values())
        for node in self.lifted.module.graph.nodes:
            sources = node.all_input_nodes
            constant = bool(sources) and all(source.op == "get_attr" for source in sources)
            if node.op == "call_function" and node not in known and constant:
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
                node.meta["val"] = node.target(*args, **kwargs)
        for op in self.lifted.graph.ops:
            node = self.lifted.nodes[op]
            parts = list(node.meta["val"]) if isinstance(node.meta["val"], list | tuple) else [node.meta["val"]]
            for i, value in enumerate(op.outputs):
                axes = self.shrink.coupling.axes(value)
                if axes is not None and any(map(self.shrink.changed, axes)):
                    dims = [self._length(dim, axis) for dim, axis in zip(parts[i].shape, axes, strict=True)]
                    parts[i] = parts[i].new_empty(dims)
            node.meta["val"] = parts if isinstance(node.meta["val"], list | tuple) else parts[0]
            for user in node.users:
                if user.target is operator.getitem and isinstance(user.args[1], int):
                    user.meta["val"] = parts[user.args[1]]

    def _length(self, dim: int | torch.SymInt, axis: Layout) -> int | torch.SymInt:
        if not self.shrink.changed(axis):
            return dim
        before, after = self._known(axis)
        return dim // before * after

    def _known(self, axis: Layout) -> tuple[int, int]:
        """What the known factors of an axis come to, before and after."""
        known = [factor for factor in leaves(axis) if factor.size is not None]
        if (length := self.shrink.after(axis)) is not None:
            return axis.size or 1, length
        return math.prod(f.size or 1 for f in known), math.prod(self.shrink.after(f) or 1 for f in known)

    def _slice(self) -> None:
        """Slice parameters and buffers; where two calls want different slices of one, each gets its own."""
        module = self.lifted.module
        wanted: dict[str, dict[tuple[bytes, ...], list[tuple[Op, int]]]] = {}
        chosen: dict[tuple[str, tuple[bytes, ...]], list[torch.Tensor]] = {}
        readers: dict[str, int] = {}
        for op in self.lifted.graph.ops:
            for value in op.inputs:
                if value is not None and value.is_constant:
                    readers[value.name] = readers.get(value.name, 0) + 1
        for op, slot, value, positions in self.shrink.constants():
            key = tuple(p.tobytes() for p in positions)
            wanted.setdefault(value.name, {}).setdefault(key, []).append((op, slot))
            chosen[value.name, key] = [torch.from_numpy(p) for p in positions]
        for name, slices in wanted.items():
            tensor = attribute(module, name)
            whole = readers[name] == sum(map(len, slices.values())) and len(slices) == 1
            for number, (key, uses) in enumerate(slices.items()):
                made = sliced(tensor, chosen[name, key])
                if whole:
                    assign(module, name, made)
                    continue
                own = f"{name}_slim{number or ''}"
                assign(module, own, made)
                for op, slot in uses:
                    self._reread(op, slot, name, own)

    def _reread(self, op: Op, slot: int, old: str, new: str) -> None:
        """Let one call read another parameter."""
        node, graph = self.lifted.nodes[op], self.lifted.module.graph
        for source in node.all_input_nodes:
            through = source if source.op == "get_attr" else next((n for n in source.all_input_nodes), source)
            if through.op == "get_attr" and through.target == old:
                with graph.inserting_before(node):
                    fresh = graph.get_attr(new)
                    fresh.meta["val"] = attribute(self.lifted.module, new)
                    if source is not through:
                        call: Any = source.target
                        made = call(fresh.meta["val"], *source.args[1:], **source.kwargs)
                        fresh = graph.call_function(call, (fresh, *source.args[1:]), source.kwargs)
                        fresh.meta["val"] = made
                node.replace_input_with(source, fresh)
                return

    def sizes(self, node: fx.Node, name: str, axes: Sequence[Layout]) -> None:
        """Rewrite a target shape. An entry computed at run time is scaled by what is known in it."""
        old = list(argument(node, name))
        new: list[Any] = []
        for entry, axis in zip(old, axes, strict=True):
            if entry == INFERRED or not self.shrink.changed(axis):
                new.append(entry)
            elif (known := self.shrink.after(axis)) is not None:
                new.append(known)
            else:
                new.append(self._scaled(node, entry, axis))
        set_argument(node, name, new)

    def _scaled(self, node: fx.Node, entry: Any, axis: Layout) -> Any:
        """An entry that nests known factors in a length of run time: divided by what they were, times what they will be."""
        before, after = self._known(axis)
        graph = self.lifted.module.graph
        with graph.inserting_before(node):
            outer = graph.call_function(operator.floordiv, (entry, before))
            return graph.call_function(operator.mul, (outer, after))


def bypass(lifted: Lifted, branch: Branch) -> None:
    """Let everything that reads a sum read its stream instead, and erase the branch.

    Dead code elimination alone would spare what PyTorch takes for random, such as attention that may drop out.
    """
    node = lifted.nodes[branch.addition]
    stream = node.args[1 - branch.slot]
    assert isinstance(stream, fx.Node), "both summands are tensors"
    node.replace_all_uses_with(stream)
    graph = lifted.module.graph
    left = set(graph.nodes)
    for made in (node, *(lifted.nodes[op] for op in reversed(branch.ops))):
        for part in list(made.users):
            if part.target is operator.getitem and not part.users:
                graph.erase_node(part)
        if made in left and not made.users:
            graph.erase_node(made)


def sliced(tensor: torch.Tensor, positions: Sequence[torch.Tensor]) -> torch.Tensor:
    """A tensor at some positions of every axis; a parameter stays one, with its gradient setting."""
    found = tensor.detach()
    for axis, kept in enumerate(positions):
        found = found.index_select(axis, kept.to(found.device))
    return like(tensor, found)


def _reshape(lowering: Lowering, op: Op, node: fx.Node) -> None:
    results = lowering.shrink.results(op)
    if not results:
        return
    name = next((n for n in ("size", "shape") if n in parameters_of(node)), None)
    if name is not None:
        lowering.sizes(node, name, results)
    elif "sizes" in parameters_of(node):  # unflatten says what one axis becomes
        sizes = list(argument(node, "sizes"))
        where = argument(node, "dim") % (len(results) - len(sizes) + 1)
        lowering.sizes(node, "sizes", results[where : where + len(sizes)])


def _expand(lowering: Lowering, op: Op, node: fx.Node) -> None:
    results = lowering.shrink.results(op)
    if results and "size" in parameters_of(node):
        lowering.sizes(node, "size", results)


def _split(lowering: Lowering, op: Op, node: fx.Node) -> None:
    sizes = lowering.shrink.split(op)
    if sizes is not None:
        node.target = torch.ops.aten.split_with_sizes.default
        node.args, node.kwargs = (node.args[0], sizes, int(op.attributes["axis"])), {}


def _slice(lowering: Lowering, op: Op, node: fx.Node) -> None:
    bounds = lowering.shrink.bounds(op)
    if bounds is not None:
        set_argument(node, "start", bounds[0][0])
        set_argument(node, "end", bounds[1][0])


def _gather(lowering: Lowering, op: Op, node: fx.Node) -> None:
    indices = lowering.shrink.indices(op)
    if indices is None:
        return
    if indices.ndim == 0:
        set_argument(node, "index", int(indices))
        return
    module, graph, name = lowering.lifted.module, lowering.lifted.module.graph, f"{node.name}_slim_index"
    source = next(n for n in node.all_input_nodes if n.op == "get_attr" and n is not node.args[0])
    assign(module, name, torch.from_numpy(indices).to(attribute(module, str(source.target)).device))
    with graph.inserting_before(node):
        node.replace_input_with(source, graph.get_attr(name))


def _pad(lowering: Lowering, op: Op, node: fx.Node) -> None:
    amounts = lowering.shrink.pads(op)
    if amounts is not None:
        name = "pad" if "pad" in parameters_of(node) else "padding"
        count = len(list(argument(node, name))) // 2
        set_argument(node, name, [n for before_after in amounts[::-1][:count] for n in before_after])


def _attention(lowering: Lowering, op: Op, node: fx.Node) -> None:
    """The default scale is that of the dense head dimension, whatever is left of it."""
    query = lowering.shrink.coupling.operand(op, 0)
    assert query is not None
    if lowering.shrink.changed(query[-1]) and argument(node, "scale") is None:
        set_argument(node, "scale", 1 / math.sqrt(query[-1].size or 1))
    # Its result may lie otherwise in memory where queries and values differ in width: no view of it is sure to exist.
    if any(map(lowering.shrink.changed, (*query, *lowering.shrink.results(op)))):
        for other in lowering.lifted.module.graph.nodes:
            if other.target is torch.ops.aten.view.default:
                other.target = torch.ops.aten.reshape.default


REWRITES: Mapping[str, Callable[[Lowering, Op, fx.Node], None]] = {
    "Reshape": _reshape,
    "Expand": _expand,
    "ConstantOfShape": _expand,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "ScaledDotProductAttention": _attention,
}
