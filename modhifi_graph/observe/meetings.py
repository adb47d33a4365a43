"""Where two activations are contracted with each other, as queries and keys are: ``logit_ij = sum over d of q_id k_jd``.

No weight stands there, but projections stand before it, and what is on the way may let a repair be folded into them
(:mod:`modhifi_graph.observe.routes`). Which channels of a projection are which dimension of which head is found by running
the model: with its weight at zero and its bias counting channels, the projection tells its channels' numbers to all that
only moves them about.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from modhifi_graph.axes.groups import Contraction, Group, Groups
from modhifi_graph.axes.layout import owners
from modhifi_graph.dialects.program import Program, Weights
from modhifi_graph.graph import Dim, Op, Value
from modhifi_graph.interface import Feeds
from modhifi_graph.observe.routes import MOVES, Projection, Route, Routes
from modhifi_graph.observe.sites import broadcast_channels, readers_of

DIGIT, UNIT = 64, 1 / 16
"""Channel numbers are told in two digits to this base, in this unit: half precision can tell them, and does not overflow."""

SMALL = 1e-3
"""Where a channel's number comes scaled by less than this times the largest scale, it is not read."""


@dataclass(frozen=True, eq=False)
class Side:
    """One operand of a meeting, and the projection that it comes from.

    Attributes
    ----------
    channels : the channel of the projection that is each position of the group in each head, shape (heads, positions).
    """

    projection: Projection
    channels: np.ndarray


