"""Ops that move positions about. Each says how the layouts of its output follow from those of its input.

A mover gets the op, the layouts of its inputs' and outputs' axes, and ``pin``. It unifies; the parameters that go stale
when an axis shrinks (target shapes, split sizes, starts and ends) are rewritten from the same layouts by the dialect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from modhifi_graph.axes.binding import Axes, Pin, unify_or_pin
from modhifi_graph.axes.layout import Clash, Layout, concatenation, cut, leaf, product
from modhifi_graph.axes.rules import Unknown
from modhifi_graph.graph import Dim, Op

Mover = Callable[[Op, Sequence[Axes], Sequence[Axes], Pin], None]


def known(axes: Axes) -> list[Layout]:
    if axes is None:
        raise Unknown("a rank is not known")
    return list(axes)


def constant(op: Op, attribute: str, slot: int) -> np.ndarray | None:
    """An integer parameter, from its attribute or its input; :class:`Unknown` where it is computed at run time."""
    try:
        return op.parameter(attribute, slot)
    except ValueError:
        raise Unknown(f"its {attribute} is computed at run time") from None


def _pairwise(left: Sequence[Layout], right: Sequence[Layout], pin: Pin) -> None:
    for a, b in zip(left, right, strict=True):
        unify_or_pin(a, b, pin)


def transpose(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    x, y = known(inputs[0]), known(outputs[0])
    order = op.attributes.get("perm") or range(len(x))[::-1]
    _pairwise([x[i] for i in order], y, pin)


def reshape(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """Axes that hold the same elements are products of each other: match blocks from both ends, then what is left."""
    x, y = known(inputs[0]), known(outputs[0])
    value, result = op.input(0), op.outputs[0]
    assert value is not None and value.shape is not None and result.shape is not None
    head = matching_blocks(value.shape, result.shape)
    i, j = head[-1][1] if head else (0, 0)
    tail = matching_blocks(value.shape[i:][::-1], result.shape[j:][::-1])
    m, n = (len(x) - tail[-1][1][0], len(y) - tail[-1][1][1]) if tail else (len(x), len(y))
    for (i0, j0), (i1, j1) in head:
        unify_or_pin(product(x[i0:i1]), product(y[j0:j1]), pin)
    for (i0, j0), (i1, j1) in tail:
        unify_or_pin(product(x[len(x) - i1 : len(x) - i0]), product(y[len(y) - j1 : len(y) - j0]), pin)
    if x[i:m] or y[j:n]:
        unify_or_pin(product(x[i:m]), product(y[j:n]), pin)


def matching_blocks(a: Sequence[Dim], b: Sequence[Dim]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The leading runs of dimensions of equal extent, as pairs of (start in a, start in b), (end in a, end in b)."""
    blocks: list[tuple[tuple[int, int], tuple[int, int]]] = []
    i = j = 0
    while i < len(a) and j < len(b):
        m, n = i + 1, j + 1
        while (left := _extent(a[i:m])) != (right := _extent(b[j:n])):
            if left is None or right is None:
                return blocks
            if (left[0], len(left[1])) < (right[0], len(right[1])):
                m += 1
            else:
                n += 1
            if m > len(a) or n > len(b):
                return blocks
        if left is None:
            return blocks
        blocks.append(((i, j), (m, n)))
        i, j = m, n
    return blocks


def _extent(dims: Sequence[Dim]) -> tuple[int, tuple[str, ...]] | None:
    if any(dim is None for dim in dims):
        return None
    numbers = math.prod(dim for dim in dims if isinstance(dim, int))
    return numbers, tuple(sorted(dim for dim in dims if isinstance(dim, str)))


