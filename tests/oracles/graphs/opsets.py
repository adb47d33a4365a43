"""Whole models in the notation of other opsets, and ops of other domains."""

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
