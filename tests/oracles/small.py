"""Small hand-made ONNX models: one hard shape each, a few hundred weights, the kind that users file issues about.

>>> from tests.oracles import small
>>> small.SMALL["squeeze_excite"]().graph.output[0].name
'y'

Each is written in the notation of `onnx.parser`. What a graph's header declares without a value is a weight, and
`_draw` draws it by its name and shape from a fixed seed; what it declares with a value (shapes, indices, epsilons)
is kept. Sizes on the axes that matter are all different where the topology allows, so that a mix-up cannot pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

SEED = 20240
HEADER = '<ir_version: 8, opset_import: ["" : 17]>'
BATCH = 3
"""What a symbolic batch `N` is fed with."""

# the graphs; several of them differ only in how an exporter spells the same thing

CONVOLUTIONS = {
    "conv_chain": """
        g (float[N,3,8,8] x) => (float[N,5] y)
        <float[8,3,3,3] w0, float[8] b0, float[6,8,3,3] w1, float[6] b1, float[6,5] w2, float[5] b2> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0, b0)
          r0 = Relu(c0)
          c1 = Conv<pads = [1,1,1,1], strides = [2,2]>(r0, w1, b1)
          r1 = Relu(c1)
          p = GlobalAveragePool(r1)
          f = Flatten(p)
          y = Gemm(f, w2, b2)
        }""",
    "residual_projection": """
        g (float[N,3,8,8] x) => (float[N,5,4,4] y)
        <float[4,3,3,3] w0, float[4] b0, float[6,4,3,3] w1, float[6] b1, float[8,6,3,3] w2, float[8] b2,
         float[8,4,1,1] w3, float[7,8,3,3] w4, float[8,7,3,3] w5, float[5,8,1,1] w6> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0, b0)
          r0 = Relu(c0)
          c1 = Conv<pads = [1,1,1,1], strides = [2,2]>(r0, w1, b1)
          r1 = Relu(c1)
          c2 = Conv<pads = [1,1,1,1]>(r1, w2, b2)
          s = Conv<strides = [2,2]>(r0, w3)
          a = Add(c2, s)
          r2 = Relu(a)
          c4 = Conv<pads = [1,1,1,1]>(r2, w4)
          r4 = Relu(c4)
          c5 = Conv<pads = [1,1,1,1]>(r4, w5)
          b = Add(r2, c5)
          y = Conv(b, w6)
        }""",
    "depthwise_pointwise": """
        g (float[N,3,8,8] x) => (float[N,5,4,4] y)
        <float[6,3,3,3] w0, float[6] b0, float[6,1,3,3] dw, float[6] b1, float[8,6,1,1] pw, float[8] b2,
         float[16,1,3,3] dw2, float[5,16,1,1] w3, float zero = {0}, float six = {6}> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0, b0)
          r0 = Relu(c0)
          d = Conv<pads = [1,1,1,1], strides = [2,2], group = 6>(r0, dw, b1)
          r1 = Clip(d, zero, six)
          p = Conv(r1, pw, b2)
          r2 = Relu(p)
          e = Conv<pads = [1,1,1,1], group = 8>(r2, dw2)
          y = Conv(e, w3)
        }""",
    "grouped_conv_in2": """
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[8,3,3,3] w0, float[8] b0, float[12,2,3,3] gw, float[12] b1, float[5,12,1,1] w2> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0, b0)
          r0 = Relu(c0)
          c1 = Conv<pads = [1,1,1,1], group = 4>(r0, gw, b1)
          r1 = Relu(c1)
          y = Conv(r1, w2)
        }""",
    "grouped_conv_in3": """
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[12,3,3,3] w0, float[8,3,3,3] gw, float[8,2,3,3] gw2, float[5,8,1,1] w2> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          r0 = Relu(c0)
          c1 = Conv<pads = [1,1,1,1], group = 4>(r0, gw)
          r1 = Relu(c1)
          c2 = Conv<pads = [1,1,1,1], group = 4>(r1, gw2)
          y = Conv(c2, w2)
        }""",
    "conv_transpose": """
        g (float[N,3,6,6] x) => (float[N,5,12,12] y)
        <float[8,3,3,3] w0, float[8,6,2,2] w1, float[6] b1, float[5,6,3,3] w2> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          r0 = Relu(c0)
          t = ConvTranspose<strides = [2,2]>(r0, w1, b1)
          r1 = Relu(t)
          y = Conv<pads = [1,1,1,1]>(r1, w2)
        }""",
    "conv_transpose_grouped": """
        g (float[N,3,6,6] x) => (float[N,5,12,12] y)
        <float[8,3,3,3] w0, float[8,3,2,2] w1, float[6] b1, float[5,6,3,3] w2> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          r0 = Relu(c0)
          t = ConvTranspose<strides = [2,2], group = 2>(r0, w1, b1)
          r1 = Relu(t)
          y = Conv<pads = [1,1,1,1]>(r1, w2)
        }""",
    "conv1d_conv3d": """
        g (float[N,3,8] x) => (float[N,5,1,2,2] y)
        <float[8,3,3] w0, float[8] b0, float[5,8,1,3,3] w1, int64[1] axis = {2}, int64[5] shape = {0,0,1,4,-1}> {
          c0 = Conv<pads = [1,1]>(x, w0, b0)
          r0 = Relu(c0)
          u = Unsqueeze(r0, axis)
          v = Concat<axis = 2>(u, u)
          s = Reshape(v, shape)
          y = Conv<pads = [0,0,0,0,0,0]>(s, w1)
        }""",
    "batchnorm_opset15": """
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[8,3,3,3] w0, float[8] gain0, float[8] bias0, float[8] mean0, float[8] variance0,
         float[6,8,3,3] w1, float[6] gain1, float[6] bias1, float[6] mean1, float[6] variance1, float[5,6,1,1] w2> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          n0 = BatchNormalization<epsilon = 0.00001>(c0, gain0, bias0, mean0, variance0)
          r0 = Relu(n0)
          c1 = Conv<pads = [1,1,1,1]>(r0, w1)
          n1 = BatchNormalization(c1, gain1, bias1, mean1, variance1)
          r1 = Relu(n1)
          y = Conv(r1, w2)
        }""",
    "squeeze_excite": """
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[8,3,3,3] w0, float[8] b0, float[4,8,1,1] w1, float[4] b1, float[8,4,1,1] w2, float[8] b2,
         float[5,8,1,1] w3> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0, b0)
          h = HardSwish(c0)
          p = GlobalAveragePool(h)
          s1 = Conv(p, w1, b1)
          r = Relu(s1)
          s2 = Conv(r, w2, b2)
          gate = HardSigmoid<alpha = 0.1666667, beta = 0.5>(s2)
          m = Mul(gate, h)
          y = Conv(m, w3)
        }""",
    "prelu": """
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[8,3,3,3] w0, float[8,1,1] slope, float[6,8,1,1] w1, float[1] slope1, float[5,6,1,1] w2> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          r0 = PRelu(c0, slope)
          c1 = Conv(r0, w1)
          r1 = PRelu(c1, slope1)
          y = Conv(r1, w2)
        }""",
    "shared_weight": """
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[8,3,3,3] w0, float[8,8,3,3] shared, float[8] b, float[5,8,1,1] w1> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          r0 = Relu(c0)
          c1 = Conv<pads = [1,1,1,1]>(r0, shared, b)
          r1 = Relu(c1)
          c2 = Conv<pads = [1,1,1,1]>(r1, shared, b)
          r2 = Relu(c2)
          y = Conv(r2, w1)
        }""",
    "shared_zero_bias": """
        g (float[N,4,8,8] x) => (float[N,4,8,8] y)
        <float[4,4,3,3] w0, float[4,4,3,3] w1, float[4,4,3,3] w2, float[4,4,3,3] w3, float[4] zero = {0,0,0,0}> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0, zero)
          r0 = Relu(c0)
          c1 = Conv<pads = [1,1,1,1]>(r0, w1, zero)
          r1 = Relu(c1)
          c2 = Conv<pads = [1,1,1,1]>(r1, w2, zero)
          r2 = Relu(c2)
          y = Conv<pads = [1,1,1,1]>(r2, w3, zero)
        }""",
    "nhwc": """
        g (float[N,8,8,3] x) => (float[N,5] y)
        <float[8,3,3,3] w0, float[8] b0, float[6,8,3,3] w1, float[6] b1, float[6,5] w2, float[5] b2> {
          t0 = Transpose<perm = [0,3,1,2]>(x)
          c0 = Conv<auto_pad = "SAME_UPPER", strides = [2,2]>(t0, w0)
          u0 = Transpose<perm = [0,2,3,1]>(c0)
          a0 = Add(u0, b0)
          r0 = Relu(a0)
          t1 = Transpose<perm = [0,3,1,2]>(r0)
          c1 = Conv<auto_pad = "SAME_UPPER">(t1, w1)
          u1 = Transpose<perm = [0,2,3,1]>(c1)
          a1 = Add(u1, b1)
          r1 = Relu(a1)
          p = ReduceMean<axes = [1,2], keepdims = 0>(r1)
          m = MatMul(p, w2)
          y = Add(m, b2)
        }""",
}

SHORTCUTS = {
    "shortcut_pad": """
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[4,3,3,3] w0, float[8,4,3,3] w1, float[5,8,1,1] w2, int64[8] pads = {0,2,0,0, 0,2,0,0}> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          r0 = Relu(c0)
          c1 = Conv<pads = [1,1,1,1]>(r0, w1)
          s = Pad(r0, pads)
          a = Add(c1, s)
          r1 = Relu(a)
          y = Conv(r1, w2)
        }""",
    # option A of He et al. 2015, as the CIFAR ResNets export: x[:, :, ::2, ::2], zero channels on both sides
    "shortcut_strided_slice": """
        g (float[N,3,8,8] x) => (float[N,5,4,4] y)
        <float[4,3,3,3] w0, float[6,4,3,3] w1, float[8,6,3,3] w2, float[5,8,1,1] w3, int64[2] starts = {0,0},
         int64[2] ends = {9223372036854775807,9223372036854775807}, int64[2] axes = {2,3}, int64[2] steps = {2,2},
         int64[8] pads = {0,2,0,0, 0,2,0,0}, float zero = {0}> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          r0 = Relu(c0)
          c1 = Conv<pads = [1,1,1,1], strides = [2,2]>(r0, w1)
          r1 = Relu(c1)
          c2 = Conv<pads = [1,1,1,1]>(r1, w2)
          half = Slice(r0, starts, ends, axes, steps)
          s = Pad(half, pads, zero)
          a = Add(c2, s)
          r2 = Relu(a)
          y = Conv(r2, w3)
        }""",
    "shortcut_concat_zeros": """
        g (float[2,3,2,2] x) => (float[2,5,2,2] y)
        <float[4,3,3,3] w0, float[6,4,3,3] w1, float[5,6,1,1] w2,
         float[2,2,2,2] zeros = {0,0,0,0, 0,0,0,0, 0,0,0,0, 0,0,0,0}> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          r0 = Relu(c0)
          c1 = Conv<pads = [1,1,1,1]>(r0, w1)
          s = Concat<axis = 1>(r0, zeros)
          a = Add(c1, s)
          r1 = Relu(a)
          y = Conv(r1, w2)
        }""",
    "shortcut_concat_constant_of_shape": """
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[4,3,3,3] w0, float[6,4,3,3] w1, float[5,6,1,1] w2, int64 i0 = {0}, int64[1] a0 = {0},
         int64[3] rest = {2,8,8}> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          r0 = Relu(c0)
          c1 = Conv<pads = [1,1,1,1]>(r0, w1)
          shape = Shape(r0)
          n = Gather(shape, i0)
          n1 = Unsqueeze(n, a0)
          size = Concat<axis = 0>(n1, rest)
          zeros = ConstantOfShape(size)
          s = Concat<axis = 1>(r0, zeros)
          a = Add(c1, s)
          r1 = Relu(a)
          y = Conv(r1, w2)
        }""",
    "dense_concat": """
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[6,3,3,3] w0, float[4,6,3,3] w1, float[4,10,3,3] w2, float[4,14,3,3] w3, float[5,18,1,1] w4,
         float[14] gain, float[14] bias, float[14] mean, float[14] variance> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          r0 = Relu(c0)
          d1 = Conv<pads = [1,1,1,1]>(r0, w1)
          k1 = Concat<axis = 1>(r0, d1)
          d2 = Conv<pads = [1,1,1,1]>(k1, w2)
          k2 = Concat<axis = 1>(r0, d1, d2)
          n2 = BatchNormalization(k2, gain, bias, mean, variance)
          r2 = Relu(n2)
          d3 = Conv<pads = [1,1,1,1]>(r2, w3)
          k3 = Concat<axis = 1>(r0, d1, d2, d3)
          y = Conv(k3, w4)
        }""",
    "c2f_split": """
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[8,3,1,1] w0, float[8] b0, float[4,4,3,3] w1, float[4,4,3,3] w2, float[5,16,1,1] w3,
         int64[2] sizes = {4,4}> {
          c0 = Conv(x, w0, b0)
          s0 = Sigmoid(c0)
          r0 = Mul(c0, s0)
          a, b = Split<axis = 1>(r0, sizes)
          c1 = Conv<pads = [1,1,1,1]>(b, w1)
          c2 = Conv<pads = [1,1,1,1]>(c1, w2)
          e = Add(b, c2)
          c3 = Conv<pads = [1,1,1,1]>(e, w2)
          k = Concat<axis = 1>(a, b, e, c3)
          y = Conv(k, w3)
        }""",
    "c2f_slice": """
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[9,3,1,1] w0, float[9] b0, float[5,5,3,3] w1, float[5,14,1,1] w2,
         int64[1] i0 = {0}, int64[1] i4 = {4}, int64[1] end = {2147483647}, int64[1] axis = {1}> {
          c0 = Conv(x, w0, b0)
          r0 = Relu(c0)
          a = Slice(r0, i0, i4, axis)
          b = Slice(r0, i4, end, axis)
          c1 = Conv<pads = [1,1,1,1]>(b, w1)
          k = Concat<axis = 1>(a, b, c1)
          y = Conv(k, w2)
        }""",
    "channel_shuffle_twice": """
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[12,3,1,1] w0, float[12,1,3,3] dw0, float[12,6,1,1] gw, float[12] b1, float[12,1,3,3] dw1,
         float[5,12,1,1] w2, int64[5] five = {0,2,6,8,8}, int64[5] five3 = {0,3,4,8,8}, int64[4] four = {0,-1,8,8}> {
          c0 = Conv(x, w0)
          d0 = Conv<pads = [1,1,1,1], group = 12>(c0, dw0)
          v0 = Reshape(d0, five)
          t0 = Transpose<perm = [0,2,1,3,4]>(v0)
          s0 = Reshape(t0, four)
          c1 = Conv<group = 2>(s0, gw, b1)
          r1 = Relu(c1)
          v1 = Reshape(r1, five3)
          t1 = Transpose<perm = [0,2,1,3,4]>(v1)
          s1 = Reshape(t1, four)
          d1 = Conv<pads = [1,1,1,1], group = 12>(s1, dw1)
          y = Conv(d1, w2)
        }""",
    # a ShuffleNetV2 unit: half of the channels goes through unchanged, then both halves are interleaved, twice
    "channel_shuffle_units": """
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[8,3,1,1] w0, float[4,4,1,1] w1, float[4,4,1,1] w2, float[5,8,1,1] w3,
         int64[2] half = {4,4}, int64[5] five = {0,2,4,8,8}, int64[4] four = {0,8,8,8}> {
          c0 = Conv(x, w0)
          r0 = Relu(c0)
          a0, b0 = Split<axis = 1>(r0, half)
          c1 = Conv(b0, w1)
          k0 = Concat<axis = 1>(a0, c1)
          v0 = Reshape(k0, five)
          t0 = Transpose<perm = [0,2,1,3,4]>(v0)
          s0 = Reshape(t0, four)
          a1, b1 = Split<axis = 1>(s0, half)
          c2 = Conv(b1, w2)
          k1 = Concat<axis = 1>(a1, c2)
          v1 = Reshape(k1, five)
          t1 = Transpose<perm = [0,2,1,3,4]>(v1)
          s1 = Reshape(t1, four)
          y = Conv(s1, w3)
        }""",
}

SPATIAL = {
    "flatten_gemm_transb0": """
        g (float[N,3,4,4] x) => (float[N,5] y)
        <float[6,3,3,3] w0, float[6] b0, float[96,7] w1, float[7] b1, float[7,5] w2> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0, b0)
          r0 = Relu(c0)
          f = Flatten(r0)
          h = Gemm<transB = 0>(f, w1, b1)
          r1 = Relu(h)
          y = MatMul(r1, w2)
        }""",
    "flatten_gemm_transb1": """
        g (float[N,3,4,4] x) => (float[N,5] y)
        <float[6,3,3,3] w0, float[6] b0, float[7,96] w1, float[7] b1, float[5,7] w2, float[5] b2> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0, b0)
          r0 = Relu(c0)
          f = Flatten(r0)
          h = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(f, w1, b1)
          r1 = Relu(h)
          y = Gemm<transB = 1>(r1, w2, b2)
        }""",
    "pixel_shuffle_depth_to_space": """
        g (float[N,3,4,4] x) => (float[N,5,8,8] y)
        <float[12,3,3,3] w0, float[12] b0, float[8,3,3,3] w1, float[5,2,1,1] w2> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0, b0)
          r0 = Relu(c0)
          d0 = DepthToSpace<blocksize = 2, mode = "CRD">(r0)
          c1 = Conv<pads = [1,1,1,1]>(d0, w1)
          d1 = DepthToSpace<blocksize = 2, mode = "DCR">(c1)
          p = MaxPool<kernel_shape = [2,2], strides = [2,2]>(d1)
          y = Conv(p, w2)
        }""",
    "pixel_shuffle_reshape": """
        g (float[N,3,4,4] x) => (float[N,5,8,8] y)
        <float[12,3,3,3] w0, float[12] b0, float[5,3,3,3] w1, int64[6] six = {0,3,2,2,4,4},
         int64[4] four = {0,3,8,8}> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0, b0)
          v = Reshape(c0, six)
          t = Transpose<perm = [0,1,4,2,5,3]>(v)
          s = Reshape(t, four)
          r = Relu(s)
          y = Conv<pads = [1,1,1,1]>(r, w1)
        }""",
    "space_to_depth": """
        g (float[N,3,8,8] x) => (float[N,5,4,4] y)
        <float[6,3,3,3] w0, float[5,24,1,1] w1> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          r0 = Relu(c0)
          s = SpaceToDepth<blocksize = 2>(r0)
          y = Conv(s, w1)
        }""",
    "pooling": """
        g (float[N,3,8,8] x) => (float[N,5] y)
        <float[6,3,3,3] w0, float[7,6,3,3] w1, float[8,7,1,1] w2, float[16,5] w3> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          m = MaxPool<kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]>(c0)
          c1 = Conv<pads = [1,1,1,1]>(m, w1)
          a = AveragePool<kernel_shape = [2,2], strides = [2,2]>(c1)
          c2 = Conv(a, w2)
          r = Relu(c2)
          p = GlobalAveragePool(r)
          q = ReduceMean<axes = [2,3], keepdims = 1>(r)
          z = GlobalMaxPool(r)
          d = Sub(z, q)
          k = Concat<axis = 1>(p, d)
          f = Flatten(k)
          y = MatMul(f, w3)
        }""",
    "unsqueeze_squeeze": """
        g (float[N,3,8] x) => (float[N,5,8] y)
        <float[6,3,1,3] w0, float[7,6,3] w1, float[5,7,1,1] w2, int64[1] a2 = {2}, int64[1] last = {-1}> {
          u = Unsqueeze(x, a2)
          c0 = Conv<pads = [0,1,0,1]>(u, w0)
          r0 = Relu(c0)
          s = Squeeze(r0, a2)
          c1 = Conv<pads = [1,1]>(s, w1)
          r1 = Relu(c1)
          v = Unsqueeze(r1, last)
          c2 = Conv(v, w2)
          y = Squeeze(c2, last)
        }""",
    # a context branch, spread over the image again, as in DeepLab's ASPP
    "expand_tile": """
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[6,3,3,3] w0, float[4,6,1,1] w1, float[3,6,1,1] w2, float[5,16,1,1] w3,
         int64[4] size = {1,1,8,8}, int64[4] spatial = {1,1,8,8}, int64[4] channels = {1,2,1,1}> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          r0 = Relu(c0)
          p = GlobalAveragePool(r0)
          c1 = Conv(p, w1)
          e = Expand(c1, size)
          c2 = Conv(p, w2)
          t = Tile(c2, spatial)
          tt = Tile(t, channels)
          k = Concat<axis = 1>(r0, e, tt)
          y = Conv(k, w3)
        }""",
    "where_mask": """
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[6,3,3,3] w0, float[6,3,1,1] w1, float[5,6,1,1] w2, float zero = {0}> {
          s = ReduceMean<axes = [1], keepdims = 1>(x)
          mask = Greater(s, zero)
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          c1 = Conv(x, w1)
          w = Where(mask, c0, c1)
          keep = Where(mask, w, zero)
          a = Add(keep, w)
          y = Conv(a, w2)
        }""",
    "channel_softmax_gate": """
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[6,3,3,3] w0, float[6,6,1,1] w1, float[5,6,1,1] w2> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          r0 = Relu(c0)
          p = GlobalAveragePool(r0)
          l = Conv(p, w1)
          gate = Softmax<axis = 1>(l)
          m = Mul(r0, gate)
          y = Conv(m, w2)
        }""",
    "two_inputs": """
        g (float[N,3,8,8] image, float[N,7] code) => (float[N,5,8,8] y)
        <float[6,3,3,3] w0, float[7,12] w1, float[12] b1, float[5,6,1,1] w2, int64[2] axes = {2,3},
         int64[2] halves = {6,6}> {
          c0 = Conv<pads = [1,1,1,1]>(image, w0)
          h = Gemm(code, w1, b1)
          scale, shift = Split<axis = 1>(h, halves)
          scale4 = Unsqueeze(scale, axes)
          shift4 = Unsqueeze(shift, axes)
          m = Mul(c0, scale4)
          a = Add(m, shift4)
          r = Relu(a)
          y = Conv(r, w2)
        }""",
    "two_outputs": """
        g (float[N,3,8,8] x) => (float[N,5,8,8] y, float[N,6,8,8] feature)
        <float[8,3,3,3] w0, float[6,8,3,3] w1, float[4,6,1,1] w2, float[5,4,1,1] w3> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          r0 = Relu(c0)
          c1 = Conv<pads = [1,1,1,1]>(r0, w1)
          feature = Relu(c1)
          c2 = Conv(feature, w2)
          r2 = Relu(c2)
          y = Conv(r2, w3)
        }""",
    # x.view(n, -1) and x.view(n, c * h * w) as the TorchScript exporter writes them
    "dynamic_reshape": """
        g (float[N,3,4,4] x) => (float[N,5] y)
        <float[6,3,3,3] w0, float[7,96] w1, float[7] b1, float[5,7] w2,
         int64 i0 = {0}, int64 i1 = {1}, int64 i2 = {2}, int64 i3 = {3}, int64[1] a0 = {0}, int64[1] rest = {-1}> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          r0 = Relu(c0)
          s = Shape(r0)
          n = Gather(s, i0)
          c = Gather(s, i1)
          h = Gather(s, i2)
          w = Gather(s, i3)
          hw = Mul(h, w)
          n1 = Unsqueeze(n, a0)
          c1 = Unsqueeze(c, a0)
          hw1 = Unsqueeze(hw, a0)
          three = Concat<axis = 0>(n1, c1, hw1)
          v = Reshape(r0, three)
          chw = Mul(c, hw)
          chw1 = Unsqueeze(chw, a0)
          two = Concat<axis = 0>(n1, chw1)
          f = Reshape(v, two)
          g = Gemm<transB = 1>(f, w1, b1)
          again = Concat<axis = 0>(n1, rest)
          e = Reshape(g, again)
          r1 = Relu(e)
          y = Gemm<transB = 1>(r1, w2)
        }""",
    "if_subgraph": """
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[6,3,3,3] w0, float[6,6,1,1] w1, float[6,6,3,3] w2, float[5,6,1,1] w3, float zero = {0}> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          r0 = Relu(c0)
          s = ReduceMean<keepdims = 0>(x)
          condition = Greater(s, zero)
          b = If (condition) <
            then_branch = g1 () => (float[N,6,8,8] t) { t = Conv(r0, w1) },
            else_branch = g2 () => (float[N,6,8,8] e) { e = Conv<pads = [1,1,1,1]>(r0, w2) }>
          y = Conv(b, w3)
        }""",
}

SEQUENCES = {
    "mlp_gelu_erf": """
        g (float[N,4,6] x) => (float[N,4,6] y)
        <float[6,10] w0, float[10] b0, float[10,6] w1, float[6] b1,
         float root2 = {1.4142135}, float one = {1}, float half = {0.5}> {
          m = MatMul(x, w0)
          h = Add(m, b0)
          d = Div(h, root2)
          e = Erf(d)
          e1 = Add(e, one)
          he = Mul(h, e1)
          a = Mul(he, half)
          n = MatMul(a, w1)
          o = Add(b1, n)
          y = Add(x, o)
        }""",
    "swiglu": """
        g (float[N,4,6] x) => (float[N,4,6] y)
        <float[6,10] gate, float[6,10] up, float[10,6] down> {
          g = MatMul(x, gate)
          s = Sigmoid(g)
          a = Mul(g, s)
          u = MatMul(x, up)
          h = Mul(a, u)
          d = MatMul(h, down)
          y = Add(x, d)
        }""",
    # the same with gate and up in one matrix, as Phi-3 has it
    "swiglu_packed": """
        g (float[N,4,6] x) => (float[N,4,6] y)
        <float[6,20] gate_up, float[10,6] down, int64[2] sizes = {10,10}> {
          p = MatMul(x, gate_up)
          g, u = Split<axis = -1>(p, sizes)
          s = Sigmoid(g)
          a = Mul(g, s)
          h = Mul(a, u)
          d = MatMul(h, down)
          y = Add(x, d)
        }""",
    "attention_fused_gather": """
        g (float[N,5,12] x) => (float[N,5,12] y)
        <float[12,36] wqkv, float[36] bqkv, float[12,12] wo, float[12] bo, int64[5] five = {0,5,3,3,4},
         int64[3] three = {0,5,12}, int64 i0 = {0}, int64 i1 = {1}, int64 i2 = {2}, float scale = {0.5}> {
          m = MatMul(x, wqkv)
          qkv = Add(m, bqkv)
          v5 = Reshape(qkv, five)
          t5 = Transpose<perm = [2,0,3,1,4]>(v5)
          q = Gather<axis = 0>(t5, i0)
          k = Gather<axis = 0>(t5, i1)
          v = Gather<axis = 0>(t5, i2)
          kt = Transpose<perm = [0,1,3,2]>(k)
          qs = Mul(q, scale)
          s = MatMul(qs, kt)
          p = Softmax<axis = -1>(s)
          a = MatMul(p, v)
          at = Transpose<perm = [0,2,1,3]>(a)
          f = Reshape(at, three)
          o = MatMul(f, wo)
          y = Add(o, bo)
        }""",
    "attention_fused_split": """
        g (float[N,5,12] x) => (float[N,5,12] y)
        <float[12,36] wqkv, float[36] bqkv, float[12,12] wo, float[12] bo, int64[3] sizes = {12,12,12},
         int64[4] four = {0,0,3,4}, int64[3] three = {0,0,-1}, float scale = {2}> {
          m = MatMul(x, wqkv)
          qkv = Add(m, bqkv)
          q3, k3, v3 = Split<axis = 2>(qkv, sizes)
          q4 = Reshape(q3, four)
          k4 = Reshape(k3, four)
          v4 = Reshape(v3, four)
          q = Transpose<perm = [0,2,1,3]>(q4)
          kt = Transpose<perm = [0,2,3,1]>(k4)
          v = Transpose<perm = [0,2,1,3]>(v4)
          s = MatMul(q, kt)
          d = Div(s, scale)
          p = Softmax<axis = -1>(d)
          a = MatMul(p, v)
          at = Transpose<perm = [0,2,1,3]>(a)
          f = Reshape(at, three)
          o = MatMul(f, wo)
          b = Add(o, bo)
          y = Add(x, b)
        }""",
    # q and k of width 4 a head, v of 2: nothing says that they must be equal; and a causal mask
    "attention_separate": """
        g (float[N,5,12] x) => (float[N,5,12] y)
        <float[12,12] wq, float[12] bq, float[12,12] wk, float[12,6] wv, float[6] bv, float[6,12] wo,
         int64[4] four = {0,0,3,4}, int64[4] four_v = {0,0,3,2}, int64[3] three = {0,0,6}, float scale = {0.5},
         int64[2] square = {5,5}, float minus = {-1e9}> {
          qm = MatMul(x, wq)
          qb = Add(qm, bq)
          km = MatMul(x, wk)
          vm = MatMul(x, wv)
          vb = Add(vm, bv)
          q4 = Reshape(qb, four)
          k4 = Reshape(km, four)
          v4 = Reshape(vb, four_v)
          q = Transpose<perm = [0,2,1,3]>(q4)
          kt = Transpose<perm = [0,2,3,1]>(k4)
          v = Transpose<perm = [0,2,1,3]>(v4)
          s = MatMul(q, kt)
          d = Mul(s, scale)
          ones = ConstantOfShape<value = float[1] {1}>(square)
          lower = Trilu<upper = 0>(ones)
          mask = Cast<to = 9>(lower)
          causal = Where(mask, d, minus)
          p = Softmax<axis = -1>(causal)
          a = MatMul(p, v)
          at = Transpose<perm = [0,2,1,3]>(a)
          f = Reshape(at, three)
          o = MatMul(f, wo)
          y = Add(x, o)
        }""",
    "attention_gqa": """
        g (float[N,5,12] x) => (float[N,5,12] y)
        <float[12,24] wq, float[12,8] wk, float[12,8] wv, float[24,12] wo, int64[4] heads = {0,0,6,4},
         int64[4] kv_heads = {0,0,2,4}, int64[1] a2 = {2}, int64[5] repeat = {1,1,3,1,1}, int64[4] merged = {0,6,5,4},
         int64[3] three = {0,0,24}, float scale = {0.5}> {
          qm = MatMul(x, wq)
          km = MatMul(x, wk)
          vm = MatMul(x, wv)
          q4 = Reshape(qm, heads)
          k4 = Reshape(km, kv_heads)
          v4 = Reshape(vm, kv_heads)
          q = Transpose<perm = [0,2,1,3]>(q4)
          kh = Transpose<perm = [0,2,1,3]>(k4)
          vh = Transpose<perm = [0,2,1,3]>(v4)
          k5 = Unsqueeze(kh, a2)
          v5 = Unsqueeze(vh, a2)
          ke = Expand(k5, repeat)
          ve = Expand(v5, repeat)
          k = Reshape(ke, merged)
          v = Reshape(ve, merged)
          kt = Transpose<perm = [0,1,3,2]>(k)
          s = MatMul(q, kt)
          d = Mul(s, scale)
          p = Softmax<axis = -1>(d)
          a = MatMul(p, v)
          at = Transpose<perm = [0,2,1,3]>(a)
          f = Reshape(at, three)
          o = MatMul(f, wo)
          y = Add(x, o)
        }""",
    "attention_rope": """
        g (float[N,5,12] x) => (float[N,5,12] y)
        <float[12,12] wq, float[12,12] wk, float[12,12] wv, float[12,12] wo, float[5,4] cosine, float[5,4] sine,
         int64[4] four = {0,0,3,4}, int64[3] three = {0,0,12}, int64[1] i0 = {0}, int64[1] i2 = {2},
         int64[1] end = {9223372036854775807}, int64[1] last = {3}, float scale = {0.5}> {
          qm = MatMul(x, wq)
          km = MatMul(x, wk)
          vm = MatMul(x, wv)
          q4 = Reshape(qm, four)
          k4 = Reshape(km, four)
          v4 = Reshape(vm, four)
          q = Transpose<perm = [0,2,1,3]>(q4)
          k = Transpose<perm = [0,2,1,3]>(k4)
          v = Transpose<perm = [0,2,1,3]>(v4)
          q_low = Slice(q, i0, i2, last)
          q_high = Slice(q, i2, end, last)
          q_neg = Neg(q_high)
          q_turned = Concat<axis = -1>(q_neg, q_low)
          q_cos = Mul(q, cosine)
          q_sin = Mul(q_turned, sine)
          qr = Add(q_cos, q_sin)
          k_low = Slice(k, i0, i2, last)
          k_high = Slice(k, i2, end, last)
          k_neg = Neg(k_high)
          k_turned = Concat<axis = -1>(k_neg, k_low)
          k_cos = Mul(k, cosine)
          k_sin = Mul(k_turned, sine)
          kr = Add(k_cos, k_sin)
          kt = Transpose<perm = [0,1,3,2]>(kr)
          s = MatMul(qr, kt)
          d = Mul(s, scale)
          p = Softmax<axis = -1>(d)
          a = MatMul(p, v)
          at = Transpose<perm = [0,2,1,3]>(a)
          f = Reshape(at, three)
          o = MatMul(f, wo)
          y = Add(x, o)
        }""",
    # wo[heads, dims, out] and wq[in, heads, dims], as JAX models are exported
    "einsum": """
        g (float[N,5,12] x) => (float[N,5,12] y)
        <float[12,3,4] wq, float[12,3,4] wk, float[12,3,4] wv, float[3,4,12] wo, float scale = {0.5}> {
          q = Einsum<equation = "btm,mhd->bthd">(x, wq)
          k = Einsum<equation = "btm,mhd->bthd">(x, wk)
          v = Einsum<equation = "btm,mhd->bthd">(x, wv)
          s = Einsum<equation = "bthd,bshd->bhts">(q, k)
          d = Mul(s, scale)
          p = Softmax<axis = -1>(d)
          a = Einsum<equation = "bhts,bshd->bthd">(p, v)
          o = Einsum<equation = "bthd,hdm->btm">(a, wo)
          y = Add(x, o)
        }""",
    "layernorm": """
        g (float[N,4,6] x) => (float[N,4,5] y)
        <float[6,8] w0, float[8] b0, float[8] gain, float[8] bias, float[8,10] w1, float[10] b1, float[10,5] w2> {
          m = MatMul(x, w0)
          h = Add(m, b0)
          n = LayerNormalization<axis = -1, epsilon = 0.00001>(h, gain, bias)
          m1 = MatMul(n, w1)
          h1 = Add(m1, b1)
          r = Relu(h1)
          y = MatMul(r, w2)
        }""",
    "layernorm_decomposed": """
        g (float[N,4,6] x) => (float[N,4,5] y)
        <float[6,8] w0, float[8] b0, float[8] gain, float[8] bias, float[8,10] w1, float[10] b1, float[10,5] w2,
         float two = {2}, float epsilon = {0.00001}> {
          m = MatMul(x, w0)
          h = Add(m, b0)
          mean = ReduceMean<axes = [-1], keepdims = 1>(h)
          c = Sub(h, mean)
          c2 = Pow(c, two)
          variance = ReduceMean<axes = [-1], keepdims = 1>(c2)
          ve = Add(variance, epsilon)
          deviation = Sqrt(ve)
          n = Div(c, deviation)
          ng = Mul(n, gain)
          nb = Add(ng, bias)
          m1 = MatMul(nb, w1)
          h1 = Add(m1, b1)
          r = Relu(h1)
          y = MatMul(r, w2)
        }""",
    "rmsnorm_decomposed": """
        g (float[N,4,6] x) => (float[N,4,5] y)
        <float[6,8] w0, float[8] gain, float[8,10] w1, float[10,5] w2,
         float two = {2}, float epsilon = {0.00001}, float one = {1}> {
          h = MatMul(x, w0)
          h2 = Pow(h, two)
          mean = ReduceMean<axes = [-1], keepdims = 1>(h2)
          me = Add(mean, epsilon)
          root = Sqrt(me)
          inverse = Div(one, root)
          n = Mul(h, inverse)
          ng = Mul(gain, n)
          m1 = MatMul(ng, w1)
          r = Relu(m1)
          y = MatMul(r, w2)
        }""",
    # torch.nn.GroupNorm(2, 8), as torch exports it before opset 18
    "groupnorm_instance": """
        g (float[N,3,4,4] x) => (float[N,5,4,4] y)
        <float[8,3,3,3] w0, float[8] b0, float[8,1,1] gain, float[8,1,1] bias, float[5,8,1,1] w1,
         int64[3] grouped = {0,2,-1}, float[2] ones = {1,1}, float[2] zeros = {0,0}> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0, b0)
          v = Reshape(c0, grouped)
          n = InstanceNormalization<epsilon = 0.00001>(v, ones, zeros)
          shape = Shape(c0)
          u = Reshape(n, shape)
          ug = Mul(u, gain)
          ub = Add(ug, bias)
          r = Relu(ub)
          y = Conv(r, w1)
        }""",
    # time first, as torch.nn.LSTM without batch_first
    "lstm": """
        g (float[4,N,6] x) => (float[4,N,5] y)
        <float[6,7] w0, float[1,32,7] w, float[1,32,8] r, float[1,64] b, float[8,5] w1, int64[1] a1 = {1}> {
          m = MatMul(x, w0)
          h = Relu(m)
          o, last, cell = LSTM<hidden_size = 8>(h, w, r, b)
          s = Squeeze(o, a1)
          y = MatMul(s, w1)
        }""",
    "lstm_bidirectional": """
        g (float[4,N,6] x) => (float[4,N,5] y)
        <float[6,7] w0, float[2,32,7] w, float[2,32,8] r, float[2,64] b, float[16,5] w1, int64[3] flat = {0,0,-1}> {
          m = MatMul(x, w0)
          h = Relu(m)
          o, last, cell = LSTM<hidden_size = 8, direction = "bidirectional">(h, w, r, b)
          t = Transpose<perm = [0,2,1,3]>(o)
          s = Reshape(t, flat)
          y = MatMul(s, w1)
        }""",
    "gru": """
        g (float[4,N,6] x) => (float[N,5] y)
        <float[1,24,6] w, float[1,24,8] r, float[1,48] b, float[8,5] w1, int64[1] a0 = {0}> {
          o, last = GRU<hidden_size = 8, linear_before_reset = 1>(x, w, r, b)
          s = Squeeze(last, a0)
          y = MatMul(s, w1)
        }""",
    "embedding": """
        g (int64[N,4] x) => (float[N,4,9] y)
        <float[9,6] table, float[1,4,6] positions, float[6,10] w0, float[10,6] w1, float[6,9] w2> {
          e = Gather(table, x)
          p = Add(e, positions)
          m = MatMul(p, w0)
          r = Relu(m)
          n = MatMul(r, w1)
          a = Add(p, n)
          y = MatMul(a, w2)
        }""",
}

OTHER_OPSETS = {
    # opset 9: no Clip inputs, no Slice inputs, fixed batch
    "static_opset9": """
        <ir_version: 4, opset_import: ["" : 9]>
        g (float[2,3,8,8] x) => (float[2,5] y)
        <float[8,3,3,3] w0, float[8] b0, float[6,4,3,3] w1, float[6] b1, float[5,96] w2, float[5] b2,
         int64[2] flat = {2,-1}> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0, b0)
          r0 = Clip<min = 0.0, max = 6.0>(c0)
          s = Slice<axes = [1], starts = [4], ends = [8]>(r0)
          t = Slice<axes = [1], starts = [0], ends = [4]>(r0)
          a = Add(s, t)
          c1 = Conv<pads = [1,1,1,1], strides = [2,2]>(a, w1, b1)
          r1 = LeakyRelu(c1)
          f = Reshape(r1, flat)
          y = Gemm<transB = 1>(f, w2, b2)
        }""",
    "batchnorm_opset9": """
        <ir_version: 4, opset_import: ["" : 9]>
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[8,3,3,3] w0, float[8] gain0, float[8] bias0, float[8] mean0, float[8] variance0,
         float[8] gain1, float[8] bias1, float[8] mean1, float[8] variance1, float[5,8,1,1] w2> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          n0 = BatchNormalization<epsilon = 0.00001, momentum = 0.9>(c0, gain0, bias0, mean0, variance0)
          r0 = Relu(n0)
          n1 = BatchNormalization(r0, gain1, bias1, mean1, variance1)
          y = Conv(n1, w2)
        }""",
    "upsample_opset9": """
        <ir_version: 4, opset_import: ["" : 9]>
        g (float[N,3,4,4] x) => (float[N,5,8,8] y)
        <float[6,3,3,3] w0, float[5,6,1,1] w1, float[4] scales = {1,1,2,2}> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          r0 = Relu(c0)
          u = Upsample<mode = "nearest">(r0, scales)
          y = Conv(u, w1)
        }""",
    "resize_opset11": """
        <ir_version: 6, opset_import: ["" : 11]>
        g (float[N,3,4,4] x) => (float[N,5,8,8] y)
        <float[6,3,3,3] w0, float[4,6,1,1] w1, float[5,10,1,1] w2, float[0] roi = {}, float[4] scales = {1,1,2,2}> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          r0 = Relu(c0)
          a = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">
              (r0, roi, scales)
          c1 = Conv(r0, w1)
          b = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(c1, roi, scales)
          k = Concat<axis = 1>(a, b)
          y = Conv(k, w2)
        }""",
    "resize_sizes_opset13": """
        <ir_version: 7, opset_import: ["" : 13]>
        g (float[N,3,4,4] x, float[N,3,8,8] z) => (float[N,5,8,8] y)
        <float[6,3,3,3] w0, float[6,3,3,3] w1, float[5,6,1,1] w2, int64[1] i0 = {0}, int64[1] i2 = {2},
         int64[1] i4 = {4}> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          c1 = Conv<pads = [1,1,1,1]>(z, w1)
          s0 = Shape(c0)
          s1 = Shape(c1)
          nc = Slice(s0, i0, i2)
          hw = Slice(s1, i2, i4)
          sizes = Concat<axis = 0>(nc, hw)
          u = Resize<mode = "linear">(c0, "", "", sizes)
          a = Add(u, c1)
          r = Relu(a)
          y = Conv(r, w2)
        }""",
    "local_function": """
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[8,3,3,3] w0, float[8] b0, float[6,8,3,3] w1, float[6] b1, float[5,6,1,1] w2> {
          h0 = local.block(x, w0, b0)
          h1 = local.block(h0, w1, b1)
          y = Conv(h1, w2)
        }
        <domain: "local", opset_import: ["" : 17]>
        block (x, w, b) => (y) {
          c = Conv<pads = [1,1,1,1]>(x, w, b)
          y = Relu(c)
        }""",
    "custom_op": """
        <ir_version: 8, opset_import: ["" : 17, "com.acme" : 1]>
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[8,3,3,3] w0, float[6,8,3,3] w1, float[6,6,3,3] w2, float[5,6,1,1] w3> {
          c0 = Conv<pads = [1,1,1,1]>(x, w0)
          m = com.acme.Mystery<strength = 2>(c0)
          c1 = Conv<pads = [1,1,1,1]>(m, w1)
          r1 = Relu(c1)
          c2 = Conv<pads = [1,1,1,1]>(r1, w2)
          r2 = Relu(c2)
          y = Conv(r2, w3)
        }""",
}


# weights


def _declared(graph: onnx.GraphProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """What the header declares without a value and no node makes: the weights."""
    made = {name for node in graph.node for name in node.output}
    for info in graph.value_info:
        if info.name not in made:
            yield info.name, tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)


def _draw(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Gains and variances U(.5, 1.5), other vectors N(0, .3^2), kernels N(0, 2/fan-in), so that all of it matters."""
    if name.startswith(("gain", "variance")):
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    size = math.prod(shape)
    vector = size in shape
    deviation = 0.3 if vector else math.sqrt(2 * shape[0] / size)
    return (deviation * generator.standard_normal(shape)).astype(np.float32)


