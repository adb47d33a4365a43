"""Ops that put axes together and take parts of them: each is a sum of layouts, read in one direction or the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modhifi_graph.axes.binding import Axes, Pin, known, unify_or_pin, unify_pairs
from modhifi_graph.axes.layout import Layout, concatenation, leaf
from modhifi_graph.axes.rule_lines import Unknown, constant
from modhifi_graph.axes.unify import Clash, cut
from modhifi_graph.graph import Op


def concat(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    whole, parts = known(outputs[0]), [known(axes) for axes in inputs]
    _join(whole, parts, int(op.attributes.get("axis", 1)) % len(whole), pin)


def split(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    whole, parts = known(inputs[0]), [known(axes) for axes in outputs]
    _join(whole, parts, int(op.attributes.get("axis", 0)) % len(whole), pin)


def _join(whole: Sequence[Layout], parts: Sequence[Sequence[Layout]], where: int, pin: Pin) -> None:
    """``parts`` along axis ``where`` make ``whole``; their other axes are the same."""
    for axes in parts:
        if len(axes) != len(whole):
            raise Unknown(f"{len(axes)} axes do not fit {len(whole)}")
        unify_pairs([*axes[:where], *axes[where + 1 :]], [*whole[:where], *whole[where + 1 :]], pin)
    _concatenate([axes[where] for axes in parts], whole[where], pin)


def _concatenate(parts: Sequence[Layout], whole: Layout, pin: Pin) -> None:
    if len(parts) > 1 and any(part.size is None for part in parts):
        _pin_both(pin, "concatenated at a length known only at run time", *parts, whole)
    else:
        unify_or_pin(concatenation(parts), whole, pin)


def _pin_both(pin: Pin, reason: str, *layouts: Layout) -> None:
    for layout in layouts:
        pin(layout, reason)


def slices(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """A slice with step one is the middle part of a cut; any other step keeps its axis whole."""
    x, y = known(inputs[0]), known(outputs[0])
    touched = sliced_axes(op, len(x))
    others = [i for i in range(len(x)) if i not in touched]
    if len(x) != len(y):
        raise Unknown(f"{len(x)} axes do not fit {len(y)}")
    unify_pairs([x[i] for i in others], [y[i] for i in others], pin)
    try:
        starts, ends, steps = op.parameter("starts", 1), op.parameter("ends", 2), op.parameter("steps", 4)
    except ValueError:
        for i in touched:
            _pin_both(pin, "sliced at bounds computed at run time", x[i], y[i])
        return
    if starts is None or ends is None:
        raise Unknown("its bounds are not known")
    for k, i in enumerate(touched):
        step, size = 1 if steps is None else int(steps[k]), x[i].size
        if step != 1 or size is None:
            reason = f"sliced in steps of {step}" if step != 1 else "sliced at a length known only at run time"
            _pin_both(pin, reason, x[i], y[i])
        else:
            start, end, _ = slice(int(starts[k]), int(ends[k])).indices(size)
            take_range(x[i], start, end, y[i], pin)


def sliced_axes(op: Op, rank: int) -> list[int]:
    """The axes that a Slice may shorten; from the first on where it names none."""
    axes = constant(op, "axes", 3)
    if axes is not None:
        return [int(axis) % rank for axis in axes]
    given, bounds = op.attributes.get("starts"), op.input(1)
    shape = (len(given),) if given is not None else bounds.shape if bounds is not None else None
    if not shape or not isinstance(shape[0], int):
        raise Unknown("its axes are not known")
    return list(range(shape[0]))


def take_range(axis: Layout, start: int, end: int, result: Layout, pin: Pin) -> None:
    """``result`` is the positions from ``start`` to ``end`` of ``axis``."""
    try:
        if end < (axis.size or 0):
            axis = cut(axis, end)[0]
        if start > 0:
            axis = cut(axis, start)[1]
    except Clash as clash:
        _pin_both(pin, str(clash), axis, result)
        return
    unify_or_pin(axis, result, pin)


def gather(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """Taking positions: one or a contiguous range is a slice, a table look-up carries the other axes."""
    x, y = known(inputs[0]), known(outputs[0])
    where = int(op.attributes.get("axis", 0)) % len(x)
    index, size = op.input(1), x[where].size
    if index is None or index.rank is None:
        raise Unknown("the rank of its indices is not known")
    taken = y[where : where + index.rank]
    unify_pairs(x[:where] + x[where + 1 :], y[:where] + y[where + index.rank :], pin)
    if not index.is_constant or size is None or index.rank > 1:
        pin(x[where], "looked up by position")
        unify_pairs(known(inputs[1]), taken, pin)
        return
    indices = np.atleast_1d(index.array()) % size
    if len(indices) and np.array_equal(indices, np.arange(indices[0], indices[0] + len(indices))):
        take_range(x[where], int(indices[0]), int(indices[-1]) + 1, taken[0] if taken else leaf(1), pin)
    else:
        _pin_both(pin, "taken in another order", x[where], *taken)


def stack(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """A concatenation along an axis that the parts do not have."""
    whole = known(outputs[0])
    where = int(op.attributes.get("axis", 0)) % len(whole)
    parts = [[*axes[:where], leaf(1), *axes[where:]] for axes in map(known, inputs)]
    _join(whole, parts, where, pin)


def unbind(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """Every position of an axis on its own."""
    whole = known(inputs[0])
    where = int(op.attributes.get("axis", 0)) % len(whole)
    for i, axes in enumerate(outputs):
        if not op.outputs[i].name:
            continue
        unify_pairs([*whole[:where], *whole[where + 1 :]], known(axes), pin)
        take_range(whole[where], i, i + 1, leaf(1), pin)


def pad(op: Op, inputs: Sequence[Axes], outputs: Sequence[Axes], pin: Pin) -> None:
    """A padded axis is a concatenation with constant leaves at its ends."""
    x, y = known(inputs[0]), known(outputs[0])
    if len(x) != len(y):
        raise Unknown(f"{len(x)} axes do not fit {len(y)}")
    constant_mode = op.attributes.get("mode", "constant") in ("constant", b"constant")
    for axis, result, (before, after) in zip(x, y, pad_amounts(op, len(x)), strict=True):
        if not before and not after:
            unify_or_pin(axis, result, pin)
        elif before < 0 or after < 0 or not constant_mode:
            _pin_both(pin, "cropped" if constant_mode else "padded with its own content", axis, result)
        else:
            _concatenate([part for part in (leaf(before), axis, leaf(after)) if part.size != 0], result, pin)


def pad_amounts(op: Op, rank: int) -> list[tuple[int, int]]:
    """How much a Pad adds before and after each axis."""
    amounts, axes = constant(op, "pads", 1), constant(op, "axes", 3)
    touched = [int(axis) % rank for axis in axes] if axes is not None else list(range(rank))
    if amounts is None or len(amounts) != 2 * len(touched):
        raise Unknown("its amounts are not known")
    found = [(0, 0)] * rank
    for k, axis in enumerate(touched):
        found[axis] = int(amounts[k]), int(amounts[k + len(touched)])
    return found
