"""A contraction with a weight, seen as the linear map ``y = W x + b`` of the method, whatever op it is in the graph.

A convolution is unfolded: ``x`` holds one window, ``p = channels * taps`` numbers, channel-major. A grouped convolution is
``G`` such maps side by side, each over its own channels; so is a product with a stack of matrices (experts that all run, each
on rows of its own).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from modhifi_graph.axes.groups import Contraction, Groups
from modhifi_graph.axes.layout import Layout, leaves, owners
from modhifi_graph.graph import Op, Value


@dataclass(frozen=True, eq=False)
class Consumer:
    """One linear map of the graph.

    Attributes
    ----------
    contraction : where it is in the graph.
    parts : G, the number of independent maps (the groups of a grouped convolution, the matrices of a stack).
    outputs, inputs : o and p of each.
    taps : window positions a channel has; 1 outside convolutions.
    """

    contraction: Contraction
    parts: int
    outputs: int
    inputs: int
    taps: int

    @property
    def op(self) -> Op:
        return self.contraction.op

    @property
    def x(self) -> Value:
        value = self.op.inputs[self.contraction.slot]
        assert value is not None
        return value

    @property
    def y(self) -> Value:
        return self.op.outputs[0]

    @property
    def stacked(self) -> bool:
        """Whether the weight is a stack of matrices, each for its own place on the third axis from the end."""
        return self.op.kind == "MatMul" and self.parts > 1

    def weight(self, array: np.ndarray | None = None) -> np.ndarray:
        """W, shape (G, o, p), from the parameter (or from an ``array`` laid out like it)."""
        value = self.op.inputs[self.contraction.other]
        assert value is not None
        raw = value.array() if array is None else array
        if self.op.kind == "Conv":
            return raw.reshape(self.parts, raw.shape[0] // self.parts, -1)
        if self.op.kind == "Gemm":
            scaled = raw if self.op.attributes.get("transB") else raw.T
            return np.asarray(scaled * self.op.attributes.get("alpha", 1.0))[None]
        if self.stacked:
            return raw.transpose(0, 2, 1)
        return (raw.T if self.contraction.slot == 0 else raw)[None]

    def parameter(self, weight: np.ndarray, like: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`weight`: W laid out as the op's parameter, with the shape and type of ``like``."""
        if self.op.kind == "Conv":
            return weight.reshape(like.shape).astype(like.dtype)
        if self.op.kind == "Gemm":
            plain = weight[0] / self.op.attributes.get("alpha", 1.0)
            return np.ascontiguousarray(plain if self.op.attributes.get("transB") else plain.T).astype(like.dtype)
        if self.stacked:
            return np.ascontiguousarray(weight.transpose(0, 2, 1)).astype(like.dtype)
        return np.ascontiguousarray(weight[0].T if self.contraction.slot == 0 else weight[0]).astype(like.dtype)

    def columns(self, factor: Layout) -> np.ndarray:
        """For each of the p inputs the component of ``factor`` it belongs to, or -1. Shape (p,)."""
        return np.repeat(owners(self.contraction.layout, factor), self.taps)

    def input_rows(self, x: torch.Tensor, picks: torch.Tensor) -> torch.Tensor:
        """The windows of a batch at the output positions ``picks``. Shape (G, batch * picks, p)."""
        if self.op.kind == "Conv":
            return _windows(self.op, x, picks, self.parts)
        if self.stacked:
            return stack_rows(x).index_select(1, picks)
        return _vectors(self.op, x, self.contraction.slot).index_select(0, picks)[None]

    def output_rows(self, y: torch.Tensor, picks: torch.Tensor) -> torch.Tensor:
        """The outputs of a batch at the same positions. Shape (G, batch * picks, o)."""
        if self.op.kind == "Conv":
            taken = y.flatten(2).index_select(2, picks)
            split = taken.reshape(len(taken), self.parts, -1, taken.shape[2])  # batch, part, channel, pick
            return split.permute(1, 0, 3, 2).flatten(1, 2)
        if self.stacked:
            return stack_rows(y).index_select(1, picks)
        y = y.transpose(-1, -2) if self.op.kind == "MatMul" and self.contraction.slot == 1 else y
        return y.reshape(-1, y.shape[-1]).index_select(0, picks)[None]

    def positions(self, x_shape: Sequence[int]) -> tuple[int, int]:
        """How many places :meth:`input_rows` can pick from, and how many rows each pick gives, for an input of this shape."""
        if self.op.kind == "Conv":
            return math.prod(Unfolding.of(self.op, x_shape[2:]).outputs), x_shape[0]
        return math.prod(x_shape) // max(1, self.inputs * (self.parts if self.stacked else 1)), 1

    @property
    def reading(self) -> Hashable:
        """Consumers that have this in common read the same rows of the same input."""
        if self.op.kind == "Conv":
            settings = (tuple(_kernel(self.op)), *(repr(self.op.attributes.get(name)) for name in _WINDOW))
            return (self.x, self.parts, *settings)
        turned = self.op.kind == "Gemm" and bool(self.op.attributes.get("transA"))
        return (self.x, self.parts, turned, self.contraction.slot)