def build(text: str) -> onnx.ModelProto:
    """Parse a graph, draw its weights."""
    text = text.strip()
    model = parser.parse_model(text if text.startswith("<") else f"{HEADER}\n{text}")
    generator = np.random.default_rng(SEED)
    weights = [numpy_helper.from_array(_draw(generator, *each), each[0]) for each in _declared(model.graph)]
    drawn = {weight.name for weight in weights}
    kept = [info for info in model.graph.value_info if info.name not in drawn]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    model.graph.initializer.extend(weights)
    return model


def _initializers_as_inputs(text: str) -> onnx.ModelProto:
    """As IR 3 requires: every initializer is an input of the graph too."""
    model = build(text)
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


def _constants(text: str) -> onnx.ModelProto:
    """Weights as Constant nodes, which is how tf2onnx and old PyTorch wrote some of them."""
    model = build(text)
    nodes = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in model.graph.initializer]
    nodes.extend(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


SMALL: dict[str, Callable[[], onnx.ModelProto]] = {
    **{
        name: partial(build, text)
        for table in (CONVOLUTIONS, SHORTCUTS, SPATIAL, SEQUENCES, OTHER_OPSETS)
        for name, text in table.items()
    },
    "initializers_as_inputs": partial(_initializers_as_inputs, OTHER_OPSETS["static_opset9"]),
    "constant_nodes": partial(_constants, CONVOLUTIONS["residual_projection"]),
}

NOT_RUNNABLE = {"custom_op": "com.acme.Mystery has no kernel anywhere"}
"""Models that no runtime executes, and why."""


def samples(model: onnx.ModelProto, seed: int = 0, batch: int = BATCH) -> dict[str, np.ndarray]:
    """Inputs by name: normal numbers, or indices below 4; a symbolic axis gets `batch`."""
    generator = np.random.default_rng(seed)
    constant = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name in constant:
            continue
        tensor = value.type.tensor_type
        shape = tuple(dim.dim_value or batch for dim in tensor.shape.dim)
        if tensor.elem_type == TensorProto.FLOAT:
            feeds[value.name] = generator.standard_normal(shape, dtype=np.float32)
        else:
            feeds[value.name] = generator.integers(0, 4, shape)
    return feeds
