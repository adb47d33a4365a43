"""Convolutions one after another: strided, grouped, transposed, with norms, gates and shared weights."""

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
