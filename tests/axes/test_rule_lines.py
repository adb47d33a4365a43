"""Lines that depend on attributes, where no runtime has the op or the attribute."""

from __future__ import annotations

import numpy as np
import pytest

from modhifi_graph.axes import rule_lines as lines
from modhifi_graph.axes.rule_lines import Unknown

from .graphs import activation, constant, coupled, op, reasons, weight, written


def test_a_recurrence_with_the_batch_first():
    x, y, last, cell = (activation("x", 2, 5, 6), activation("y", 2, 5, 1, 4), activation("h", 2, 1, 4),
                        activation("c", 2, 1, 4))  # fmt: skip
    inputs = [x, weight("w", 1, 16, 6), weight("r", 1, 16, 4), weight("b", 1, 32)]
    coupling = coupled(op("LSTM", inputs, [y, last, cell], opset=14, layout=1, hidden_size=4))
    assert reasons(coupling, y, 3) == {"the state of a recurrence"}
    assert reasons(coupling, x, 1) == {"a recurrence runs over it"}
    assert reasons(coupling, x, 2) == set()
    contracted = coupling.operand(coupling.graph.ops[0], 1)[2]
    assert contracted is coupling.axes(x)[2] or written(coupling, x)[2] == "6"
    # batch first: the axis of length 2 is the same in both
    assert next(iter(coupling.bindings.values())).factors["n"].size == 2


@pytest.mark.parametrize(
    ("kind", "gates", "peepholes"), [("LSTM", "(4 h)", ", d n h, d (3 h)"), ("GRU", "(3 h)", ""), ("RNN", "h", "")]
)
def test_the_line_of_a_recurrence(kind, gates, peepholes):
    values = [activation(str(i), 1) for i in range(8 if peepholes else 6)]
    write = lines.recurrent({"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 3 if peepholes else 0)
    bias = {"LSTM": 8, "GRU": 6, "RNN": 2}[kind]
    outputs = "t d n h, d n h" + (", d n h" if peepholes else "")
    state = ", n, d n h"
    assert write(op(kind, values, values[:3])) == (
        f"t n i, d {gates} i, d {gates} h, d ({bias} h){state}{peepholes} -> {outputs}"
    )
    assert write(op(kind, [*values[:3], None, values[4]], values[:1])) == (
        f"t n i, d {gates} i, d {gates} h, -, n -> t d n h"
    )


@pytest.mark.parametrize(
    ("equation", "line", "summed"),
    [
        ("bij,bjk->bik", "b i j, b j k -> b i k", set()),
        ("bij , bjk", "b i j, b j k -> i k", set()),
        ("b...i,ij->b...j", "b *rest i, i j -> b *rest j", set()),
        ("...i,...i", "*rest i, *rest i -> *rest", set()),
        ("bij->bi", "b i j -> b i", {"j"}),
        ("bi,j->bi", "b i, j -> b i", {"j"}),
    ],
)
def test_einsum(equation, line, summed):
    einsum = op("Einsum", [], [], equation=equation)
    assert lines.einsum(einsum) == line
    assert lines.einsum_fixed(einsum).keys() == summed


def test_an_ellipsis_is_no_letter():
    """A run may not be taken for the letter r."""
    x, w, y = activation("x", 7, 3, 6), weight("w", 6, 5), activation("y", 7, 3, 5)
    coupling = coupled(op("Einsum", [x, w], [y], equation="...r,rs->...s"))
    assert reasons(coupling, x, 2) == set()
    assert coupling.axes(y)[0] is not coupling.axes(x)[2]


@pytest.mark.parametrize(
    ("attributes", "axes", "expected"),
    [
        ({}, None, [0, 1, 2]),
        ({"noop_with_empty_axes": 1}, None, []),
        ({"noop_with_empty_axes": 1}, [], []),
        ({"noop_with_empty_axes": 1}, [-1], [2]),
        ({}, [], [0, 1, 2]),
        ({"axes": [0, -1]}, None, [0, 2]),
    ],
)
def test_reduced_axes(attributes, axes, expected):
    given = [] if axes is None else [constant("axes", np.array(axes, np.int64))]
    assert lines.reduced_axes(op("ReduceSum", [activation("x", 2, 3, 4), *given], [], **attributes)) == expected


def test_axes_computed_at_run_time_are_not_guessed():
    x, axes, y = activation("x", 2, 3), activation("axes", 1), activation("y", 2, 1)
    coupling = coupled(op("ReduceSum", [x, axes], [y]))
    assert reasons(coupling, x, 1) == {"axes is computed at run time"}
    assert reasons(coupling, y, 0) == {"axes is computed at run time"}


@pytest.mark.parametrize(
    ("bias", "expected"),
    [
        ((7,), "*m k, k n, n -> *m n"),
        ((1,), "*m k, k n, 1 -> *m n"),
        ((4, 1), "m k, k n, m 1 -> m n"),
        ((), "*m k, k n,  -> *m n"),
    ],
)
def test_the_bias_of_a_gemm_broadcasts(bias, expected):
    inputs = [activation("x", 4, 3), weight("w", 3, 7), weight("b", *bias)]
    assert lines.gemm(op("Gemm", inputs, [])) == expected


@pytest.mark.parametrize(
    ("mask", "grouped", "expected"),
    [
        (None, False, "*b l e, *b s e, *b s v -> *b l v"),
        (None, True, "*b (h g) l e, *b h s e, *b h s v -> *b (h g) l v"),
        ((5, 7), False, "*b l e, *b s e, *b s v, l s -> *b l v"),
        ((2, 1, 1, 7), False, "*b l e, *b s e, *b s v, *b 1 s -> *b l v"),
        ((4, 5, 7), True, "*b (h g) l e, *b h s e, *b h s v, (h g) l s -> *b (h g) l v"),
        ((2, 1, 5, 7), True, "*b (h g) l e, *b h s e, *b h s v, *b 1 l s -> *b (h g) l v"),
    ],
)
def test_attention_with_masks_that_broadcast(mask, grouped, expected):
    q, k, v = activation("q", 2, 4, 5, 3), activation("k", 2, 4, 7, 3), activation("v", 2, 4, 7, 6)
    masks = [] if mask is None else [activation("m", *mask)]
    assert lines.attention(op("ScaledDotProductAttention", [q, k, v, *masks], [], grouped=grouped)) == expected


def test_blockwise_scales_are_a_boundary():
    inputs = [activation("x", 4, 8), weight("s", 4, 2)]
    with pytest.raises(Unknown, match="scaled by blocks"):
        lines.quantised(op("DequantizeLinear", inputs, [], block_size=4))


def test_softmax_changed_its_axis_in_opset_13():
    x = activation("x", 2, 3, 4)
    assert lines.softmax_axes(op("Softmax", [x], [], opset=13)).keys() == {"c"}
    assert lines.softmax_axes(op("Softmax", [x], [], opset=11)).keys() == {"b", "c"}
    assert lines.softmax_axes(op("Softmax", [x], [], opset=11, axis=-1)).keys() == {"c"}
