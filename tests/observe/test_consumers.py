"""Rows in and rows out of every layer, against torch and against the layer itself."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from modhifi_graph.observe.consumers import Unfolding, consumers_of

from ..oracles import small
from ..oracles.layers import Net

CONVOLUTIONS = {
    "1d": ("N,3,9", "4,3,3", ""),
    "1d_strided_asymmetric": ("N,3,10", "4,3,3", "strides = [2], pads = [2,0]"),
    "1d_dilated": ("N,3,12", "4,3,3", "dilations = [3], pads = [3,3]"),
    "2d_pointwise": ("N,5,4,4", "7,5,1,1", ""),
    "2d": ("N,3,6,7", "4,3,3,2", "pads = [1,0,1,1]"),
    "2d_strides_differ": ("N,3,9,8", "4,3,3,3", "strides = [2,3], pads = [1,1,1,1]"),
    "2d_dilations_differ": ("N,3,9,8", "4,3,3,2", "dilations = [2,3]"),
    "2d_asymmetric": ("N,3,7,6", "4,3,3,3", "pads = [0,2,1,0]"),
    "2d_everything": ("N,4,11,10", "6,2,3,2", "group = 2, strides = [2,3], dilations = [2,1], pads = [1,0,2,1]"),
    "2d_grouped": ("N,6,5,5", "9,2,3,3", "group = 3"),
    "2d_depthwise": ("N,5,6,6", "5,1,3,3", "group = 5, pads = [1,1,1,1]"),
    "2d_depthwise_twice": ("N,3,6,6", "6,1,3,3", "group = 3, strides = [2,2]"),
    "2d_one_position": ("N,3,3,3", "4,3,3,3", ""),
    "3d": ("N,2,5,4,6", "3,2,3,2,3", "pads = [1,0,1,1,1,1]"),
    "3d_everything": (
        "N,4,7,6,5",
        "6,2,2,3,2",
        "group = 2, strides = [2,1,2], dilations = [1,2,1], pads = [0,1,2,1,0,0]",
    ),
    "valid": ("N,3,7,6", "4,3,3,3", 'auto_pad = "VALID", strides = [2,2]'),
    **{
        f"same_{side}_{size}_{kernel}_{stride}": (
            f"N,2,{size},{size + 1}",
            f"3,2,{kernel},{kernel}",
            f'auto_pad = "SAME_{side.upper()}", strides = [{stride},{stride}]',
        )
        for side, size, kernel, stride in itertools.product(("upper", "lower"), (7, 8), (2, 3), (1, 2, 3))
    },
}

PRODUCTS = {
    "gemm": ("float[N,6] x", "float[6,5] w, float[5] b", "y = Gemm(x, w, b)"),
    "gemm_trans_b": ("float[N,6] x", "float[5,6] w, float[5] b", "y = Gemm<transB = 1>(x, w, b)"),
    "gemm_trans_a": ("float[6,N] x", "float[6,5] w, float[5] b", "y = Gemm<transA = 1>(x, w, b)"),
    "gemm_trans_both": ("float[6,N] x", "float[5,6] w, float[5] b", "y = Gemm<transA = 1, transB = 1>(x, w, b)"),
    "gemm_alpha": ("float[N,6] x", "float[6,5] w, float[5] b", "y = Gemm<alpha = 0.25>(x, w, b)"),
    "gemm_alpha_trans_b": ("float[N,6] x", "float[5,6] w", "y = Gemm<alpha = 3.0, transB = 1>(x, w)"),
    "matmul": ("float[N,6] x", "float[6,5] w", "y = MatMul(x, w)"),
    "matmul_3d": ("float[N,4,6] x", "float[6,5] w", "y = MatMul(x, w)"),
    "matmul_4d": ("float[N,2,4,6] x", "float[6,5] w", "y = MatMul(x, w)"),
    "matmul_left": ("float[6,N] x", "float[5,6] w", "y = MatMul(w, x)"),
    "matmul_left_3d": ("float[N,6,4] x", "float[5,6] w", "y = MatMul(w, x)"),
    "matmul_left_4d": ("float[N,3,6,4] x", "float[5,6] w", "y = MatMul(w, x)"),
}


def convolution(name: str) -> Net:
    x, w, attributes = CONVOLUTIONS[name]
    rank, outputs = x.count(","), w.split(",")[0]
    free = ",".join("NO" + "ABC"[: rank - 1])
    op = f"Conv<{attributes}>" if attributes else "Conv"
    graph = f"g (float[{x}] x) => (float[{free}] y) <float[{w}] w, float[{outputs}] b> {{ y = {op}(x, w, b) }}"
    return Net.of(graph, samples=3)


def linear(name: str) -> Net:
    x, weights, body = PRODUCTS[name]
    rank = x.count(",") + 1
    return Net.of(f"g ({x}) => (float[{','.join('ABCD'[:rank])}] y) <{weights}> {{ {body} }}", samples=3)


def constant(net: Net, name: str) -> np.ndarray | None:
    value = net.model.graph.initializers.get(name)
    return None if value is None or value.const_value is None else value.const_value.numpy()


@pytest.mark.parametrize("name", CONVOLUTIONS)
class TestConvolutions:
    def test_rows_times_weight_is_the_output(self, name: str) -> None:
        net = convolution(name)
        consumer, y = net.consumers["w"], net.outputs["y"]
        positions, rows_each = consumer.positions(net.feeds["x"].shape)
        assert (positions, rows_each) == (int(np.prod(y.shape[2:])), 3)
        picks = torch.arange(positions)
        x = consumer.input_rows(torch.from_numpy(net.feeds["x"]), picks).numpy()
        bias = constant(net, "b")
        assert bias is not None
        weight = consumer.weight()
        assert weight.shape == (consumer.parts, consumer.outputs, consumer.inputs)
        assert x.shape == (consumer.parts, 3 * positions, consumer.inputs)
        found = np.einsum("grp,gop->gro", x, weight) + bias.reshape(consumer.parts, 1, -1)
        np.testing.assert_allclose(
            found, consumer.output_rows(torch.from_numpy(y), picks).numpy(), rtol=1e-5, atol=1e-5
        )

    def test_picks_choose_rows(self, name: str) -> None:
        net = convolution(name)
        consumer, y = net.consumers["w"], net.outputs["y"]
        positions, _ = consumer.positions(net.feeds["x"].shape)
        some = np.random.default_rng(0).permutation(positions)[: max(1, positions // 2)]
        every, few = torch.arange(positions), torch.from_numpy(some)
        for rows, value in ((consumer.input_rows, net.feeds["x"]), (consumer.output_rows, y)):
            everything = rows(torch.from_numpy(value), every).unflatten(1, (3, positions))
            np.testing.assert_array_equal(rows(torch.from_numpy(value), few), everything[:, :, some].flatten(1, 2))

    def test_output_rows_are_the_channels_at_each_position(self, name: str) -> None:
        net = convolution(name)
        consumer, y = net.consumers["w"], net.outputs["y"]
        flat = y.reshape(3, consumer.parts, consumer.outputs, -1)
        expected = np.stack([flat[n, :, :, k] for n in range(3) for k in range(flat.shape[-1])], axis=1)
        found = consumer.output_rows(torch.from_numpy(y), torch.arange(flat.shape[-1]))
        np.testing.assert_array_equal(found, expected)

    def test_parameter_is_the_inverse_of_weight(self, name: str) -> None:
        net = convolution(name)
        consumer, raw = net.consumers["w"], constant(net, "w")
        assert raw is not None
        np.testing.assert_array_equal(consumer.parameter(consumer.weight(), raw), raw)


@pytest.mark.parametrize("name", [name for name, (_, w, _) in CONVOLUTIONS.items() if w.count(",") == 3])
def test_windows_are_those_of_torch(name: str) -> None:
    net = convolution(name)
    consumer = net.consumers["w"]
    x = torch.from_numpy(net.feeds["x"])
    weight = net.model.graph.initializers["w"].shape
    assert weight is not None
    kernel = [int(size) for size in weight.numpy()[2:]]
    strides = list(consumer.op.attributes.get("strides", [1, 1]))
    dilations = list(consumer.op.attributes.get("dilations", [1, 1]))
    top, left, bottom, right = Unfolding.of(consumer.op, x.shape[2:]).pads
    padded = torch.nn.functional.pad(x, (left, right, top, bottom))
    unfolded = torch.nn.functional.unfold(padded, kernel, dilation=dilations, stride=strides)  # n, c k k, positions
    expected = unfolded.unflatten(1, (consumer.parts, -1)).permute(1, 0, 3, 2).flatten(1, 2)
    found = consumer.input_rows(x, torch.arange(unfolded.shape[-1]))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", PRODUCTS)
class TestProducts:
    def test_rows_times_weight_is_the_output(self, name: str) -> None:
        net = linear(name)
        consumer, y = net.consumers["w"], net.outputs["y"]
        positions, rows_each = consumer.positions(net.feeds["x"].shape)
        assert (positions, rows_each) == (y.size // 5, 1)
        assert (consumer.parts, consumer.outputs, consumer.inputs, consumer.taps) == (1, 5, 6, 1)
        picks = torch.from_numpy(np.random.default_rng(0).permutation(positions)[: positions - 1])
        x = consumer.input_rows(torch.from_numpy(net.feeds["x"]), picks).numpy()
        bias = constant(net, "b")
        found = x @ consumer.weight().transpose(0, 2, 1) + (0 if bias is None else bias)
        np.testing.assert_allclose(
            found, consumer.output_rows(torch.from_numpy(y), picks).numpy(), rtol=1e-5, atol=1e-5
        )

    def test_output_rows_are_vectors_of_the_channel_axis(self, name: str) -> None:
        net = linear(name)
        consumer, y = net.consumers["w"], net.outputs["y"]
        axis = -2 if "left" in name else -1
        expected = np.moveaxis(y, axis, -1).reshape(-1, 5)
        found = consumer.output_rows(torch.from_numpy(y), torch.arange(len(expected)))
        np.testing.assert_array_equal(found[0], expected)

    def test_parameter_is_the_inverse_of_weight(self, name: str) -> None:
        net = linear(name)
        consumer, raw = net.consumers["w"], constant(net, "w")
        assert raw is not None
        back = consumer.parameter(consumer.weight(), raw)
        np.testing.assert_allclose(back, raw, rtol=1e-7)
        assert back.dtype == raw.dtype


def test_columns_say_which_component_owns_each_input() -> None:
    chain = Net.named("conv_chain")
    np.testing.assert_array_equal(chain.consumers["w1"].columns(chain.group("w0").factor), np.repeat(np.arange(8), 9))
    np.testing.assert_array_equal(chain.consumers["w1"].columns(chain.group("w1").factor), np.full(72, -1))
    flat = Net.named("flatten_gemm_transb1")
    np.testing.assert_array_equal(flat.consumers["w1"].columns(flat.group("w0").factor), np.repeat(np.arange(6), 16))
    attention = Net.named("attention_separate")
    heads, dims = (next(g for g in attention.groups.groups if g.size == n) for n in (3, 2))
    np.testing.assert_array_equal(attention.consumers["wo"].columns(heads.factor), np.repeat(np.arange(3), 2))
    np.testing.assert_array_equal(attention.consumers["wo"].columns(dims.factor), np.tile(np.arange(2), 3))


def test_each_matrix_of_a_stack_reads_rows_of_its_own() -> None:
    net = Net.named("experts", samples=8)
    found = net.consumers["down"]
    assert (found.parts, found.inputs, found.outputs) == (3, 10, 6)
    rows = net.rows("down")
    np.testing.assert_array_equal(rows, net.values["r"].transpose(1, 0, 2, 3).reshape(3, 32, 10))
    y = torch.from_numpy(net.values["e"])
    assert found.positions(net.values["r"].shape) == (32, 1)
    out = found.output_rows(y, torch.arange(32)).numpy()
    np.testing.assert_allclose(out, np.einsum("gop,grp->gro", found.weight(), rows), atol=1e-5)
    raw = found.op.inputs[1].array()  # type: ignore[union-attr]
    np.testing.assert_array_equal(found.parameter(found.weight(), raw), raw)
    (group,) = net.groups.groups
    assert (group.size, group.kind) == (10, "hidden")


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (
            "g (float[N,4,6] x) => (float[N,4,5] y) <float[3,6,5] w> "
            "{ a = Unsqueeze(x, axis) b = MatMul(a, w) y = ReduceSum(b, axis) }",
            "scoring MatMul with a weight of 3 axes is not supported",
        ),
        ("g (float[6] x) => (float[5] y) <float[5,6] w> { y = MatMul(w, x) }", "a weight times a single vector"),
    ],
)
def test_what_cannot_be_refitted_has_a_reason(graph: str, reason: str) -> None:
    net = Net.of(graph.replace("w>", "w, int64[1] axis = {1}>"))
    reasons = [c for c in consumers_of(net.groups).values() if isinstance(c, str)]
    assert len(reasons) == 1
    assert reasons[0].startswith(reason)


def test_recurrent_weights_have_a_reason() -> None:
    model = small.SMALL["lstm_bidirectional"]()
    reasons = [c for c in consumers_of(Net.of(model).groups).values() if isinstance(c, str)]
    assert reasons
    assert all("LSTM" in reason for reason in reasons)
