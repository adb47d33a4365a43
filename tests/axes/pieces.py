"""Every op that has a rule, between a weight that makes channels and one that consumes them.

Each case is a piece of graph that takes ``c``, the (N, 6, 4, 4) output of a convolution with weight ``w0``, to ``z``,
which a convolution with weight ``w1`` consumes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from modhifi_graph.axes.rules import RULES

from ..oracles import small
from ..oracles.equivalence import Case

CHANNELS = {"w0": 6}
NEWEST = 21


@dataclass(frozen=True)
class Piece:
    """One case.

    Attributes
    ----------
    body : the nodes that make ``z`` of ``c``.
    header : what they declare.
    groups : the groups to find, by name; none where ``reason`` is given.
    reason : why ``w0`` stays whole.
    opset : the opset of the model.
    channels : how many channels ``z`` has.
    folds : whether normalising leaves nothing of the op.
    batch : the batch, open or fixed to 2.
    """

    body: str
    header: str = ""
    groups: dict[str, int] | None = None
    reason: str | None = None
    opset: int = NEWEST
    channels: int = 6
    folds: bool = False
    batch: str = "N"

    def model(self) -> onnx.ModelProto:
        header = f", {self.header}" if self.header else ""
        return small.build(f"""
            <ir_version: 10, opset_import: ["" : {self.opset}]>
            g (float[{self.batch},3,4,4] x) => (float[{self.batch},5,P,Q] y)
            <float[6,3,3,3] w0, float[5,{self.channels},1,1] w1{header}> {{
              c = Conv<pads = [1,1,1,1]>(x, w0)
              {self.body}
              y = Conv(z, w1)
            }}""")

    def case(self) -> Case:
        generator = np.random.default_rng(0)
        return Case.of(self.model(), {"x": generator.standard_normal((2, 3, 4, 4), np.float32)})


def carried(body: str, header: str = "", **options) -> Piece:
    return Piece(body, header, **{"groups": CHANNELS, **options})


def pinned(reason: str, body: str, header: str = "", **options) -> Piece:
    return Piece(body, header, reason=reason, **options)


UNIT = "t = Tanh(c)\n"
POSITIVE = "e = Exp(c)\n t = Add(e, one)\n"

UNARY = {
    **dict.fromkeys(
        """Abs Atan Ceil Cos Elu Erf Exp Floor Gelu HardSigmoid HardSwish LeakyRelu Mish Neg Relu Round Selu Shrink
        Sigmoid Sign Sin Sinh Softplus Softsign Tan Tanh Celu Cosh Asinh""".split(),  # noqa: SIM905
        UNIT,
    ),
    **dict.fromkeys(["Acos", "Asin", "Atanh"], "u = Tanh(c)\n t = Mul(u, half)\n"),
    **dict.fromkeys(["Acosh", "Log", "Sqrt", "Reciprocal"], POSITIVE),
}
BINARY = ["Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Sum", "PRelu", "Pow", "Mod"]
COMPARISONS = ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"]
LOGICAL = ["And", "Or", "Xor"]
BITWISE = ["BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift"]
ATTRIBUTES = {"Mod": "<fmod = 1>", "BitShift": '<direction = "LEFT">'}

CONSTANTS = "float one = {1}, float half = {0.5}"
GATE = "float[6,1,1] gate"
QUANTISED = ",".join(str((7 * i) % 50 - 25) for i in range(36))

PIECES: dict[str, list[Piece]] = {
    **{kind: [carried(f"{before} z = {kind}(t)", CONSTANTS)] for kind, before in UNARY.items()},
    **{
        kind: [carried(f"{POSITIVE} g = Exp(gate)\n z = {kind}{ATTRIBUTES.get(kind, '')}(t, g)",
                       f"{CONSTANTS}, {GATE}")]
        for kind in BINARY
    },
    "Identity": [carried("z = Identity(c)", folds=True)],
    "ThresholdedRelu": [carried("z = ThresholdedRelu<alpha = 0.1>(c)")],
    **{
        kind: [carried(f"r = Round(c)\n s = Round(gate)\n b = {kind}(r, s)\n z = Cast<to = 1>(b)", GATE)]
        for kind in COMPARISONS
    },
    **{
        kind: [carried(f"a = Cast<to = 9>(r)\n b = Greater(c, gate)\n d = {kind}(a, b)\n z = Where(d, c, gate)".replace(
            "a = Cast", "r = Relu(c)\n a = Cast"), GATE)]
        for kind in LOGICAL
    },
    **{
        kind: [carried(
            f"e = Exp(c)\n k = Cast<to = 13>(e)\n"
            f"d = {kind}{ATTRIBUTES.get(kind, '')}(k, bits)\n z = Cast<to = 1>(d)",
            "uint64[6,1,1] bits = {7,3,5,7,6,11}")]
        for kind in BITWISE
    },
    "BitwiseNot": [carried("k = Cast<to = 7>(c)\n n = BitwiseNot(k)\n z = Cast<to = 1>(n)")],
    "Not": [carried("b = Greater(c, gate)\n n = Not(b)\n z = Cast<to = 1>(n)", GATE)],
    "IsNaN": [carried("b = IsNaN(c)\n z = Where(b, gate, c)", GATE)],
    "IsInf": [carried("b = IsInf(c)\n z = Where(b, gate, c)", GATE)],
    "Where": [carried("b = Greater(c, gate)\n z = Where(b, c, half)", f"{CONSTANTS}, {GATE}")],
    "Cast": [carried("k = Cast<to = 10>(c)\n z = Cast<to = 1>(k)")],
    "Swish": [carried("z = Swish(c)", opset=24)],
    "CastLike": [carried("z = CastLike(c, other)", "float[2,7] other", folds=True)],
    "Clip": [
        carried("z = Clip(c, low, high)", "float low = {-0.5}, float high = {0.5}"),
        carried("z = Clip<min = -0.5, max = 0.5>(c)", opset=9),
        carried('z = Clip(c, "", high)', "float high = {0.5}"),
    ],
    "Dropout": [
        carried("z = Dropout(c)", folds=True),
        carried("z = Dropout(c, ratio)", "float ratio = {0.5}", folds=True),
        carried("z = Dropout<ratio = 0.5>(c)", opset=9),
    ],
    "QuantizeLinear": [
        carried("q = QuantizeLinear(c, s, p)\n z = DequantizeLinear(q, s, p)", "float s = {0.1}, uint8 p = {128}"),
    ],
    "DequantizeLinear": [
        carried("q = QuantizeLinear<axis = 1>(c, e, p)\n z = DequantizeLinear<axis = 1>(q, e, p)",
                "float[6] e = {0.1,0.05,0.07,0.11,0.09,0.2}, uint8[6] p = {128,120,100,130,128,110}"),
        # a quantised weight: its channels are a group as a weight's are
        carried("q = DequantizeLinear<axis = 0>(wq, e, p)\n z = Conv(c, q)",
                f"int8[6,6,1,1] wq = {{{QUANTISED}}}, float[6] e = {{0.1,0.05,0.07,0.11,0.09,0.2}},"
                "int8[6] p = {1,2,3,0,0,1}",
                groups={"w0": 6, "wq": 6}),
    ],
    "Trilu": [
        carried("z = Trilu<upper = 0>(c)"),
        pinned("its positions are in order",
               "t = Transpose<perm = [0,2,3,1]>(c)\n u = Trilu(t)\n z = Transpose<perm = [0,3,1,2]>(u)"),
    ],
    "Conv": [
        carried("z = Conv(c, w, b)", "float[6,6,1,1] w, float[6] b", groups={"w0": 6, "w": 6}),
        carried("z = Conv<group = 2>(c, w)", "float[4,3,1,1] w", groups={"w0/0": 2, "w0/1": 3, "w": 2}, channels=4),
        carried("z = Conv<group = 6>(c, w, b)", "float[12,1,1,1] w, float[12] b",
                groups={"w0": 6, "w": 2}, channels=12),
    ],
    "ConvTranspose": [
        carried("z = ConvTranspose(c, w, b)", "float[6,4,2,2] w, float[4] b", groups={"w0": 6, "w": 4}, channels=4),
        carried("z = ConvTranspose<group = 3>(c, w)", "float[6,2,1,1] w", groups={"w0/0": 3, "w0/1": 2, "w": 2}),
    ],
    "Gemm": [
        carried(f"f = Flatten(c)\n m = Gemm<{attributes}>(f, w, b)\n z = Reshape(m, shape)",
                f"float[{shape}] w, float[{bias}] b, int64[4] shape = {{0,6,2,2}}", groups={"w0": 6, "w/0": 6})
        for attributes, shape, bias in [
            ("alpha = 0.5, beta = 2.0", "96,24", "24"),
            ("transB = 1", "24,96", "1,24"),
            ("transB = 1", "24,96", "1"),
        ]
    ],
    "MatMul": [
        carried("t = Transpose<perm = [0,2,3,1]>(c)\n m = MatMul(t, w)\n z = Transpose<perm = [0,3,1,2]>(m)",
                "float[6,7] w", groups={"w0": 6, "w": 7}, channels=7),
        carried("t = Transpose<perm = [0,2,3,1]>(c)\n m = MatMul(t, w)\n z = Unsqueeze(m, axis)",
                "float[6] w, int64[1] axis = {1}", channels=1),
        carried("s = Shape(c)\n v = Reshape(c, flat)\n m = MatMul(w, v)\n z = Reshape(m, whole)",
                "float[4,6] w, int64[3] flat = {0,6,16}, int64[4] whole = {0,4,4,4}",
                groups={"w0": 6, "w": 4}, channels=4),
    ],
    "Einsum": [
        carried('z = Einsum<equation = "nchw,cd->ndhw">(c, w)', "float[6,7] w",
                groups={"w0": 6, "w": 7}, channels=7),
        carried('z = Einsum<equation = "n...hw, ...-> n...hw">(c, w)', "float[6] w"),
        carried('t = Einsum<equation = "nchw">(c)\n z = Transpose<perm = [2,0,1,3]>(t)'),
        pinned("repeats a letter", 'z = Einsum<equation = "nchw,dcc->ndhw">(c, w)', "float[6,6,6] w"),
        pinned("reduced over", 'z = Einsum<equation = "nchw,d->ndhw">(c, w)', "float[6] w", groups={"w": 6}),
    ],
    "LSTM": [
        carried("t = Transpose<perm = [2,3,0,1]>(c)\n s = Reshape(t, sequence)\n"
                'o, "", l = LSTM<hidden_size = 4>(s, w, r, b)\n q = Squeeze(o, direction)\n'
                "v = Transpose<perm = [1,2,0]>(q)\n z = Unsqueeze(v, axis)",
                "float[1,16,6] w, float[1,16,4] r, float[1,32] b, int64[3] sequence = {16,-1,6}, int64[1] axis = {2},"
                "int64[1] direction = {1}", channels=4),
        carried("t = Transpose<perm = [2,3,0,1]>(c)\n s = Reshape(t, sequence)\n"
                '"", l = LSTM<hidden_size = 4>(s, w, r, "", "", "", "", p)\n'
                "v = Transpose<perm = [1,2,0]>(l)\n z = Unsqueeze(v, axis)",
                "float[1,16,6] w, float[1,16,4] r, float[1,12] p, int64[3] sequence = {16,-1,6}, int64[1] axis = {3}",
                channels=4),
    ],
    "GRU": [
        carried("t = Transpose<perm = [2,3,0,1]>(c)\n s = Reshape(t, sequence)\n"
                "o, h = GRU<hidden_size = 4>(s, w, r)\n q = Squeeze(o, direction)\n"
                "v = Transpose<perm = [1,2,0]>(q)\n z = Unsqueeze(v, axis)",
                "float[1,12,6] w, float[1,12,4] r, int64[3] sequence = {16,-1,6}, int64[1] axis = {2},"
                "int64[1] direction = {1}", channels=4),
    ],
    "RNN": [
        carried("t = Transpose<perm = [2,3,0,1]>(c)\n s = Reshape(t, sequence)\n"
                'o = RNN<hidden_size = 4, direction = "bidirectional">(s, w, r, b)\n'
                "q = Transpose<perm = [2,1,3,0]>(o)\n z = Reshape(q, joined)",
                "float[2,4,6] w, float[2,4,4] r, float[2,8] b, int64[3] sequence = {16,-1,6},"
                "int64[4] joined = {0,8,1,16}", channels=8),
    ],
    "BatchNormalization": [
        carried("z = BatchNormalization(c, gain, bias, mean, variance)",
                "float[6] gain, float[6] bias, float[6] mean, float[6] variance", opset=opset)
        for opset in (9, NEWEST)
    ],
    "InstanceNormalization": [carried("z = InstanceNormalization(c, gain, bias)", "float[6] gain, float[6] bias")],
    "GroupNormalization": [
        carried("z = GroupNormalization<num_groups = 2>(c, gain, bias)",
                f"float[{count}] gain, float[{count}] bias", opset=opset, groups={"w0/0": 2})
        for opset, count in [(18, 2), (21, 6)]
    ],
    "LayerNormalization": [
        carried("z = LayerNormalization<axis = 2>(c, gain)", "float[4,4] gain"),
        # the deviation that it returns has the channels too
        carried("n, m, d = LayerNormalization<axis = 2>(c, gain)\n z = Mul(n, d)", "float[4,4] gain"),
        pinned("normalised together", "z = LayerNormalization<axis = 1>(c, gain)", "float[6,4,4] gain"),
    ],
    "RMSNormalization": [carried("z = RMSNormalization<axis = 2>(c, gain)", "float[4,4] gain", opset=23)],
    "LpNormalization": [
        carried("z = LpNormalization<axis = 3>(c)"),
        pinned("normalised together", "z = LpNormalization<axis = 1>(c)"),
    ],
    "LRN": [pinned("normalised together", "z = LRN<size = 3>(c)")],
    "MeanVarianceNormalization": [
        carried("z = MeanVarianceNormalization(c)"),
        pinned("normalised together", "z = MeanVarianceNormalization<axes = [1]>(c)"),
    ],
    **{
        kind: [
            carried(f"z = {kind}<axis = 3>(c)"),
            carried(f"z = {kind}<axis = 2>(c)", opset=9),
            pinned("normalised together", f"z = {kind}<axis = 1>(c)"),
            pinned("normalised together", f"z = {kind}(c)", opset=9),
        ]
        for kind in ("Softmax", "LogSoftmax", "Hardmax")
    },
    "MaxPool": [
        carried("z = MaxPool<kernel_shape = [2,2]>(c)"),
        pinned("indices count positions",
               "m, i = MaxPool<kernel_shape = [2,2]>(c)\n f = Cast<to = 1>(i)\n z = Add(m, f)"),
    ],
    "AveragePool": [carried("z = AveragePool<kernel_shape = [2,2], pads = [1,1,1,1]>(c)")],
    "LpPool": [carried("z = LpPool<kernel_shape = [2,2]>(c)")],
    **{kind: [carried(f"z = {kind}(c)")] for kind in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")},
    "GridSample": [
        carried("s = Tanh(x)\n t = Slice(s, i0, i2, i1)\n g = Transpose<perm = [0,2,3,1]>(t)\n z = GridSample(c, g)",
                "int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] i2 = {2}"),
    ],
    "RoiAlign": [
        carried("z = RoiAlign<output_height = 2, output_width = 2>(c, boxes, index)",
                "float[3,4] boxes = {0,0,2,2, 1,1,3,3, 0,1,3,2}, int64[3] index = {0,1,0}"),
    ],
    **{
        kind: [
            carried(f"e = Exp(c)\n r = {kind}(e, axes)\n z = Mul(c, r)", "int64[2] axes = {2,-1}", opset=18),
            carried(f"e = Exp(c)\n r = {kind}<axes = [3], keepdims = 0>(e)\n z = Unsqueeze<axes = [3]>(r)", opset=11),
            pinned("reduced over", f"e = Exp(c)\n r = {kind}(e, axes)\n z = Mul(c, r)", "int64[1] axes = {1}",
                   opset=18),
            pinned("reduced over", f"e = Exp(c)\n r = {kind}(e)\n z = Mul(c, r)", opset=18),
            carried(f"e = Exp(c)\n z = {kind}<noop_with_empty_axes = 1>(e)", opset=18),
        ]
        for kind in RULES if kind.startswith("Reduce")
    },
    **{
        kind: [
            carried(f"a = {kind}<axis = 3>(c)\n f = Cast<to = 1>(a)\n z = Mul(c, f)"),
            pinned("reduced over", f"a = {kind}<axis = 1>(c)\n f = Cast<to = 1>(a)\n z = Mul(c, f)"),
        ]
        for kind in ("ArgMax", "ArgMin")
    },
    "GatherND": [
        carried("z = GatherND(c, i)", "int64[2,1] i = {1,0}"),
        carried("t = Transpose<perm = [2,3,0,1]>(c)\n g = GatherND(t, i)\n u = Transpose<perm = [1,2,0]>(g)\n"
                "z = Unsqueeze(u, last)", "int64[3,2] i = {0,1,2,3,1,1}, int64[1] last = {3}"),
        # which of several matrices is computed
        carried("a = ArgMax<axis = 1>(x)\n b = ReduceMax<axes = [0,1,2,3], keepdims = 0>(a)\n i = Reshape(b, two)\n"
                "m = GatherND(w2, i)\n t = Transpose<perm = [0,2,3,1]>(c)\n p = MatMul(t, m)\n"
                "z = Transpose<perm = [0,3,1,2]>(p)", "float[3,6,7] w2, int64[2] two = {1,1}",
                groups={"w0": 6, "w2": 7}, channels=7, opset=13),
        pinned("picked by number", "t = Transpose<perm = [1,0,2,3]>(c)\n g = GatherND(t, i)\n"
               "z = Transpose<perm = [1,0,2,3]>(g)", "int64[4,1] i = {0,2,4,5}", channels=4),
        pinned("picked by number", "d = ArgMax<axis = 1, keepdims = 1>(x)\n r = NonZero(d)\n"
               "i = Transpose(r)\n g = GatherND(c, i)\n z = Reshape(g, four)", "int64[4] four = {-1,6,1,1}"),
    ],
    "CumSum": [
        carried("z = CumSum(c, axis)", "int64 axis = {3}"),
        pinned("accumulated along", "z = CumSum(c, axis)", "int64 axis = {1}"),
    ],
    "TopK": [
        carried("z, i = TopK<axis = 3>(c, k)", "int64[1] k = {2}"),
        carried("v, i = TopK<axis = 2>(c, k)\n z = Cast<to = 1>(i)", "int64[1] k = {2}"),
        pinned("sorted along", "z, i = TopK<axis = 1>(c, k)", "int64[1] k = {6}"),
    ],
}  # fmt: skip
