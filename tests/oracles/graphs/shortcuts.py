"""Where branches meet: padded, strided and concatenated shortcuts, splits, shuffles."""

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
