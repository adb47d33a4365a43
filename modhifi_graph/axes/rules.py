"""What every op does to its axes, one line an op.

A :class:`Rule` is a line in the notation of :mod:`modhifi_graph.axes.notation`, with the names whose axes must stay
whole and why. Ops that move positions about (reshape, slice, concat, ...) need code and live in
:mod:`modhifi_graph.axes.movement`. An op in neither table is a boundary: nothing that it touches is pruned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from modhifi_graph.axes import rule_lines as lines
from modhifi_graph.axes.rule_lines import NORMALISED, ORDERED, REDUCED, Unknown, along, carried, optional
from modhifi_graph.graph import Op

__all__ = ["ELEMENTWISE", "RULES", "Rule", "Unknown"]

SPATIAL = "a window slides over it"


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


_SLIDES = {"s": SPATIAL, "t": SPATIAL, "k": SPATIAL}
_SAMPLES = {"s": "sampled at places", "t": "sampled at places", "p": "coordinates"}
_RECURRENT = {"t": "a recurrence runs over it", "d": "directions of a recurrence", "h": "the state of a recurrence"}
_POOL = Rule(lines.window("n c *s -> n c *t"), _SLIDES)
_REDUCTION = Rule(lines.reduced, lines.reduced_fixed)
_SOFTMAX = Rule(carried, lines.softmax_axes)
_LAYER_NORM = Rule(lines.layer_normalised, lines.layer_normalised_axes)
_QUANTISATION = Rule(lines.quantised)


def _groups(op: Op) -> Mapping[str, int]:
    return {"g": int(op.attributes.get("group", 1))}


def _norm_groups(op: Op) -> Mapping[str, int]:
    return {"g": int(op.attributes["num_groups"])}


def _group_norm(op: Op) -> str:
    """Up to opset 20 a group shares its scale and bias."""
    scale = "g" if op.opset < 21 else "(g c)"
    return optional(f"n (g c) *s, {scale}, {scale} -> n (g c) *s, -, -")(op)


ELEMENTWISE = """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil
    Celu Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf
    IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pointwise Pow Reciprocal Relu
    Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where
    Xor
""".split()  # noqa: SIM905
"""Ops that compute every position of their output from the same position of their inputs, which broadcast."""

REDUCTIONS = """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
""".split()  # noqa: SIM905

RULES: Mapping[str, Rule] = {
    # contractions
    "Conv": Rule(optional("n (g i) *s, (g o) i *k, (g o) -> n (g o) *t"), _SLIDES, _groups, {"group": "g"}),
    "ConvTranspose": Rule(optional("n (g i) *s, (g i) o *k, (g o) -> n (g o) *t"), _SLIDES, _groups, {"group": "g"}),
    "Gemm": Rule(lines.gemm),
    "MatMul": Rule(lines.matmul),
    "Einsum": Rule(lines.einsum, lines.einsum_fixed),
    "GroupedMatMul": Rule(lines.grouped_product, {"s": "sorted by its matrix", "e": lines.PICKED}),
    "ScaledDotProductAttention": Rule(lines.attention, {"l": NORMALISED, "s": NORMALISED}),
    "LSTM": Rule(lines.recurrent(gates=4, peepholes=3), _RECURRENT),
    "GRU": Rule(lines.recurrent(gates=3), _RECURRENT),
    "RNN": Rule(lines.recurrent(gates=1), _RECURRENT),
    # position by position
    **dict.fromkeys(ELEMENTWISE, Rule(lines.broadcast)),
    **dict.fromkeys(["CastLike", "Clip", "Dropout"], Rule(lines.first_carried)),
    **dict.fromkeys(["QuantizeLinear", "DequantizeLinear"], _QUANTISATION),
    "Trilu": Rule(optional("*b r c, - -> *b r c"), {"r": ORDERED, "c": ORDERED}),
    # normalisations
    "BatchNormalization": Rule(optional("n c *s, c, c, c, c -> n c *s, c, c, c, c")),
    "InstanceNormalization": Rule("n c *s, c, c -> n c *s", {"s": NORMALISED}),
    "GroupNormalization": Rule(_group_norm, {"c": NORMALISED, "s": NORMALISED}, _norm_groups, {"num_groups": "g"}),
    **dict.fromkeys(["LayerNormalization", "RMSNormalization"], _LAYER_NORM),
    "LpNormalization": Rule(carried, along("axis", -1, NORMALISED)),
    "LRN": Rule("n c *s -> n c *s", {"c": NORMALISED}),
    "MeanVarianceNormalization": Rule(carried, lines.standardised_axes),
    **dict.fromkeys(["Softmax", "LogSoftmax", "Hardmax"], _SOFTMAX),
    # windows, samples and reductions
    **dict.fromkeys(["MaxPool", "AveragePool", "LpPool"], _POOL),
    **dict.fromkeys(["GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"], _POOL),
    "GridSample": Rule("n c *s, n *t p -> n c *t", _SAMPLES),
    "RoiAlign": Rule("n c *s, r p, r -> r c *t", {**_SAMPLES, "n": "picked by number"}),
    **dict.fromkeys(REDUCTIONS, _REDUCTION),
    **dict.fromkeys(["ArgMax", "ArgMin"], Rule(lines.best, along("axis", 0, REDUCED))),
    "GatherND": Rule(lines.looked_up, lines.looked_up_fixed),
    "CumSum": Rule(carried, lines.accumulated_axis),
    "TopK": Rule(lines.top, lines.top_fixed),
}