def weight_of(consumer: Consumer, like: torch.Tensor) -> torch.Tensor:
    """W in float64, where ``like`` is. Shape (G, o, p)."""
    return torch.from_numpy(consumer.weight().astype(np.float64)).to(like.device)


def consumers_of(groups: Groups) -> dict[Contraction, Consumer | str]:
    """A consumer for every weighted contraction, or the reason why it cannot be treated as one."""
    return {contraction: _consumer(contraction) for contraction in groups.contractions if contraction.weighted}


def _consumer(contraction: Contraction) -> Consumer | str:
    op = contraction.op
    weight = op.inputs[contraction.other]
    assert weight is not None
    if weight.shape is None or any(not isinstance(dim, int) for dim in weight.shape):
        return "the shape of its weight is not known"
    shape = [dim for dim in weight.shape if isinstance(dim, int)]
    if weight.dtype is None or weight.dtype.kind != "f":
        return "its weight is not floating point"
    if op.kind == "Conv":
        parts = int(op.attributes.get("group", 1))
        taps = math.prod(shape[2:])
        return Consumer(contraction, parts, shape[0] // parts, shape[1] * taps, taps)
    if op.kind == "Gemm" and len(shape) == 2:
        o, p = shape if op.attributes.get("transB") else shape[::-1]
        return Consumer(contraction, 1, o, p, 1)
    x = op.inputs[contraction.slot]
    if op.kind == "MatMul" and contraction.slot == 1 and (x is None or (x.rank or 0) < 2):
        return "a weight times a single vector is not supported"
    if op.kind == "MatMul" and len(shape) == 2:
        o, p = shape[::-1] if contraction.slot == 0 else shape
        return Consumer(contraction, 1, o, p, 1)
    if op.kind == "MatMul" and len(shape) == 3 and contraction.slot == 0 and x is not None and x.shape is not None:
        parts, p, o = shape
        if parts > 1 and x.shape[-3:-2] == (parts,):
            return Consumer(contraction, parts, o, p, 1)
    if op.kind == "GroupedMatMul":
        return "which of its matrices a row meets is chosen at run time, and the slim model may choose others"
    return f"scoring {op.kind} with a weight of {len(shape)} axes is not supported"


def _vectors(op: Op, x: torch.Tensor, slot: int) -> torch.Tensor:
    """Every vector that a Gemm or MatMul contracts, shape (vectors, p)."""
    if op.kind == "Gemm" and op.attributes.get("transA"):
        return x.T
    if op.kind == "MatMul" and slot == 1:
        x = x.transpose(-1, -2)
    return x.reshape(-1, x.shape[-1])


def stack_rows(x: torch.Tensor) -> torch.Tensor:
    """The rows of every matrix of a stack, (matrices, rows, width), from (..., matrices, rows, width)."""
    return x.movedim(-3, 0).reshape(x.shape[-3], -1, x.shape[-1])


_WINDOW = ("strides", "dilations", "pads", "auto_pad")
"""The attributes that say which windows a convolution looks at."""


@dataclass(frozen=True)
class Unfolding:
    """Which windows a convolution looks at, for inputs of given sizes; ``pads`` are all starts, then all ends."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[int]
    outputs: list[int]

    @classmethod
    def of(cls, op: Op, sizes: Sequence[int]) -> Unfolding:
        kernel = _kernel(op)
        strides, dilations = (list(op.attributes.get(name, [1] * len(kernel))) for name in _WINDOW[:2])
        pads = _padding(op, sizes, kernel, strides, dilations)
        padded = [size + before + after for size, before, after in zip(sizes, *_halves(pads), strict=True)]
        spans = zip(padded, kernel, strides, dilations, strict=True)
        return cls(kernel, strides, dilations, pads, [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in spans])

    def places(self, picks: np.ndarray, sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Where the taps of some windows lie in a flattened input, and whether that is inside it. Shapes (taps, picks)."""
        taps = np.unravel_index(np.arange(math.prod(self.kernel))[:, None], self.kernel)
        corners = np.unravel_index(picks, self.outputs)
        flat, inside = np.zeros((), dtype=np.int64), np.ones((), dtype=bool)
        for size, corner, tap, stride, dilation, pad in zip(
            sizes, corners, taps, self.strides, self.dilations, self.pads, strict=False
        ):
            place = corner * stride + tap * dilation - pad
            inside = inside & (place >= 0) & (place < size)
            flat = flat * size + np.minimum(np.maximum(place, 0), size - 1)
        return flat, inside


def _windows(op: Op, x: torch.Tensor, picks: torch.Tensor, parts: int) -> torch.Tensor:
    """The windows of a convolution at output positions ``picks`` (row-major over its output)."""
    unfolding = Unfolding.of(op, x.shape[2:])
    flat, inside = (torch.from_numpy(a).to(x.device) for a in unfolding.places(picks.cpu().numpy(), x.shape[2:]))
    # A third of the time of index_select; and what lies in the padding is zeroed below, which spares a padded copy of it all.
    found = x.flatten(2).gather(2, flat.reshape(1, 1, -1).expand(*x.shape[:2], -1))
    split = found.reshape(len(x), parts, -1, *flat.shape).permute(1, 2, 3, 0, 4)  # part, channel, tap, batch, pick
    # All values of one input lie side by side: products want nothing else.
    rows = torch.mul(split, inside[:, None].to(x.dtype), out=x.new_empty(split.shape))
    return rows.reshape(parts, -1, len(x) * len(picks)).transpose(1, 2)


def _halves(pads: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    return pads[: len(pads) // 2], pads[len(pads) // 2 :]


def _kernel(op: Op) -> list[int]:
    weight = op.inputs[1]
    assert weight is not None
    assert weight.shape is not None
    return [int(dim) for dim in weight.shape[2:] if isinstance(dim, int)]


def _padding(
    op: Op, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    """The pads of a convolution, all starts then all ends, with ``auto_pad`` resolved for inputs of these sizes."""
    mode = op.attributes.get("auto_pad", "NOTSET")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    if mode in ("NOTSET", ""):
        return list(op.attributes.get("pads", [0] * (2 * len(kernel))))
    if mode == "VALID":
        return [0] * (2 * len(kernel))
    before, after = [], []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (math.ceil(size / stride) - 1) * stride + dilation * (k - 1) + 1 - size)
        small, large = total // 2, total - total // 2
        before.append(large if mode == "SAME_LOWER" else small)
        after.append(small if mode == "SAME_LOWER" else large)
    return before + after


def consumed_factors(consumer: Consumer) -> list[Layout]:
    """The factors whose components the consumer contracts."""
    return list(dict.fromkeys(leaves(consumer.contraction.layout)))
