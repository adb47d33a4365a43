"""Residual branches: in ``s' = s + f(s)`` all of f is one component of the stream, and ``s' = s`` without it.

A branch is every op whose results reach one addition through one of its summands and nothing else. It may go where the other
summand is the stream: where a path without any contraction leads to it from what the branch reads (an identity, slices and
pads, a normalisation). Where both summands are made of contractions from the same values, as a projection shortcut is beside
its block, the one with more of them is the branch.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from modhifi_graph.axes.groups import Contraction, Groups
from modhifi_graph.graph import Dim, Graph, Op, Value


@dataclass(frozen=True, eq=False)
class Branch:
    """What one addition adds to a stream, and what makes it.

    Attributes
    ----------
    name : the last weight in it, by which plans and patterns know it.
    addition : the op that adds it.
    slot : the input of the addition that holds its value; the stream is in the other.
    ops : all that only make its value, in the order in which they run, branches inside it included.
    contraction : the last contraction with a weight, whose weight it is called after.
    """

    name: str
    addition: Op
    slot: int
    ops: tuple[Op, ...]
    contraction: Contraction

    @property
    def value(self) -> Value:
        """What is added."""
        return _input(self.addition, self.slot)

    @property
    def stream(self) -> Value:
        """What is left once it is gone."""
        return _input(self.addition, 1 - self.slot)

    @property
    def sum(self) -> Value:
        return self.addition.outputs[0]

    @cached_property
    def parameters(self) -> frozenset[str]:
        """The names of the constants that its ops read."""
        return frozenset(v.name for op in self.ops for v in op.inputs if v is not None and v.is_constant)


@dataclass(frozen=True)
class Refused:
    """An addition that looks like a residual one, and why no branch of it may go."""

    addition: Op
    reason: str


@dataclass(frozen=True)
class Branches:
    """The branches that may go, in the order of their additions, and the additions without one."""

    found: tuple[Branch, ...]
    refused: tuple[Refused, ...]

    def by_name(self) -> dict[str, Branch]:
        return {branch.name: branch for branch in self.found}


def find_branches(groups: Groups) -> Branches:
    """Look at every addition of two activations. O(additions * ops)."""
    search = _Search(groups)
    found: list[Branch] = []
    refused: list[Refused] = []
    for op in groups.coupling.graph.ops:
        if op.kind != "Add" or op.domain or len(list(_reads(op))) < 2:
            continue
        bodies = search.body(op, 0), search.body(op, 1)
        if not any(map(search.weighted, bodies)):
            continue
        answer = search.hindrance(op) or search.side(op, bodies)
        if isinstance(answer, str):
            refused.append(Refused(op, answer))
        else:
            last = search.last(_input(op, answer), bodies[answer])
            found.append(Branch(_new_name(last, found), op, answer, bodies[answer], last))
    return Branches(tuple(found), tuple(refused))


def live(graph: Graph, removed: Collection[Branch]) -> set[Op]:
    """The ops that are left without some branches: those that an output still needs, the bypassed additions left out."""
    streams = {branch.addition: branch.stream for branch in removed}
    needed = set(graph.outputs)
    left: set[Op] = set()
    for op in reversed(graph.ops):
        if any(value in needed for value in op.outputs):
            if op in streams:
                needed.add(streams[op])
            else:
                left.add(op)
                needed.update(_reads(op))
    return left


class _Search:
    """What is asked again and again about one graph. Sets of activations are kept as the bits of integers."""

    def __init__(self, groups: Groups) -> None:
        self._ops, self._outputs = groups.coupling.graph.ops, set(groups.coupling.graph.outputs)
        self._contractions: dict[Op, list[Contraction]] = defaultdict(list)
        for contraction in groups.contractions:
            self._contractions[contraction.op].append(contraction)
        self._place = {op: i for i, op in enumerate(self._ops)}
        self._maker = {value: op for op in self._ops for value in op.outputs}
        self._captured = {value for op in self._ops for value in op.captured}
        self._readers: dict[Value, list[Op]] = defaultdict(list)
        for op in self._ops:
            for value in _reads(op):
                self._readers[value].append(op)
        inputs = groups.coupling.graph.inputs
        self._before = self._sources(inputs, set())
        self._plain = self._sources(inputs, set(self._contractions))

    def _sources(self, inputs: Sequence[Value], closed: Collection[Op]) -> dict[Value, int]:
        """Every activation with all the floating-point ones that it is made from, those behind ``closed`` ops left out."""
        bits: dict[Value, int] = {}
        for value in inputs:
            bits[value] = self._bit(value, len(bits))
        for op in self._ops:
            behind = 0
            for value in _reads(op) if op not in closed else ():
                behind |= bits.get(value, 0)
            for value in op.outputs:
                bits[value] = behind | self._bit(value, len(bits))
        return bits

    @staticmethod
    def _bit(value: Value, number: int) -> int:
        return 1 << number if value.is_float else 0

    def body(self, addition: Op, slot: int) -> tuple[Op, ...]:
        """The ops whose results reach nothing but this summand. Judged from the last to the first, readers before makers."""
        inside, stream = {addition}, _input(addition, 1 - slot)
        pending = [-self._place[op] for op in (self._maker.get(_input(addition, slot)),) if op is not None]
        seen = set(pending)
        while pending:
            op = self._ops[-heapq.heappop(pending)]
            readers = {reader for result in op.outputs for reader in self._readers.get(result, ())}
            if not readers <= inside or any(result is stream or result in self._outputs for result in op.outputs):
                continue
            inside.add(op)
            for maker in {self._maker[value] for value in _reads(op) if value in self._maker}:
                if -self._place[maker] not in seen:
                    seen.add(-self._place[maker])
                    heapq.heappush(pending, -self._place[maker])
        return tuple(sorted(inside - {addition}, key=self._place.__getitem__))

    def weighted(self, body: Iterable[Op]) -> list[Contraction]:
        """The contractions with a weight among some ops, one an op."""
        return [c for op in body for c in [c for c in self._contractions.get(op, ()) if c.weighted][:1]]

    def last(self, value: Value, body: Sequence[Op]) -> Contraction:
        """The contraction with a weight that comes last before a value; of several side by side the first by name."""
        weighted = {contraction.op: contraction for contraction in self.weighted(body)}
        inside, found = set(body), []
        pending, seen = [value], {value}
        while pending:
            op = self._maker.get(pending.pop())
            if op in weighted:
                found.append(weighted[op])
            elif op in inside:
                new = [source for source in _reads(op) if source not in seen]
                seen.update(new)
                pending += new
        return min(found, key=_weight)

    def hindrance(self, op: Op) -> str | None:
        """Why neither summand may go, whatever they are."""
        result, values = op.outputs[0], (_input(op, 0), _input(op, 1), op.outputs[0])
        if result in self._outputs:
            return "the sum is an output of the graph"
        if result in self._captured:
            return "the sum is read by a subgraph"
        if any(value.shape is None or None in value.shape for value in values):
            return "a length of the sum is known only at run time"
        lengths = [set(dims) for dims in zip(*(value.shape or () for value in values), strict=False)]
        if len({value.rank for value in values}) > 1 or any(len(n) > 1 and all(map(_is_number, n)) for n in lengths):
            return "a summand is broadcast"
        if any(len(n) > 1 for n in lengths):
            return "a length of the sum is known only at run time"
        if not result.is_float or len({value.dtype for value in values}) > 1:
            return "the sum is not of one floating-point type"
        return None

    def side(self, op: Op, bodies: Sequence[Sequence[Op]]) -> int | str:
        """Which summand is the branch, or why none is."""
        read = [self._read(body) for body in bodies]
        depths = [len(self.weighted(body)) for body in bodies]
        beside = [_input(op, 1), _input(op, 0)]
        shortcut = [bool(depths[i]) and any(self._plain[beside[i]] & self._plain[v] for v in read[i]) for i in (0, 1)]
        if all(shortcut):
            return "either summand could be the stream"
        if any(shortcut):
            slot = shortcut.index(True)
            leak = self._leak(beside[slot], read[slot])
            return slot if leak is None else f"{leak.name!r}, which the branch makes, is read elsewhere or an output"
        if not all(depths) or set(read[0]) != set(read[1]):
            return "neither summand comes without a contraction from what the other is made of"
        return "either summand could be the stream" if depths[0] == depths[1] else depths.index(max(depths))

    def _read(self, body: Sequence[Op]) -> list[Value]:
        """The floating-point activations that a body reads and does not make."""
        made = {value for op in body for value in op.outputs}
        return [v for v in dict.fromkeys(v for op in body for v in _reads(op)) if v not in made and v.is_float]

    def _leak(self, stream: Value, read: Sequence[Value]) -> Value | None:
        """A value that is made from the stream by a contraction, as a part of the branch that would have to stay."""
        stems = [value for value in read if self._plain[value] & self._before[stream]]
        for value in read:
            if value not in stems and any(self._before[value] & self._own(stem) for stem in stems):
                return value
        return None

    def _own(self, value: Value) -> int:
        """The bit of one value: what it is made from was numbered before it."""
        return 1 << (self._before[value].bit_length() - 1)


def _new_name(contraction: Contraction, taken: Sequence[Branch]) -> str:
    """The name of the weight; a number is added where branches share one."""
    name, names = _weight(contraction), {branch.name for branch in taken}
    return next(n for n in (name, *(f"{name}#{i}" for i in range(2, len(names) + 3))) if n not in names)


def _weight(contraction: Contraction) -> str:
    return _input(contraction.op, contraction.other).name


def _is_number(dim: Dim) -> bool:
    return isinstance(dim, int)


def _reads(op: Op) -> Iterator[Value]:
    """The activations that an op reads, in its subgraphs too."""
    return (value for value in (*op.inputs, *op.captured) if value is not None and not value.is_constant)


def _input(op: Op, slot: int) -> Value:
    value = op.inputs[slot]
    assert value is not None
    return value
