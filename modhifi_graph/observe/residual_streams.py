"""What a layer's output is worth: how much of the stream that it joins it makes up.

An error in a residual branch matters in proportion to the stream it is added to, not to the branch. A layer whose output
joins a stream counts its error over the stream's energy (its variance, after the addition); a layer that feeds other layers
counts as much as the ones it feeds. This is what lets one threshold serve a whole network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modhifi_graph.graph import Graph, Op, Value
from modhifi_graph.observe.consumers import Consumer

GATES = {"Mul", "MatMul", "Einsum", "Div", "Softmax", "Where"}
"""Ops after which an addition of activations no longer is a residual one (rotary embedding, attention masks)."""


@dataclass(frozen=True)
class Destination:
    """Where an output ends up: additions that it joins, layers that read it, and whether it leaves the graph."""

    joins: tuple[Value, ...]
    feeds: tuple[Consumer, ...]
    leaves: bool


def destinations(graph: Graph, consumers: Sequence[Consumer]) -> dict[Consumer, Destination]:
    """Follow every consumer's output to the first additions and layers it reaches."""
    readers, by_op, outputs = _tables(graph, consumers)
    return {consumer: _follow(consumer.y, False, readers, by_op, outputs) for consumer in consumers}


def read_by(graph: Graph, starts: Sequence[Value], consumers: Sequence[Consumer]) -> list[tuple[Consumer, ...]]:
    """The first layers that read what becomes of each value, when what is added to it on the way is no stream."""
    readers, by_op, outputs = _tables(graph, consumers)
    return [_follow(start, True, readers, by_op, outputs).feeds for start in starts]


def _tables(
    graph: Graph, consumers: Sequence[Consumer]
) -> tuple[Mapping[Value, list[Op]], Mapping[Op, list[Consumer]], set[Value]]:
    readers: dict[Value, list[Op]] = defaultdict(list)
    for op in graph.ops:
        for value in {v for v in op.inputs if v is not None}:
            readers[value].append(op)
    by_op: dict[Op, list[Consumer]] = defaultdict(list)
    for consumer in consumers:
        by_op[consumer.op].append(consumer)
    return readers, by_op, set(graph.outputs)


def _follow(
    start: Value,
    gated: bool,
    readers: Mapping[Value, list[Op]],
    by_op: Mapping[Op, list[Consumer]],
    outputs: set[Value],
) -> Destination:
    joins, feeds = dict[Value, None](), dict[Consumer, None]()
    seen: set[tuple[Value, bool]] = set()
    pending = [(start, gated)]
    while pending:
        value, gated = pending.pop()
        if (value, gated) in seen:
            continue
        seen.add((value, gated))
        for op in readers.get(value, ()):
            if op in by_op:
                feeds.update(dict.fromkeys(c for c in by_op[op] if c.x is value))
                continue
            activations = [v for v in op.inputs if v is not None and not v.is_constant]
            if op.kind in ("Add", "Sum") and len(activations) > 1 and not gated:
                joins[op.outputs[0]] = None
                continue
            gates = gated or (op.kind in GATES and len(activations) > 1) or op.kind == "Softmax"
            pending.extend((result, gates) for result in op.outputs)
    return Destination(tuple(joins), tuple(feeds), any(value in outputs for value, _ in seen))


def worth(
    consumers: Sequence[Consumer],
    where: Mapping[Consumer, Destination],
    own: Mapping[Consumer, float],
    streams: Mapping[str, float],
) -> dict[Consumer, float]:
    """For each consumer, what one unit of squared output error counts: its share of a stream over its own energy.

    Parameters
    ----------
    consumers : in an order in which the graph runs.
    own : the energy of each consumer's output.
    streams : the energy of every addition that :func:`destinations` names.
    """
    share: dict[Consumer, float] = {}
    for consumer in reversed(consumers):
        destination = where[consumer]
        shares = [own[consumer] / max(streams[v.name], 1e-30) for v in destination.joins]
        shares += [share[fed] for fed in destination.feeds if fed in share] if not shares else []
        shares += [1.0] if destination.leaves or not shares else []
        share[consumer] = min(1.0, max(shares))
    return {consumer: share[consumer] / max(own[consumer], 1e-30) for consumer in consumers}
