"""The groups of the small models: names, sizes, kinds, producers and consumers, and why the others stay whole."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from modhifi_graph.axes.groups import Groups, find_groups
from modhifi_graph.axes.layout import kept, owners, render

from ..oracles import small
from ..oracles.equivalence import groups_of, normalised
from .graphs import activation, coupled, op, reasons, weight

EXPECTED: dict[str, dict[str, int]] = {
    "conv_chain": {"w0": 8, "w1": 6},
    "residual_projection": {"w0": 4, "w1": 6, "w2": 8, "w4": 7},
    "depthwise_pointwise": {"w0": 6, "pw": 8, "dw2": 2},
    "grouped_conv_in2": {"w0/0": 4, "w0/1": 2, "gw": 3},
    "grouped_conv_in3": {"w0/0": 4, "w0/1": 3, "gw": 2, "gw2": 2},
    "conv_transpose": {"w0": 8, "w1": 6},
    "conv_transpose_grouped": {"w0/0": 2, "w0/1": 4, "w1": 3},
    "conv1d_conv3d": {"w0": 8},
    "batchnorm_opset15": {"w0": 8, "w1": 6},
    "squeeze_excite": {"w0": 8, "w1": 4},
    "prelu": {"w0": 8, "w1": 6},
    "shared_weight": {"w0": 8, "shared": 8, "shared#2": 8},
    "shared_zero_bias": {"w0": 4, "w1": 4, "w2": 4},
    "nhwc": {"w0": 8, "w1": 6},
    "shortcut_pad": {"w0": 4, "w1/0": 2, "w1/2": 2},
    "shortcut_strided_slice": {"w0": 4, "w1": 6, "w2/0": 2, "w2/2": 2},
    "shortcut_concat_zeros": {"w0": 4, "w1/1": 2},
    "shortcut_concat_constant_of_shape": {"w0": 4, "w1/1": 2},
    "dense_concat": {"w0": 6, "w1": 4, "w2": 4, "w3": 4},
    "c2f_split": {"w0/0": 4, "w0/1": 4, "w1": 4, "w2": 4},
    "c2f_slice": {"w0/0": 4, "w0/1": 5, "w1": 5},
    "channel_shuffle_twice": {"w0/0": 2, "w0/2": 3},
    "channel_shuffle_units": {"w0/0": 2, "w0/1": 2, "w0/2": 4},
    "flatten_gemm_transb0": {"w0": 6, "w1": 7},
    "flatten_gemm_transb1": {"w0": 6, "w1": 7},
    "pixel_shuffle_depth_to_space": {"w0/0": 3, "w1/1": 2},
    "pixel_shuffle_reshape": {"w0/0": 3},
    "space_to_depth": {"w0": 6},
    "pooling": {"w0": 6, "w1": 7, "w2": 8},
    "unsqueeze_squeeze": {"w0": 6, "w1": 7},
    "expand_tile": {"w0": 6, "w1": 4, "w2": 3},
    "where_mask": {"w0": 6},
    "channel_softmax_gate": {},
    "two_inputs": {"w0": 6},
    "two_outputs": {"w0": 8, "w2": 4},
    "dynamic_reshape": {"w0": 6, "w1": 7},
    "if_subgraph": {},
    "mlp_gelu_erf": {"w0": 10},
    "swiglu": {"gate": 10},
    "swiglu_packed": {"gate_up": 10},
    "experts": {"up": 10},
    "attention_fused_gather": {"wqkv/0": 3, "wqkv/1": 4},
    "attention_fused_split": {"wqkv/0": 3, "wqkv/1": 4, "wqkv/2": 4},
    "attention_separate": {"wq/0": 3, "wq/1": 4, "wv/1": 2},
    "attention_gqa": {"wq/0": 2, "wq/1": 3, "wq/2": 4, "wv/1": 4},
    "attention_rope": {"wq/0": 3, "wq/1": 2, "wv/1": 4},
    "einsum": {"wq": 4, "wq#2": 3, "wv": 4},
    "layernorm": {"w1": 10},
    "layernorm_decomposed": {"w1": 10},
    "rmsnorm_decomposed": {"w1": 10},
    "groupnorm_instance": {"w0/0": 2},
    "lstm": {"w0": 7},
    "lstm_bidirectional": {"w0": 7},
    "gru": {},
    "embedding": {"w1": 6, "w0": 10},
    "static_opset9": {"w0": 4, "w1": 6},
    "batchnorm_opset9": {"w0": 8},
    "upsample_opset9": {"w0": 6},
    "resize_opset11": {"w0": 6, "w1": 4},
    "resize_sizes_opset13": {"w0": 6},
    "local_function": {"w0": 8, "w1": 6},
    "custom_op": {},
    "initializers_as_inputs": {"w0": 4, "w1": 6},
    "constant_nodes": {"w0": 4, "w1": 6, "w2": 8, "w4": 7},
}

RESIDUAL = {"wo": "the graph's input 'x'"}

PINNED: dict[str, dict[str, str]] = {
    "channel_shuffle_twice": dict.fromkeys(["w0/1", "gw"], "(2 6) and (3 4) nest differently (Reshape 'node_7')"),
    "pixel_shuffle_depth_to_space": {
        "w0/1": "turned into pixels (DepthToSpace 'node_2')",
        "w1/0": "turned into pixels (DepthToSpace 'node_4')",
    },
    "pixel_shuffle_reshape": dict.fromkeys(["w0/1", "w0/2"], "a window slides over it (Conv 'node_5')"),
    "channel_softmax_gate": {"w0": "normalised together (Softmax 'node_4')"},
    "two_outputs": {"w1": "the graph's output 'feature'"},
    "if_subgraph": {"w0": "read by a subgraph (If 'node_4')"},
    "mlp_gelu_erf": {"w1": "the graph's input 'x'"},
    "swiglu": {"down": "the graph's input 'x'"},
    "swiglu_packed": {"down": "the graph's input 'x'"},
    "experts": {"down": "the graph's input 'x'", "router": "normalised together (Softmax 'node_5')"},
    **{f"attention_{name}": RESIDUAL for name in ("fused_split", "separate", "gqa", "rope")},
    "einsum": RESIDUAL,
    "layernorm": {"w0": "normalised together (LayerNormalization 'node_2')"},
    "layernorm_decomposed": {"w0": "reduced over (ReduceMean 'node_2')"},
    "rmsnorm_decomposed": {"w0": "reduced over (ReduceMean 'node_2')"},
    "groupnorm_instance": {"w0/1": "normalised together (InstanceNormalization 'node_2')"},
    "lstm": {"w": "the state of a recurrence (LSTM 'node_2')"},
    "lstm_bidirectional": {
        "w": "directions of a recurrence (LSTM 'node_2')",
        "w#2": "the state of a recurrence (LSTM 'node_2')",
    },
    "gru": {"w": "the state of a recurrence (GRU 'node')"},
    "custom_op": {"w0": "nothing is known about ops of domain 'com.acme' (Mystery 'node_1')"},
}  # fmt: skip
"""The first reason of every factor that a weight makes and that stays whole; of all other models there is none."""


@functools.cache
def groups(name: str) -> Groups:
    return groups_of(normalised(small.SMALL[name]()))


def test_every_small_model_is_expected():
    assert EXPECTED.keys() == small.SMALL.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_the_groups_of_a_small_model(name):
    assert {group.name: group.size for group in groups(name).groups} == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_why_the_others_of_a_small_model_stay_whole(name):
    assert {each.name: str(each.reasons[0]) for each in groups(name).pinned} == PINNED.get(name, {})


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("conv_chain", {"w0": "channels", "w1": "channels"}),
        ("flatten_gemm_transb1", {"w0": "channels", "w1": "hidden"}),
        ("mlp_gelu_erf", {"w0": "hidden"}),
        ("attention_separate", {"wq/0": "heads", "wq/1": "head dims", "wv/1": "head dims"}),
        ("attention_gqa", {"wq/0": "heads", "wq/1": "heads", "wq/2": "head dims", "wv/1": "head dims"}),
        ("einsum", {"wq": "head dims", "wq#2": "heads", "wv": "head dims"}),
    ],
)
def test_kinds(name, kinds):
    assert {group.name: group.kind for group in groups(name).groups} == kinds


def test_producers_and_consumers_of_a_residual_stream():
    group = groups("residual_projection").by_name()["w2"]
    assert [(use.value.name, use.axis) for use in group.producers] == [
        ("w2", 0), ("b2", 0), ("w3", 0), ("w5", 0)
    ]  # fmt: skip
    weights = [c.op.inputs[c.other].name for c in group.consumers]
    places = [(c.slot, c.axis, c.other, c.other_axis, c.weighted) for c in group.consumers]
    assert (weights, places) == (["w4", "w6"], [(0, 1, 1, 1, True)] * 2)


def test_two_activations_are_contracted_over_head_dims():
    group = groups("attention_separate").by_name()["wq/1"]
    (contraction,) = group.consumers
    assert (contraction.op.kind, contraction.weighted) == ("MatMul", False)
    assert (contraction.axis, contraction.other_axis) == (3, 2)
    assert {use.value.name for use in group.producers} == {"wq", "wk"}


def test_a_grouped_convolution_contracts_inside_its_groups():
    group = groups("grouped_conv_in3").by_name()["w0/1"]
    (contraction,) = group.consumers
    assert render(contraction.axis_layout) == "(4 3)"
    assert render(contraction.other_layout) == "3"
    np.testing.assert_array_equal(owners(contraction.axis_layout, group.factor), np.tile([0, 1, 2], 4))


def test_packed_heads_own_rows_of_all_three():
    by_name = groups("attention_fused_split").by_name()
    (use,) = [use for use in by_name["wqkv/0"].producers if use.value.name == "wqkv"]
    np.testing.assert_array_equal(kept(use.layout, {by_name["wqkv/0"].factor: np.array([1])}),
                                  [*range(4, 8), *range(16, 20), *range(28, 32)])  # fmt: skip


def test_names_are_unique_and_the_plan_finds_groups_by_them():
    found = groups("shared_weight")
    assert [group.name for group in found.groups] == ["w0", "shared", "shared#2"]
    assert found.by_name()["shared#2"] is found.groups[2]


def test_an_outer_product_of_channels_with_themselves_is_declined():
    """Bilinear pooling: position (i, j) belongs to two components."""
    x, a, t, p, f, y = (activation("x", 2, 5, 3), activation("a", 2, 5, 4), activation("t", 2, 4, 5),
                        activation("p", 2, 4, 4), activation("f", 2, 16), activation("y", 2, 7))  # fmt: skip
    coupling = coupled(
        op("MatMul", [x, weight("w0", 3, 4)], [a]),
        op("Transpose", [a], [t], perm=[0, 2, 1]),
        op("MatMul", [t, a], [p]),
        op("Flatten", [p], [f]),
        op("Gemm", [f, weight("w1", 16, 7)], [y]),
    )
    assert reasons(coupling, a, 2) == {"nested in itself"}
    assert find_groups(coupling).groups == ()


def test_a_contraction_over_a_length_known_only_at_run_time_is_declined():
    """Batch and channels contracted together, with an activation that has them nested too."""
    x, a, f, y = (activation("x", "n", 3), activation("a", "n", 4), activation("f", None), activation("y"))
    coupling = coupled(
        op("MatMul", [x, weight("w0", 3, 4)], [a]),
        op("Reshape", [a, weight("flat", 1)], [f]),
        op("MatMul", [f, f], [y]),
    )
    assert "contracted with a length known only at run time" in reasons(coupling, a, 1)
