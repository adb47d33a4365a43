"""Graphs of layers in chains, in the notation of `small`: what is between one layer and the next, and who else reads it."""

from __future__ import annotations

MLP = """
    g (float[N,6] x) => (float[N,5] y)
    <float[6,12] w0, float[12] b0, float[12,10] w1, float[10] b1, float[10,8] w2, float[8] b2, float[8,5] w3,
     float[5] b3> {
      h0 = Gemm(x, w0, b0)
      r0 = Relu(h0)
      h1 = Gemm(r0, w1, b1)
      r1 = Relu(h1)
      h2 = Gemm(r1, w2, b2)
      r2 = Relu(h2)
      y = Gemm(r2, w3, b3)
    }"""

CONVOLUTIONS = """
    g (float[N,3,6,6] x) => (float[N,5,3,3] y)
    <float[8,3,3,3] w0, float[8] b0, float[8,8,3,3] w1, float[8] b1, float[8,1,3,3] dw, float[8] b2,
     float[5,8,1,1] w3> {
      c0 = Conv<pads = [1,1,1,1]>(x, w0, b0)
      r0 = Relu(c0)
      c1 = Conv<pads = [1,1,1,1]>(r0, w1, b1)
      r1 = Relu(c1)
      d = Conv<pads = [1,1,1,1], strides = [2,2], group = 8>(r1, dw, b2)
      r2 = Relu(d)
      y = Conv(r2, w3)
    }"""

TRANSFORMER = """
    g (float[N,4,6] x) => (float[N,4,5] y)
    <float[6,10] w0, float[10] b0, float[10,6] w1, float[6] b1, float[6,10] w2, float[10] b2, float[10,6] w3,
     float[6] b3, float[6,5] w4> {
      m0 = MatMul(x, w0)
      a0 = Add(m0, b0)
      r0 = Relu(a0)
      m1 = MatMul(r0, w1)
      a1 = Add(m1, b1)
      s1 = Add(x, a1)
      m2 = MatMul(s1, w2)
      a2 = Add(m2, b2)
      r2 = Relu(a2)
      m3 = MatMul(r2, w3)
      a3 = Add(m3, b3)
      s2 = Add(a3, s1)
      y = MatMul(s2, w4)
    }"""

INTERLEAVED = """
    g (float[N,4,6] x) => (float[N,4,5] y)
    <float[6,9] w0, float[9] b0, float[9,7] w1, float[7] b1, float[6,8] w2, float[8] b2, float[8,7] w3, float[7,5] w4> {
      m0 = MatMul(x, w0)
      a0 = Add(m0, b0)
      r0 = Relu(a0)
      m2 = MatMul(x, w2)
      a2 = Add(m2, b2)
      r2 = Relu(a2)
      m = MatMul(r0, w1)
      s = MatMul(r2, w3)
      h = Add(m, b1)
      t = Add(h, s)
      z = Relu(t)
      y = MatMul(z, w4)
    }"""

BROADCAST = """
    g (float[N,4,6] x) => (float[N,4,5] y)
    <float[6,8] w0, float[8,7] w1, float[7,8] w2, float[8,5] w3> {
      m0 = MatMul(x, w0)
      p = ReduceMean<axes = [1], keepdims = 1>(m0)
      m1 = MatMul(p, w1)
      r1 = Relu(m1)
      m2 = MatMul(r1, w2)
      a = Add(m0, m2)
      r2 = Relu(a)
      y = MatMul(r2, w3)
    }"""

GATED = """
    g (float[N,4,6] x) => (float[N,4,6] y)
    <float[6,8] w0, float[6,8] w1, float[8,6] w2> {
      a = MatMul(x, w0)
      s = Sigmoid(a)
      g = Mul(a, s)
      u = MatMul(x, w1)
      h = Mul(g, u)
      d = MatMul(h, w2)
      y = Add(x, d)
    }"""

STACKS = """
    g (float[N,3,4,6] x) => (float[N,3,4,5] y)
    <float[6,8] w0, float[3,8,7] w1, float[3,7,9] w2, float[3,9,8] w3, float[8,5] w4> {
      a = MatMul(x, w0)
      ra = Relu(a)
      b = MatMul(ra, w1)
      rb = Relu(b)
      c = MatMul(rb, w2)
      rc = Relu(c)
      d = MatMul(rc, w3)
      rd = Relu(d)
      y = MatMul(rd, w4)
    }"""

MIXER = """
    g (float[N,4,7] x) => (float[N,6,5] y)
    <float[8,4,3] w0, float[6,8,3] w1, float[7,5] w2> {
      a = Conv<pads = [1,1]>(x, w0)
      r = Relu(a)
      b = Conv<pads = [1,1]>(r, w1)
      s = Relu(b)
      y = MatMul(s, w2)
    }"""

TURNED = """
    g (float[N,6] x) => (float[N,5] y)
    <float[6,8] w0, float[8,9] w1, float[9,7] w2, float[7,5] w3> {
      z = MatMul(x, w0)
      zr = Relu(z)
      t = Transpose<perm = [1,0]>(zr)
      a = Gemm<transA = 1>(t, w1)
      r = Relu(a)
      b = MatMul(r, w2)
      c = Relu(b)
      y = MatMul(c, w3)
    }"""