@dataclass(frozen=True, eq=False)
class Meeting:
    """A contraction of two activations over the components of one group.

    Attributes
    ----------
    contraction : where it is in the graph.
    group : whose components are contracted.
    heads : the axes, of those that both operands have, along which channels differ: heads, not samples.
    sides : the operands (q, k) that a repair is folded into: both where any matrix over the components can be, one where
        only a factor each can.
    units : for every head the number of the maps that it is repaired with: heads that share keys share them.
    softmax : what the result is multiplied with before a softmax over its last axis; None where there is no softmax.
    """

    contraction: Contraction
    group: Group
    heads: tuple[int, ...]
    sides: tuple[Side, ...]
    units: np.ndarray
    softmax: float | None

    @property
    def mixes(self) -> bool:
        return len(self.sides) == 2

    @property
    def op(self) -> Op:
        return self.contraction.op

    @property
    def operands(self) -> tuple[Value, Value]:
        q, k = (self.op.inputs[slot] for slot in (self.contraction.slot, self.contraction.other))
        assert q is not None and k is not None
        return q, k

    @property
    def columns(self) -> np.ndarray:
        """The component that each contracted position of the group belongs to, shape (positions,)."""
        owner = owners(self.contraction.layout, self.group.factor)
        return owner[owner >= 0]

    def magnitudes(self) -> np.ndarray:
        """The squared norm of the projections' rows that make each component, shape (components,)."""
        rows = [np.square(side.projection.consumer.weight()[0][side.channels]).sum((0, 2)) for side in self.sides]
        return np.bincount(self.columns, np.sum(rows, 0), minlength=self.group.size)

    def instances(self, q: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The group's positions of both operands, (heads, instances, rows, positions): an instance is a sample (or window)."""
        mine = torch.from_numpy(np.flatnonzero(owners(self.contraction.layout, self.group.factor) >= 0)).to(q.device)
        q, k = (_by_head(x, self.heads).index_select(-1, mine) for x in aligned(self.op, q, k))
        return q, k


def aligned(op: Op, q: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The operands as (*batch, rows, positions), with the same batch axes."""
    if op.kind == "MatMul":
        k = k.transpose(-1, -2)
    elif op.attributes.get("grouped"):
        k = k.repeat_interleave(q.shape[-3] // k.shape[-3], -3)
    batch = np.broadcast_shapes(q.shape[:-2], k.shape[:-2])
    return q.expand(*batch, *q.shape[-2:]), k.expand(*batch, *k.shape[-2:])


def _by_head(x: torch.Tensor, heads: Sequence[int]) -> torch.Tensor:
    count = math.prod(x.shape[axis] for axis in heads)
    return x.movedim(tuple(heads), tuple(range(len(heads)))).reshape(count, -1, *x.shape[-2:])


def meetings_of(
    program: Program, groups: Groups, wanted: Sequence[Group], batches: Sequence[Feeds], threads: int = 0
) -> dict[tuple[Contraction, Group], Meeting | str]:
    """The meetings of some groups, or why they cannot be repaired. Four forward passes over the first batch."""
    routes, readers = Routes(groups), readers_of(groups.coupling.graph)
    found: dict[tuple[Contraction, Group], Meeting | str] = {}
    ways: dict[tuple[Contraction, Group], list[Route | str]] = {}
    for group in wanted:
        for contraction in group.consumers:
            if contraction.weighted:
                continue
            if contraction.op.kind not in ("MatMul", "ScaledDotProductAttention"):
                found[contraction, group] = (
                    f"two activations meet in a way that is not supported: {contraction.op.kind}"
                )
                continue
            operands = (contraction.op.inputs[slot] for slot in (contraction.slot, contraction.other))
            ways[contraction, group] = [
                routes.find(contraction.op, value, group.factor) for value in operands if value is not None
            ]
    good = [route for each in ways.values() for route in each if isinstance(route, Route)]
    told = _told(program, good, batches, threads) if good else {}
    for (contraction, group), each in ways.items():
        found[contraction, group] = _meeting(
            contraction, group, each, routes, told, softmax_after(contraction.op, readers)
        )
    return found


def _told(
    program: Program, routes: Sequence[Route], batches: Sequence[Feeds], threads: int
) -> Mapping[str, torch.Tensor]:
    """For the start of every route and what is taken aside, the channel of the projection that each position is; -1 if none."""
    projections = dict.fromkeys(route.projection for route in routes)
    values = dict.fromkeys(v.name for route in routes for v in (route.start, *route.aside))
    names = [name for name in values if name not in {p.consumer.y.name for p in projections}]
    stepper = program.stepper(batches[:1], names, threads)

    def probe(digit: int) -> dict[str, torch.Tensor]:
        changes = {p.consumer.y.name: _numbered(p, digit) for p in projections}
        (seen,) = stepper.outcome(names, changes)
        return {name: value.double() for name, value in seen.items()}

    none, base, low, high = map(probe, range(4))
    found = {name: _numbers(none[name], base[name], low[name], high[name]).cpu() for name in names}
    for p in projections:  # what nothing has moved yet
        numbers = broadcast_channels(p.consumer, np.arange(p.consumer.outputs))
        found[p.consumer.y.name] = torch.from_numpy(numbers)
    return found


def _numbered(projection: Projection, digit: int) -> Weights:
    """The projection without its weight; added to every channel: nothing, the base, or a digit of its number."""
    consumer = projection.consumer
    value = consumer.op.inputs[consumer.contraction.other]
    assert value is not None
    like, numbers = value.array(), np.arange(consumer.outputs)
    added = UNIT * (0 * numbers, 0 * numbers + DIGIT, numbers % DIGIT, numbers // DIGIT)[digit]
    return consumer.contraction.other, np.zeros_like(like), broadcast_channels(consumer, added).astype(like.dtype)


def _numbers(none: torch.Tensor, base: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Channel numbers from the digits, whatever they were multiplied with on the way; -1 where they cannot be read."""
    scale = (base - none) / DIGIT
    readable = scale.abs() > SMALL * scale.abs().max()
    digits = [((seen - none) / torch.where(readable, scale, 1.0)) for seen in (low, high)]
    whole = [digit.round() for digit in digits]
    exact = readable & ((digits[0] - whole[0]).abs() < 0.25) & ((digits[1] - whole[1]).abs() < 0.25)
    return torch.where(exact, whole[0] + DIGIT * whole[1], -1).long()


def _meeting(
    contraction: Contraction,
    group: Group,
    ways: Sequence[Route | str],
    routes: Routes,
    told: Mapping[str, torch.Tensor],
    softmax: float | None,
) -> Meeting | str:
    op, columns = contraction.op, owners(contraction.layout, group.factor)
    owned = np.bincount(columns[columns >= 0], minlength=group.size)
    if len(set(owned.tolist())) != 1:
        return "its components are nested in themselves"
    if owned[0] == 1 and all(isinstance(way, Route) and way.mixes for way in ways):
        chosen = {i: way for i, way in enumerate(ways) if isinstance(way, Route)}
    else:
        operands = (op.inputs[contraction.slot], op.inputs[contraction.other])
        scaled = [
            (i, way)
            for i, (way, operand) in enumerate(zip(ways, operands, strict=True))
            if isinstance(way, Route) and operand is not None and routes.alike(way.start, operand)
        ]
        chosen = dict(scaled[:1])
    if not chosen:
        moved = "components are moved between products that tell them apart"
        return next((way for way in ways if isinstance(way, str)), moved)
    return _with_channels(contraction, group, columns, chosen, told, softmax)


def _with_channels(
    contraction: Contraction,
    group: Group,
    columns: np.ndarray,
    chosen: Mapping[int, Route],
    told: Mapping[str, torch.Tensor],
    softmax: float | None,
) -> Meeting | str:
    op = contraction.op
    numbers = [told[chosen[i].start.name] if i in chosen else None for i in range(2)]
    some = next(number for number in numbers if number is not None)
    given = [some.new_zeros(_shape_like(op, some, i)) if n is None else n for i, n in enumerate(numbers)]
    q, k = aligned(op, *given)
    heads = tuple(axis for axis in range(q.dim() - 2) if any(_varies(x, axis) for x in (q, k)))
    if not all(isinstance(dim, int) for dim in _batch_shape(op, heads)):
        return "heads are packed with samples"
    sides = []
    for i, route in chosen.items():
        rows = _by_head((q, k)[i], heads)[..., torch.from_numpy(np.flatnonzero(columns >= 0))]
        channels = rows[:, 0, 0]
        if (rows != channels[:, None, None]).any() or (channels < 0).any():
            return f"which channels of {route.projection.consumer.op} meet there cannot be told"
        mine = set(channels.reshape(-1).tolist())
        if any(mine & set(told[value.name].reshape(-1).tolist()) for value in route.aside):
            return f"other ops read the same channels of {route.projection.consumer.op}"
        sides.append(Side(route.projection, channels.numpy()))
    _, units = np.unique(sides[-1].channels, axis=0, return_inverse=True)  # keys may serve several queries
    first = sides[0].channels
    if len(np.unique(first)) != first.size or (len(sides) == 2 and _overlap(*sides)):
        return "heads are packed with samples, or share their queries"
    return Meeting(contraction, group, heads, tuple(sides), units.reshape(-1), softmax)


def _batch_shape(op: Op, axes: Sequence[int]) -> list[Dim]:
    """The lengths of some batch axes that both operands have, as the graph says."""
    shapes = [value.shape[:-2] for value in op.inputs[:2] if value is not None and value.shape is not None]
    longest = max(map(len, shapes), default=0)
    padded = [(1,) * (longest - len(shape)) + shape for shape in shapes]
    if op.attributes.get("grouped"):
        padded = padded[:1]
    return [next((shape[axis] for shape in padded if shape[axis] != 1), 1) for axis in axes]


def _shape_like(op: Op, other: torch.Tensor, slot: int) -> list[int]:
    """A shape that fits the operand in the other slot: one row, and no heads of its own."""
    axes = other.dim()
    transposed = op.kind == "MatMul"
    if slot == 1:
        return [1] * (axes - 2) + ([other.shape[-1], 1] if transposed else [1, other.shape[-1]])
    return [1] * (axes - 2) + [1, other.shape[-2 if transposed else -1]]


def _varies(x: torch.Tensor, axis: int) -> bool:
    return bool((x != x.narrow(axis, 0, 1)).any())


def _overlap(a: Side, b: Side) -> bool:
    return a.projection is b.projection and bool(set(a.channels.ravel()) & set(b.channels.ravel()))


def softmax_after(op: Op, readers: Mapping[Value, Sequence[Op]]) -> float | None:
    """What the result is multiplied with on its way to a softmax over its last axis; None where it goes elsewhere."""
    if op.kind == "ScaledDotProductAttention":
        query = op.inputs[0]
        width = query.shape[-1] if query is not None and query.shape is not None else None
        given = op.attributes.get("scale")
        return float(given) if given is not None else 1 / math.sqrt(width) if isinstance(width, int) else 1.0
    value, scale = op.outputs[0], 1.0
    while True:
        following = [reader for reader in readers.get(value, ()) if reader.kind != "Shape"]
        if len(following) != 1:
            return None
        op = following[0]
        if op.kind == "Softmax":
            axis, axes = int(op.attributes.get("axis", 1 if op.opset < 13 else -1)), value.rank or 1
            return scale if axis % axes == axes - 1 else None
        if op.kind in ("Mul", "Div"):
            number = _number(op, value)
            if number is None:
                return None
            scale *= number if op.kind == "Mul" else 1 / number
        elif op.kind in MOVES:
            if value.shape is None or op.outputs[0].shape is None or value.shape[-2:] != op.outputs[0].shape[-2:]:
                return None
        elif op.kind not in ("Add", "Where"):
            return None
        value = op.outputs[0]


def _number(op: Op, value: Value) -> float | None:
    """The one number that ``value`` is multiplied with or divided by; None where it is something else."""
    if "scalar" in op.attributes:
        return float(op.attributes["scalar"])
    other = next((v for v in op.inputs if v is not None and v is not value), None)
    if (
        other is None
        or not other.is_constant
        or other.array().size != 1
        or (op.kind == "Div" and op.inputs[0] is other)
    ):
        return None
    return float(other.array().reshape(-1)[0])