def squeeze(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    x, y = known(inputs[0]), known(outputs[0])
    axes = constant(op, "axes", 1)
    gone = {i for i, axis in enumerate(x) if axis.size == 1} if axes is None else {int(a) % len(x) for a in axes}
    rest = [axis for i, axis in enumerate(x) if i not in gone]
    if len(rest) != len(y):
        raise Unknown("the axes it removes are not known")
    _pairwise(rest, y, pin)


def unsqueeze(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    x, y = known(inputs[0]), known(outputs[0])
    axes = constant(op, "axes", 1)
    added = {int(a) % len(y) for a in (axes if axes is not None else ())}
    _pairwise(x, [axis for i, axis in enumerate(y) if i not in added], pin)


def expand(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """Broadcasting gives an axis of length one any length: what it becomes is a factor of its own."""
    x, y = known(inputs[0]), known(outputs[0])
    for mine, theirs in zip(reversed(x), reversed(y), strict=False):
        if mine.size != 1:
            unify_or_pin(mine, theirs, pin)


def tile(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    x, y = known(inputs[0]), known(outputs[0])
    repeats = constant(op, "repeats", 1)
    if repeats is None or op.opset < 6:
        raise Unknown("its repeats are not known")
    for axis, result, times in zip(x, y, repeats, strict=True):
        copies = leaf(int(times))
        pin(copies, "a fixed number of repeats")
        unify_or_pin(product([copies, axis]), result, pin)


def concat(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    y = known(outputs[0])
    where = int(op.attributes.get("axis", 1)) % len(y)
    parts = [known(axes) for axes in inputs]
    for axes in parts:
        _pairwise(axes[:where] + axes[where + 1 :], y[:where] + y[where + 1 :], pin)
    _concatenate([axes[where] for axes in parts], y[where], pin)


def split(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    x = known(inputs[0])
    where = int(op.attributes.get("axis", 0)) % len(x)
    parts = [known(axes) for axes in outputs]
    for axes in parts:
        _pairwise(axes[:where] + axes[where + 1 :], x[:where] + x[where + 1 :], pin)
    _concatenate([axes[where] for axes in parts], x[where], pin)


def _concatenate(parts: Sequence[Layout], whole: Layout, pin: Pin) -> None:
    if len(parts) > 1 and any(part.size is None for part in parts):
        for part in [*parts, whole]:
            pin(part, "concatenated at a length known only at run time")
    else:
        unify_or_pin(concatenation(parts), whole, pin)


def slices(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """A slice with step one is the middle part of a cut; any other step keeps its axis whole."""
    x, y = known(inputs[0]), known(outputs[0])
    starts, ends = constant(op, "starts", 1), constant(op, "ends", 2)
    axes, steps = constant(op, "axes", 3), constant(op, "steps", 4)
    if starts is None or ends is None:
        raise Unknown("its bounds are not known")
    touched = [int(a) % len(x) for a in (axes if axes is not None else range(len(starts)))]
    _pairwise([a for i, a in enumerate(x) if i not in touched], [a for i, a in enumerate(y) if i not in touched], pin)
    for k, axis in enumerate(touched):
        size, step = x[axis].size, int(steps[k]) if steps is not None else 1
        if size is None or step != 1:
            for layout in (x[axis], y[axis]):
                pin(layout, f"sliced in steps of {step}" if step != 1 else "sliced at a length known only at run time")
            continue
        start, end, _ = slice(int(starts[k]), int(ends[k])).indices(size)
        take_range(x[axis], start, end, y[axis], pin)


def take_range(axis: Layout, start: int, end: int, result: Layout, pin: Pin) -> None:
    """``result`` is the positions from ``start`` to ``end`` of ``axis``."""
    try:
        if end < (axis.size or 0):
            axis = cut(axis, end)[0]
        if start > 0:
            axis = cut(axis, start)[1]
    except Clash as clash:
        pin(axis, str(clash))
        pin(result, str(clash))
        return
    unify_or_pin(axis, result, pin)


def gather(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """Taking positions: one or a contiguous range is a slice, a table look-up carries the other axes."""
    x, y = known(inputs[0]), known(outputs[0])
    where = int(op.attributes.get("axis", 0)) % len(x)
    index = op.input(1)
    assert index is not None
    if index.rank is None:
        raise Unknown("the rank of its indices is not known")
    _pairwise(x[:where] + x[where + 1 :], y[:where] + y[where + index.rank :], pin)
    size = x[where].size
    if not index.is_constant or size is None or index.rank > 1:
        pin(x[where], "looked up by position")
        _pairwise(known(inputs[1]), y[where : where + index.rank], pin)
        return
    indices = np.atleast_1d(index.array()) % size
    if np.array_equal(indices, np.arange(indices[0], indices[0] + len(indices))):
        result = y[where] if index.rank else leaf(1)
        take_range(x[where], int(indices[0]), int(indices[0]) + len(indices), result, pin)
    else:
        for layout in [x[where], *y[where : where + index.rank]]:
            pin(layout, "taken in another order")


def pad(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """A padded axis is a concatenation with constant leaves at its ends."""
    x, y = known(inputs[0]), known(outputs[0])
    amounts = constant(op, "pads", 1)
    axes = constant(op, "axes", 3) if op.input(3) is not None else None
    where = [int(a) % len(x) for a in axes] if axes is not None else list(range(len(x)))
    if amounts is None or len(amounts) != 2 * len(where):
        raise Unknown("its amounts are not known")
    before, after = dict.fromkeys(range(len(x)), 0), dict.fromkeys(range(len(x)), 0)
    before.update(zip(where, map(int, amounts[: len(where)]), strict=True))
    after.update(zip(where, map(int, amounts[len(where) :]), strict=True))
    for i, (axis, result) in enumerate(zip(x, y, strict=True)):
        if not before[i] and not after[i]:
            unify_or_pin(axis, result, pin)
        elif before[i] < 0 or after[i] < 0 or op.attributes.get("mode", "constant") != "constant" or axis.size is None:
            pin(axis, "padded with its own content")
            pin(result, "padded with its own content")
        else:
            ends = [leaf(n) if n else leaf(0) for n in (before[i], after[i])]
            _concatenate([ends[0], axis, ends[1]], result, pin)


def depth_to_space(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """Pixel shuffle: the channel axis nests two block factors, outside (DCR) or inside (CRD)."""
    (n, c, *_), (m, d, *_) = known(inputs[0]), known(outputs[0])
    block = int(op.attributes["blocksize"])
    pieces = leaf(block * block)
    pin(pieces, "turned into pixels")
    unify_or_pin(n, m, pin)
    unify_or_pin(c, product([pieces, d] if op.attributes.get("mode", "DCR") == "DCR" else [d, pieces]), pin)


def space_to_depth(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    (n, c, *_), (m, d, *_) = known(inputs[0]), known(outputs[0])
    block = int(op.attributes["blocksize"])
    pieces = leaf(block * block)
    pin(pieces, "made of pixels")
    unify_or_pin(n, m, pin)
    unify_or_pin(d, product([pieces, c]), pin)


def resize(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """Axes that keep their length are carried; the others are spatial."""
    x, y = known(inputs[0]), known(outputs[0])
    for axis, result in zip(x, y, strict=True):
        if axis.size is not None and axis.size == result.size:
            unify_or_pin(axis, result, pin)
        else:
            pin(axis, "resampled")
            pin(result, "resampled")


def source(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """An op that makes a tensor from its shape alone couples nothing."""


MOVEMENT: Mapping[str, Mover] = {
    "Transpose": transpose,
    "Reshape": reshape,
    "Flatten": reshape,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Expand": expand,
    "Tile": tile,
    "Concat": concat,
    "Split": split,
    "Slice": slices,
    "Gather": gather,
    "Pad": pad,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Resize": resize,
    "Upsample": resize,
    "ConstantOfShape": source,
    "Shape": source,
    "Size": source,
}
