"""Rules that depend on attributes: functions that write the line in :mod:`modhifi_graph.axes.rules` for one op."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping

import numpy as np

from modhifi_graph.graph import Op

NORMALISED = "normalised together"
REDUCED = "reduced over"
ORDERED = "its positions are in order"
PICKED = "picked by number"


class Unknown(Exception):
    """A rule cannot say what this op does to its axes, and why not."""


def rank(op: Op, slot: int = 0) -> int:
    value = op.input(slot)
    if value is None or value.shape is None:
        raise Unknown("the rank of its input is not known")
    return len(value.shape)


def letters(count: int) -> list[str]:
    return list(string.ascii_lowercase[:count])


def constant(op: Op, attribute: str, slot: int) -> np.ndarray | None:
    """An integer parameter, from its attribute or its input; :class:`Unknown` where it is computed at run time."""
    try:
        return op.parameter(attribute, slot)
    except ValueError:
        raise Unknown(f"{attribute} is computed at run time") from None


def optional(spec: str) -> Callable[[Op], str]:
    """``spec`` without the trailing inputs and outputs that the op leaves out."""
    left, right = spec.split("->")
    inputs, outputs = [part.strip() for part in left.split(",")], [part.strip() for part in right.split(",")]

    def write(op: Op) -> str:
        given = [part if op.input(i) is not None else "-" for i, part in enumerate(inputs)][: len(op.inputs)]
        return ", ".join(given) + " -> " + ", ".join(outputs[: len(op.outputs)])

    return write


def broadcast(op: Op) -> str:
    """Every input stretches to the output, from the right, as in numpy."""
    return ", ".join("-" if value is None else "*a" for value in op.inputs) + " -> *a"


def first_carried(op: Op) -> str:
    """The first input is carried, whatever its rank; the others are scalars, seeds or types."""
    return "*a" + ", -" * (len(op.inputs) - 1) + " -> " + ", ".join("*a" for _ in op.outputs)


def carried(op: Op) -> str:
    """The first input is carried, with a name for every axis."""
    names = " ".join(letters(rank(op)))
    return names + ", -" * (len(op.inputs) - 1) + " -> " + names


def along(attribute: str, default: int, reason: str) -> Callable[[Op], Mapping[str, str]]:
    """The axis that an attribute names stays whole."""

    def fixed(op: Op) -> Mapping[str, str]:
        n = rank(op)
        return {letters(n)[int(op.attributes.get(attribute, default)) % n]: reason}

    return fixed


def softmax_axes(op: Op) -> Mapping[str, str]:
    """Up to opset 12 softmax flattens from ``axis`` (default 1) on; from 13 it runs over one axis (default -1)."""
    n = rank(op)
    axis = int(op.attributes.get("axis", 1 if op.opset < 13 else -1)) % n
    return dict.fromkeys(letters(n)[axis:] if op.opset < 13 else [letters(n)[axis]], NORMALISED)


def layer_normalised(op: Op) -> str:
    """Scale and bias have the normalised axes; the mean and deviation that it may return have the others."""
    n = rank(op)
    first = int(op.attributes.get("axis", -1)) % n
    names = letters(n)
    whole, inner, outer = names, names[first:], [*names[:first], *["1"] * (n - first)]
    inputs = [whole, inner, inner][: len(op.inputs)]
    return (
        ", ".join(map(" ".join, inputs)) + " -> " + ", ".join(map(" ".join, [whole, outer, outer][: len(op.outputs)]))
    )


def layer_normalised_axes(op: Op) -> Mapping[str, str]:
    n = rank(op)
    return dict.fromkeys(letters(n)[int(op.attributes.get("axis", -1)) % n :], NORMALISED)


def standardised_axes(op: Op) -> Mapping[str, str]:
    names = letters(rank(op))
    return {names[int(axis)]: NORMALISED for axis in op.attributes.get("axes", (0, 2, 3))}


def reduced_axes(op: Op) -> list[int]:
    """The axes that a reduction runs over; where it names none, all of them or none of them."""
    n, axes = rank(op), constant(op, "axes", 1)
    if axes is None or axes.size == 0:
        return [] if op.attributes.get("noop_with_empty_axes") else list(range(n))
    return sorted(int(a) % n for a in axes)


def reduced(op: Op) -> str:
    names, gone = letters(rank(op)), set(reduced_axes(op))
    keep = op.attributes.get("keepdims", 1)
    out = ["1" if i in gone else name for i, name in enumerate(names) if keep or i not in gone]
    return " ".join(names) + ", -" * (len(op.inputs) - 1) + " -> " + " ".join(out)


def reduced_fixed(op: Op) -> Mapping[str, str]:
    names = letters(rank(op))
    return {names[i]: REDUCED for i in reduced_axes(op)}


def best(op: Op) -> str:
    """ArgMax and ArgMin leave one position of their axis."""
    names, axis = letters(rank(op)), int(op.attributes.get("axis", 0)) % rank(op)
    keep = op.attributes.get("keepdims", 1)
    out = ["1" if i == axis else name for i, name in enumerate(names) if keep or i != axis]
    return " ".join(names) + " -> " + " ".join(out)


def top(op: Op) -> str:
    """TopK leaves some positions of its axis."""
    names, axis = letters(rank(op)), int(op.attributes.get("axis", -1)) % rank(op)
    out = " ".join("top" if i == axis else name for i, name in enumerate(names))
    return f"{' '.join(names)}, - -> {out}, {out}"


def top_fixed(op: Op) -> Mapping[str, str]:
    return {**along("axis", -1, "sorted along")(op), "top": "sorted along"}


def looked_up(op: Op) -> str:
    """GatherND: after the batch axes, the last axis of the indices holds a position on each of the axes that go."""
    names, batch = letters(rank(op)), int(op.attributes.get("batch_dims", 0))
    rows = " ".join([*names[:batch], "*rows"])
    return f"{' '.join(names)}, {rows} coordinates -> {rows} {' '.join(names[batch + _coordinates(op) :])}".rstrip()


def looked_up_fixed(op: Op) -> Mapping[str, str]:
    names, batch = letters(rank(op)), int(op.attributes.get("batch_dims", 0))
    return {**dict.fromkeys(names[batch : batch + _coordinates(op)], PICKED), "coordinates": PICKED}


def _coordinates(op: Op) -> int:
    indices = op.input(1)
    count = indices.shape[-1] if indices is not None and indices.shape else None
    if not isinstance(count, int):
        raise Unknown("how many coordinates its indices have is not known")
    return count


def accumulated_axis(op: Op) -> Mapping[str, str]:
    n, axis = rank(op), constant(op, "axis", 1)
    return {} if axis is None else {letters(n)[int(axis.item()) % n]: "accumulated along"}


def window(spec: str) -> Callable[[Op], str]:
    """A pooling, unless somebody reads the places it took its values from: they count positions of the whole tensor."""

    def write(op: Op) -> str:
        if len(op.outputs) > 1 and op.outputs[1].name:
            raise Unknown("its indices count positions of the whole tensor")
        return spec + ", -" * (len(op.outputs) - 1)

    return write


def quantised(op: Op) -> str:
    """Position by position; scale and zero point are scalars, or have one number for every position of ``axis``."""
    scale = op.input(1)
    if scale is None or scale.shape is None:
        raise Unknown("the rank of its scale is not known")
    names = letters(rank(op))
    if not scale.shape or (len(scale.shape) == 1 and scale.shape[0] == 1):
        return carried(op)
    if len(scale.shape) > 1 or op.attributes.get("block_size"):
        raise Unknown("it is scaled by blocks")
    axis = names[int(op.attributes.get("axis", 1)) % len(names)]
    return " ".join(names) + f", {axis}" * (len(op.inputs) - 1) + " -> " + " ".join(names)


def matmul(op: Op) -> str:
    a, b = rank(op, 0), rank(op, 1)
    left = "k" if a == 1 else "*b m k"
    right = "k" if b == 1 else "*b k n"
    out = ("" if a == 1 and b == 1 else "*b") + ("" if a == 1 else " m") + ("" if b == 1 else " n")
    return f"{left}, {right} -> {out}"


def gemm(op: Op) -> str:
    """ONNX takes matrices; a linear layer takes any number of axes before the one that it contracts."""
    bias = op.input(2)
    if bias is not None and bias.shape is None:
        raise Unknown("the rank of its bias is not known")
    matrices = op.attributes.get("transA") or (bias is not None and len(bias.shape or ()) > 1)
    m = "m" if matrices else "*m"
    a = "k m" if op.attributes.get("transA") else f"{m} k"
    b = "n k" if op.attributes.get("transB") else "k n"
    if bias is None:
        return f"{a}, {b}{', -' if len(op.inputs) > 2 else ''} -> {m} n"
    shape = bias.shape or ()
    terms = ["1" if dim == 1 else name for dim, name in zip(shape, "mn"[2 - len(shape) :], strict=True)]
    return f"{a}, {b}, {' '.join(terms)} -> {m} n"


def grouped_product(op: Op) -> str:
    """Rows, each times one of several matrices; the last input says where the rows of one matrix end."""
    return f"s i, {'e o i' if op.attributes.get('transB') else 'e i o'}, - -> s o"


def attention(op: Op) -> str:
    """softmax(q k^T + mask) v; with grouped queries every key head serves several query heads."""
    heads = ["(h g)"] if op.attributes.get("grouped") else []
    many, few = " ".join(["*b", *heads]), " ".join(["*b", *(["h"] if heads else [])])
    inputs = [f"{many} l e", f"{few} s e", f"{few} s v"]
    mask = op.input(3)
    if mask is not None:
        if mask.shape is None:
            raise Unknown("the rank of its mask is not known")
        names = [*heads, "l", "s"][-len(mask.shape) :]
        last = ["1" if dim == 1 else name for dim, name in zip(mask.shape[-len(names) :], names, strict=True)]
        inputs.append(" ".join([*(["*b"] if len(mask.shape) > len(names) else []), *last]))
    return ", ".join(inputs) + f" -> {many} l v"


def einsum(op: Op) -> str:
    operands, result = _equation(op)
    return ", ".join(map(_spell, operands)) + " -> " + _spell(result)


def einsum_fixed(op: Op) -> Mapping[str, str]:
    """A letter that one operand alone has and the output has not is summed over, which is no contraction."""
    operands, result = _equation(op)
    everyone = "".join(operands)
    return {name: REDUCED for name in everyone if everyone.count(name) == 1 and name not in result and name != "."}


def _equation(op: Op) -> tuple[list[str], str]:
    """The operands and the output of an equation, with "." for an ellipsis."""
    equation = op.attributes["equation"]
    equation = (
        (equation.decode() if isinstance(equation, bytes) else str(equation)).replace(" ", "").replace("...", ".")
    )
    left, arrow, result = equation.partition("->")
    operands = left.split(",")
    if any(len(set(operand)) < len(operand) for operand in operands):
        raise Unknown("its equation repeats a letter within one operand")
    if not arrow:
        # The output has what occurs once, in alphabetical order, after the ellipsis.
        result = "".join(sorted(name for name in set(left) - {",", "."} if left.count(name) == 1))
        result = "." + result if "." in left else result
    return operands, result


def _spell(operand: str) -> str:
    return " ".join("*rest" if name == "." else name for name in operand)


def recurrent(gates: int, peepholes: int = 0) -> Callable[[Op], str]:
    """An RNN whose cell has so many gates; ``layout`` says whether time or the batch comes first."""

    def write(op: Op) -> str:
        batch_first = op.attributes.get("layout", 0)
        state = "n d h" if batch_first else "d n h"
        gate = "h" if gates == 1 else f"({gates} h)"
        inputs = ["n t i" if batch_first else "t n i", f"d {gate} i", f"d {gate} h", f"d ({2 * gates} h)", "n", state]
        inputs += [state, f"d ({peepholes} h)"] if peepholes else []
        outputs = ["n t d h" if batch_first else "t d n h", state] + ([state] if peepholes else [])
        return optional(", ".join(inputs) + " -> " + ", ".join(outputs))(op)

    return write
