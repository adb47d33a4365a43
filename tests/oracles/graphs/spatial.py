"""Channels that are flattened, reshaped, moved into space, masked or read at run time."""

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
