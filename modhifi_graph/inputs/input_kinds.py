"""What every input of a graph is taken for, from its name, type and shape and the ops that read it, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from modhifi_graph.graph import Dim, Graph, Op, Value
from modhifi_graph.interface import InputSpec, is_float

PASSES_ON = ("Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Transpose", "Slice", "Expand")
"""Ops after which integers are still the integers that were fed."""
BEFORE_A_CONVOLUTION = (
    "Cast",
    "Identity",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pad",
    "Unsqueeze",
    "Transpose",
    "BatchNormalization",
)
SMALLEST_PICTURE, SHORTEST_SOUND = 8, 400
COLOURS = (1, 3, 4)


@dataclass(frozen=True)
class Reading:
    """One input.

    Attributes
    ----------
    spec : its name, shape and type.
    kind : "picture", "tokens", "sound", "positions", "ones", "zeros", "bits" or "numbers".
    why : a clause for the report.
    limit : integers are below this.
    axis : of a picture's channels, 1 or 3.
    """

    spec: InputSpec
    kind: str
    why: str
    limit: int = 2
    axis: int = 1


def read(graph: Graph) -> tuple[Reading, ...]:
    """A reading of every input, in order. In doubt numbers are just numbers."""
    return tuple(_reading(value, graph) for value in graph.inputs)


def _reading(value: Value, graph: Graph) -> Reading:
    dtype = value.dtype if value.dtype is not None else np.dtype(np.float32)
    spec = InputSpec.of(value.name, value.shape or (), dtype)
    name, rank = value.name.lower(), len(spec.shape)
    if "mask" in name:
        return Reading(spec, "ones", "a mask by its name")
    axis = _channels(spec.shape)
    if axis is not None and (is_float(dtype) or dtype == np.uint8):
        return Reading(spec, "picture", f"four axes, axis {axis} of length {spec.shape[axis]}", axis=axis)
    if not is_float(dtype):
        limit = min(_tables(value, graph), default=0)
        if "position" in name and rank:
            return Reading(spec, "positions", "positions by its name", limit or 1 << 30)
        if "type" in name or "segment" in name:
            return Reading(spec, "zeros", "segments by its name")
        if limit and rank in (1, 2):
            return Reading(spec, "tokens", f"looked up in a table of {limit}", limit)
        return Reading(spec, "bits", "whole numbers of unknown range")
    if rank in (2, 3) and _is_sound(value, graph):
        return Reading(spec, "sound", "one long axis that a convolution runs along")
    return Reading(spec, "numbers", "numbers of unknown meaning")


def _channels(shape: Sequence[Dim]) -> int | None:
    """The axis of a picture's channels, where four axes are a picture's."""
    if len(shape) != 4:
        return None
    for axis, sides in ((1, shape[2:]), (3, shape[1:3])):
        if shape[axis] in COLOURS and all(not isinstance(n, int) or n >= SMALLEST_PICTURE for n in sides):
            return axis
    return None


def _tables(value: Value, graph: Graph) -> Iterator[int]:
    """Lengths of the constant tables that an input's integers index, and of what they are spread over as one-hot vectors."""
    for op in readers(value, graph, PASSES_ON):
        table, indices = op.input(0), op.input(1)
        if op.kind == "OneHot" and indices is not None and indices.is_constant:
            yield int(indices.array().reshape(-1)[0])
        if op.kind == "Gather" and table is not None and table.is_constant and indices is not None and table.shape:
            axis = int(op.attributes.get("axis", 0))
            if table.rank == 2 and axis == 0 and isinstance(table.shape[0], int):
                yield table.shape[0]


def _is_sound(value: Value, graph: Graph) -> bool:
    """Whether (samples, time) or (samples, 1, time) is read by a convolution along time."""
    shape = value.shape or ()
    long = not isinstance(shape[-1], int) or shape[-1] >= SHORTEST_SOUND
    if not long or (len(shape) == 3 and shape[1] != 1):
        return False
    kernels = [op.inputs[1] for op in readers(value, graph, BEFORE_A_CONVOLUTION) if op.kind == "Conv"]
    return bool(kernels) and all(kernel is not None and kernel.rank == 3 for kernel in kernels)


def readers(value: Value, graph: Graph, through: Sequence[str]) -> list[Op]:
    """The ops that read a value, directly or through ops of some kinds."""
    found, known = [], {value}
    for op in graph.ops:
        if any(source in known for source in op.inputs if source is not None):
            found.append(op)
            if op.kind in through:
                known.update(op.outputs)
    return found
