"""Ops that move positions about. Each says how the layouts of its output follow from those of its input.

A mover gets the op, the layouts of its inputs' and outputs' axes, and ``pin``. It unifies; the parameters that go stale
when an axis shrinks (target shapes, split sizes, starts and ends) are rewritten from the same layouts by the dialect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from modhifi_graph.axes.binding import Axes, Pin, broadcast, known, unify_or_pin, unify_pairs
from modhifi_graph.axes.layout import Layout, leaf, product
from modhifi_graph.axes.rule_lines import Unknown, constant
from modhifi_graph.axes.slicing import concat, gather, pad, slices, split, stack, unbind
from modhifi_graph.graph import Dim, Op, Value

Mover = Callable[[Op, Sequence[Axes], Sequence[Axes], Pin], None]


def transpose(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    x, y = known(inputs[0]), known(outputs[0])
    order = op.attributes.get("perm") or range(len(x))[::-1]
    unify_pairs([x[i] for i in order], y, pin)


def reshape(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """Axes that hold the same elements are products of each other: match blocks from both ends, then what is left."""
    x, y = known(inputs[0]), known(outputs[0])
    a, b = _dims(op.input(0), x), _dims(op.outputs[0], y)
    if 0 in (*a, *b):
        raise Unknown("it holds no elements")
    head = matching_blocks(a, b)
    i, j = head[-1][1] if head else (0, 0)
    tail = matching_blocks(a[i:][::-1], b[j:][::-1])
    m, n = (len(x) - tail[-1][1][0], len(y) - tail[-1][1][1]) if tail else (len(x), len(y))
    for (i0, j0), (i1, j1) in head:
        unify_or_pin(product(x[i0:i1]), product(y[j0:j1]), pin)
    for (i0, j0), (i1, j1) in tail:
        unify_or_pin(product(x[len(x) - i1 : len(x) - i0]), product(y[len(y) - j1 : len(y) - j0]), pin)
    if x[i:m] or y[j:n]:
        unify_or_pin(product(x[i:m]), product(y[j:n]), pin)


def _dims(value: Value | None, axes: Sequence[Layout]) -> list[Dim]:
    """What is known of a shape: the layouts know lengths that inference did not find, inference knows names."""
    shape = value.shape if value is not None and value.shape is not None else [None] * len(axes)
    return [dim if axis.size is None else axis.size for dim, axis in zip(shape, axes, strict=True)]


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
    unify_pairs(rest, y, pin)


def unsqueeze(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    x, y = known(inputs[0]), known(outputs[0])
    axes = constant(op, "axes", 1)
    added = {int(a) % len(y) for a in (axes if axes is not None else ())}
    unify_pairs(x, [axis for i, axis in enumerate(y) if i not in added], pin)


def expand(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """Broadcasting gives an axis of length one any length: what it becomes is a factor of its own."""
    x, y = known(inputs[0]), known(outputs[0])
    for mine, theirs in zip(reversed(x), reversed(y), strict=False):
        broadcast(mine, theirs, pin)


def tile(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    x, y = known(inputs[0]), known(outputs[0])
    repeats = constant(op, "repeats", 1)
    if repeats is None or op.opset < 6:
        raise Unknown("its repeats are not known")
    if not len(x) == len(y) == len(repeats):
        raise Unknown("its repeats do not fit its axes")
    for axis, result, times in zip(x, y, repeats, strict=True):
        copies = leaf(int(times))
        pin(copies, "a fixed number of repeats")
        unify_or_pin(product([copies, axis]), result, pin)


def depth_to_space(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """Pixel shuffle: the channel axis nests two block factors, outside (DCR) or inside (CRD)."""
    (n, c, *space), (m, d, *larger) = known(inputs[0]), known(outputs[0])
    pieces = leaf(int(op.attributes["blocksize"]) ** 2)
    for layout in (pieces, *space, *larger):
        pin(layout, "turned into pixels")
    unify_or_pin(n, m, pin)
    outside = op.attributes.get("mode", "DCR") in ("DCR", b"DCR")
    unify_or_pin(c, product([pieces, d] if outside else [d, pieces]), pin)


def space_to_depth(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    (n, c, *space), (m, d, *smaller) = known(inputs[0]), known(outputs[0])
    pieces = leaf(int(op.attributes["blocksize"]) ** 2)
    for layout in (pieces, *space, *smaller):
        pin(layout, "made of pixels")
    unify_or_pin(n, m, pin)
    outside = op.attributes.get("mode", "DCR") in ("DCR", b"DCR")
    unify_or_pin(d, product([pieces, c] if outside else [c, pieces]), pin)


def resize(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """Axes that keep their length at a scale of one are carried; the others are spatial."""
    x, y = known(inputs[0]), known(outputs[0])
    if op.attributes.get("coordinate_transformation_mode") in ("tf_crop_and_resize", b"tf_crop_and_resize"):
        raise Unknown("it crops")
    scales = _scales(op, len(x))
    for axis, result, scale in zip(x, y, scales, strict=True):
        if axis.size is not None and axis.size == result.size and scale == 1:
            unify_or_pin(axis, result, pin)
        else:
            pin(axis, "resampled")
            pin(result, "resampled")


def _scales(op: Op, rank: int) -> list[float]:
    """The factor of every axis; one where it only follows from the sizes."""
    slot = 1 if op.kind == "Upsample" or op.opset < 11 else 2
    try:
        given = op.parameter("scales", slot)
    except ValueError:
        raise Unknown("its scales are computed at run time") from None
    if given is None or not given.size:
        return [1.0] * rank
    axes = op.attributes.get("axes") or range(rank)
    found = dict(zip((int(axis) % rank for axis in axes), map(float, given), strict=True))
    return [found.get(axis, 1.0) for axis in range(rank)]


def roll(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """The positions of some axes change places; the others are carried."""
    x, y = known(inputs[0]), known(outputs[0])
    for axis in op.attributes["axes"]:
        pin(x[axis], "its positions change places")
    unify_pairs(x, y, pin)


def source(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """An op that makes a tensor from its shape alone couples nothing; who reads a length is another matter."""


MOVEMENT: Mapping[str, Mover] = {
    "Transpose": transpose,
    "Reshape": reshape,
    "Flatten": reshape,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Expand": expand,
    "Tile": tile,
    "Concat": concat,
    "Stack": stack,
    "Split": split,
    "Unbind": unbind,
    "Slice": slices,
    "Gather": gather,
    "Pad": pad,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Resize": resize,
    "Upsample": resize,
    "Roll": roll,
    "ConstantOfShape": source,
    "Shape": source,
    "Size": source,
}
