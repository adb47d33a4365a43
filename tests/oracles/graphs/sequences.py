"""Feed-forward, attention, norms, recurrence and embeddings over tokens."""

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
    # three experts that all run, as in Llama 4: every matrix of a stack on rows of its own
    "experts": """
        g (float[N,4,6] x) => (float[N,4,6] y)
        <float[6,3] router, float[3,6,10] up, float[3,10,6] down, int64[1] a1 = {1}, int64[1] a3 = {3}> {
          x1 = Unsqueeze(x, a1)
          h = MatMul(x1, up)
          r = Relu(h)
          e = MatMul(r, down)
          m = MatMul(x, router)
          p = Softmax<axis = -1>(m)
          t = Transpose<perm = [0,2,1]>(p)
          w = Unsqueeze(t, a3)
          c = Mul(e, w)
          s = ReduceSum<keepdims = 0>(c, a1)
          y = Add(x, s)
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
