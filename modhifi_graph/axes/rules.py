"""What every op does to its axes, one line an op.

A :class:`Rule` is a line in the notation of :mod:`modhifi_graph.axes.notation`, with the names whose axes must stay whole
and why. Ops that move positions about (reshape, slice, concat, ...) need code and live in
:mod:`modhifi_graph.axes.movement`. An op in neither table is a boundary: nothing that it touches is pruned.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from modhifi_graph.graph import Op

SPATIAL = "a window slides over it"
NORMALISED = "normalised together"
REDUCED = "reduced over"


class Unknown(Exception):
    """A rule cannot say what this op does to its axes, and why not."""


@dataclass(frozen=True)
class Rule:
    """How an op relates its axes.

    Attributes
    ----------
    spec : the line, or a function that writes it for an op (raising :class:`Unknown` where it cannot).
    fixed : names whose axes stay whole, with the reason.
    sizes : lengths of factors that an attribute gives.
    attributes : attributes that hold the length of a factor and are rewritten when it shrinks.
    """

    spec: str | Callable[[Op], str]
    fixed: Mapping[str, str] | Callable[[Op], Mapping[str, str]] = field(default_factory=dict)
    sizes: Callable[[Op], Mapping[str, int]] = lambda op: {}
    attributes: Mapping[str, str] = field(default_factory=dict)


def rank(op: Op, slot: int = 0) -> int:
    value = op.input(slot)
    if value is None or value.shape is None:
        raise Unknown("the rank of its input is not known")
    return len(value.shape)


def letters(count: int) -> list[str]:
    return list(string.ascii_lowercase[:count])


def reduced_axes(op: Op) -> list[int]:
    """The axes that a reduction runs over; every axis where it names none."""
    n = rank(op)
    try:
        axes = op.parameter("axes", 1)
    except ValueError:
        raise Unknown("its axes are computed at run time") from None
    if axes is None or axes.size == 0:
        return [] if op.attributes.get("noop_with_empty_axes") and axes is not None else list(range(n))
    return sorted(int(a) % n for a in axes)


def _elementwise(op: Op) -> str:
    return ", ".join("-" if value is None else "*a" for value in op.inputs) + " -> *a"


def _first_elementwise(op: Op) -> str:
    """The first input is carried; the others are scalars or seeds."""
    return "*a" + ", -" * (len(op.inputs) - 1) + " -> " + ", ".join("*a" for _ in op.outputs)


def _carried(op: Op) -> str:
    names = " ".join(letters(rank(op)))
    return names + ", -" * (len(op.inputs) - 1) + " -> " + ", ".join([names] + ["-"] * (len(op.outputs) - 1))


def _along(attribute: str, default: int, reason: str) -> Callable[[Op], Mapping[str, str]]:
    def fixed(op: Op) -> Mapping[str, str]:
        n = rank(op)
        return {letters(n)[int(op.attributes.get(attribute, default)) % n]: reason}

    return fixed


def _softmax_axes(op: Op) -> Mapping[str, str]:
    """Up to opset 12 softmax flattens from ``axis`` (default 1) on; from 13 it runs over one axis (default -1)."""
    n = rank(op)
    axis = int(op.attributes.get("axis", 1 if op.opset < 13 else -1)) % n
    return dict.fromkeys(letters(n)[axis:] if op.opset < 13 else [letters(n)[axis]], NORMALISED)


def _layer_normalised(op: Op) -> str:
    n = rank(op)
    first = int(op.attributes.get("axis", -1)) % n
    names = letters(n)
    operands = [" ".join(names), " ".join(names[first:]), *([" ".join(names[first:])] if op.input(2) else [])]
    return ", ".join(operands) + " -> " + ", ".join([operands[0]] + ["-"] * (len(op.outputs) - 1))


def _layer_normalised_axes(op: Op) -> Mapping[str, str]:
    n = rank(op)
    return dict.fromkeys(letters(n)[int(op.attributes.get("axis", -1)) % n :], NORMALISED)


def _reduced(op: Op) -> str:
    names, gone = letters(rank(op)), set(reduced_axes(op))
    keep = op.attributes.get("keepdims", 1)
    out = ["1" if i in gone else name for i, name in enumerate(names) if keep or i not in gone]
    return " ".join(names) + ", -" * (len(op.inputs) - 1) + " -> " + " ".join(out)


def _reduced_fixed(op: Op) -> Mapping[str, str]:
    names = letters(rank(op))
    return {names[i]: REDUCED for i in reduced_axes(op)}


def _arg_reduced(op: Op) -> str:
    names = letters(rank(op))
    axis = int(op.attributes.get("axis", 0)) % len(names)
    keep = op.attributes.get("keepdims", 1)
    return (
        " ".join(names) + " -> " + " ".join("1" if i == axis else x for i, x in enumerate(names) if keep or i != axis)
    )


def _matmul(op: Op) -> str:
    a, b = rank(op, 0), rank(op, 1)
    left = "k" if a == 1 else "*b m k"
    right = "k" if b == 1 else "*b k n"
    out = ("" if a == 1 and b == 1 else "*b") + ("" if a == 1 else " m") + ("" if b == 1 else " n")
    return f"{left}, {right} -> {out}"


def _gemm(op: Op) -> str:
    a = "k m" if op.attributes.get("transA") else "m k"
    b = "n k" if op.attributes.get("transB") else "k n"
    bias = op.input(2)
    if bias is None:
        return f"{a}, {b} -> m n"
    if bias.shape is None:
        raise Unknown("the rank of its bias is not known")
    terms = ["1" if dim == 1 else name for dim, name in zip(bias.shape, "mn"[2 - len(bias.shape) :], strict=True)]
    return f"{a}, {b}, {' '.join(terms)} -> m n"


def _einsum(op: Op) -> str:
    equation = str(op.attributes["equation"]).replace(" ", "")
    if "->" not in equation:
        raise Unknown("its equation has no explicit output")
    left, right = equation.split("->")
    for operand in left.split(","):
        if len(set(operand.replace("...", ""))) < len(operand.replace("...", "")):
            raise Unknown("its equation repeats a letter within one operand")

    def spell(operand: str) -> str:
        return " ".join("*r" if token == "." else token for token in operand.replace("...", "."))

    return ", ".join(map(spell, left.split(","))) + " -> " + spell(right)


def _conv_sizes(op: Op) -> Mapping[str, int]:
    return {"g": int(op.attributes.get("group", 1))}


def _optional(spec: str) -> Callable[[Op], str]:
    """``spec`` without the trailing inputs and outputs that the op leaves out."""
    left, right = spec.split("->")
    inputs, outputs = [part.strip() for part in left.split(",")], [part.strip() for part in right.split(",")]

    def write(op: Op) -> str:
        given = [part if op.input(i) is not None else "-" for i, part in enumerate(inputs)][: len(op.inputs)]
        return ", ".join(given) + " -> " + ", ".join(outputs[: len(op.outputs)])

    return write


_SLIDES = {"s": SPATIAL, "t": SPATIAL, "k": SPATIAL}
_RECURRENT = {"t": "a recurrence runs over it", "d": "directions of a recurrence", "h": "the state of a recurrence"}
_CHANNELWISE = Rule(_optional("n c *s -> n c *t, -"), fixed=_SLIDES)

ELEMENTWISE = [
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "And",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitShift",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "CastLike",
    "Ceil",
    "Celu",
    "Cos",
    "Cosh",
    "Div",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "Max",
    "Mean",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pow",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Where",
    "Xor",
    "Cast",
]

RULES: Mapping[str, Rule] = {
    # contractions
    "Conv": Rule(_optional("n (g i) *s, (g o) i *k, (g o) -> n (g o) *t"), _SLIDES, _conv_sizes, {"group": "g"}),
    "ConvTranspose": Rule(
        _optional("n (g i) *s, (g i) o *k, (g o) -> n (g o) *t"), _SLIDES, _conv_sizes, {"group": "g"}
    ),
    "Gemm": Rule(_gemm),
    "MatMul": Rule(_matmul),
    "Einsum": Rule(_einsum),
    "LSTM": Rule(
        _optional("t n i, d (4 h) i, d (4 h) h, d (8 h), n, d n h, d n h, d (3 h) -> t d n h, d n h, d n h"), _RECURRENT
    ),
    "GRU": Rule(_optional("t n i, d (3 h) i, d (3 h) h, d (6 h), n, d n h -> t d n h, d n h"), _RECURRENT),
    "RNN": Rule(_optional("t n i, d h i, d h h2, d (2 h), n, d n h -> t d n h, d n h"), _RECURRENT),
    # position by position
    **dict.fromkeys(ELEMENTWISE, Rule(_elementwise)),
    "Clip": Rule(_first_elementwise),
    "Dropout": Rule(_first_elementwise),
    # normalisations
    "BatchNormalization": Rule(_optional("n c *s, c, c, c, c -> n c *s, c, c, c, c"), {}),
    "InstanceNormalization": Rule("n c *s, c, c -> n c *s", {"s": NORMALISED}),
    "GroupNormalization": Rule(
        lambda op: "n (g c) *s, g, g -> n (g c) *s" if op.opset < 21 else "n (g c) *s, (g c), (g c) -> n (g c) *s",
        {"c": NORMALISED, "s": NORMALISED},
        lambda op: {"g": int(op.attributes["num_groups"])},
        {"num_groups": "g"},
    ),
    "LayerNormalization": Rule(_layer_normalised, _layer_normalised_axes),
    "RMSNormalization": Rule(_layer_normalised, _layer_normalised_axes),
    "LpNormalization": Rule(_carried, _along("axis", -1, NORMALISED)),
    "LRN": Rule("n c *s -> n c *s", {"c": NORMALISED}),
    "MeanVarianceNormalization": Rule(_carried, lambda op: dict.fromkeys(letters(rank(op)), NORMALISED)),
    **dict.fromkeys(["Softmax", "LogSoftmax", "Hardmax"], Rule(_carried, _softmax_axes)),
    # windows and reductions
    **dict.fromkeys(["MaxPool", "AveragePool", "LpPool"], _CHANNELWISE),
    **dict.fromkeys(["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"], _CHANNELWISE),
    **dict.fromkeys(
        [
            f"Reduce{name}"
            for name in ["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"]
        ],
        Rule(_reduced, _reduced_fixed),
    ),
    **dict.fromkeys(["ArgMax", "ArgMin"], Rule(_arg_reduced, _along("axis", 0, REDUCED))),
    "CumSum": Rule(_carried, lambda op: dict.fromkeys(letters(rank(op)), "accumulated along")),
    "TopK": Rule(
        lambda op: " ".join(letters(rank(op))) + ", - -> -, -", lambda op: dict.fromkeys(letters(rank(op)), "sorted")
    ),
}
