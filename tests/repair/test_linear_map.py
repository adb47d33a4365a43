"""Linear maps on whole activations: forwards as the runtime computes them, backwards as differentiation does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modhifi_graph.repair.linear_map import LinearMap

from ..oracles.layers import Net

OPS = {
    "plain": ("float[N,4,7,7] x", "float[6,4,3,3] w", "Conv<pads = [1,1,1,1]>(x, w)"),
    "strided": ("float[N,4,7,8] x", "float[6,4,3,3] w", "Conv<strides = [2,3], pads = [0,1,2,1]>(x, w)"),
    "dilated": ("float[N,4,9,9] x", "float[6,4,3,3] w", "Conv<dilations = [2,2], pads = [2,0,2,0]>(x, w)"),
    "grouped": ("float[N,4,7,7] x", "float[6,2,3,3] w", "Conv<group = 2, pads = [1,1,1,1]>(x, w)"),
    "depthwise": ("float[N,4,7,7] x", "float[4,1,3,3] w", "Conv<group = 4, strides = [2,2]>(x, w)"),
    "same": ("float[N,4,8,7] x", "float[6,4,3,3] w", 'Conv<auto_pad = "SAME_UPPER", strides = [2,2]>(x, w)'),
    "one axis": ("float[N,4,9] x", "float[6,4,3] w", "Conv<pads = [1,2]>(x, w)"),
    "three axes": ("float[N,2,4,4,4] x", "float[3,2,2,2,2] w", "Conv(x, w)"),
    "gemm": ("float[N,5] x", "float[5,3] w", "Gemm<alpha = 0.5>(x, w)"),
    "gemm, transposed": ("float[N,5] x", "float[3,5] w", "Gemm<transB = 1>(x, w)"),
    "gemm, input transposed": ("float[5,N] x", "float[5,3] w", "Gemm<transA = 1>(x, w)"),
    "matmul": ("float[N,4,5] x", "float[5,3] w", "MatMul(x, w)"),
    "matmul from the left": ("float[N,5,4] x", "float[3,5] w", "MatMul(w, x)"),
    "a stack of matrices": ("float[N,2,4,5] x", "float[2,5,3] w", "MatMul(x, w)"),
}


def layer(name: str) -> tuple[Net, LinearMap, torch.Tensor, torch.Tensor]:
    """A model of one layer, its map, its input and its weight."""
    x, w, op = OPS[name]
    rank = x.count(",") + 1
    net = Net.of(f"g ({x}) => (float[{','.join('N' + str(i) for i in range(rank))}] y) <{w}> {{ y = {op} }}", samples=3)
    (consumer,) = net.layers
    weight = torch.from_numpy(consumer.weight().astype(np.float32))
    return net, LinearMap(consumer), torch.from_numpy(net.feeds["x"]), weight


@pytest.mark.parametrize("name", OPS)
class TestLinearMap:
    def test_forwards_it_is_the_op(self, name: str) -> None:
        net, found, x, weight = layer(name)
        np.testing.assert_allclose(found.apply(x, weight), net.values["y"], atol=1e-5)

    def test_backwards_it_is_the_derivative(self, name: str) -> None:
        net, found, x, weight = layer(name)
        residual = torch.from_numpy(np.random.default_rng(1).standard_normal(net.values["y"].shape).astype(np.float32))
        before, outer = found.pull(x, weight, residual)
        x.requires_grad_()
        weight.requires_grad_()
        (found.apply(x, weight) * residual).sum().backward()
        assert x.grad is not None
        assert weight.grad is not None
        np.testing.assert_allclose(before, x.grad, atol=1e-4)
        np.testing.assert_allclose(outer, weight.grad, atol=1e-4)

    def test_channels_are_where_the_bias_goes(self, name: str) -> None:
        net, found, _, _ = layer(name)
        y = torch.from_numpy(net.values["y"])
        parts, outputs = found.consumer.parts, found.consumer.outputs
        bias = torch.arange(1.0, parts * outputs + 1).reshape(parts, outputs)
        rows = found.channels(torch.zeros_like(y) + found.shaped(bias, y))
        assert rows.shape == (parts, y.numel() // (parts * outputs), outputs)
        np.testing.assert_array_equal(rows, bias[:, None].expand_as(rows))
