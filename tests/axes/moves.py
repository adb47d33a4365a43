"""Every op that moves positions about, between a weight that makes channels and one that consumes them (`pieces`)."""

from __future__ import annotations

from .pieces import Piece, carried, pinned

BIG = 9223372036854775807
HALF = {"w0/0": 3, "w0/1": 3}
AXIS = "int64[1] i1 = {1}"


def numbers(**values: list[int]) -> str:
    return ", ".join(f"int64[{len(each)}] {name} = {{{','.join(map(str, each))}}}" for name, each in values.items())


MOVES: dict[str, list[Piece]] = {
    "Transpose": [
        carried("t = Transpose(c)\n z = Transpose<perm = [3,2,1,0]>(t)"),
        carried("t = Transpose<perm = [1,0,3,2]>(c)\n r = Relu(t)\n z = Transpose<perm = [1,0,3,2]>(r)"),
    ],
    "Reshape": [
        carried("v = Reshape(c, flat)\n z = Reshape(v, back)", numbers(flat=[0, 0, -1], back=[0, 6, 4, 4])),
        carried("v = Reshape(c, flat)\n z = Reshape(v, back)", numbers(flat=[-1, 4], back=[-1, 6, 4, 4])),
        carried("v = Reshape<allowzero = 1>(c, flat)\n z = Reshape(v, back)",
                numbers(flat=[-1, 6, 16], back=[0, 0, 4, 4])),
        # interleaved: (2 3) read as (3 2)
        carried("v = Reshape(c, five)\n t = Transpose<perm = [0,2,1,3,4]>(v)\n z = Reshape(t, four)",
                numbers(five=[0, 2, 3, 4, 4], four=[0, -1, 4, 4]), groups={"w0/0": 2, "w0/1": 3}),
        # a target that is read off another tensor of the same channels
        carried("v = Reshape(c, flat)\n s = Shape(c)\n z = Reshape(v, s)", numbers(flat=[0, -1])),
        # batch times channels, inferred, with a run-time length beside it
        carried("s = Shape(x)\n n = Gather(s, i0)\n m = Concat<axis = 0>(minus, n)\n"
                "t = Transpose<perm = [2,3,1,0]>(c)\n v = Reshape(t, m)\n u = Concat<axis = 0>(four, six, n)\n"
                "b = Reshape(v, u)\n z = Transpose<perm = [3,2,0,1]>(b)",
                numbers(i0=[0], minus=[-1], four=[4, 4], six=[6])),
        # two open lengths that nobody can tell apart
        pinned("known only at run time",
               "s = Shape(x)\n n = Gather(s, i0)\n k = Mul(n, six)\n l = Mul(n, sixteen)\n m = Div(l, n)\n"
               "t = Concat<axis = 0>(k, m)\n v = Reshape(c, t)\n z = Reshape(v, back)",
               numbers(i0=[0], six=[6], sixteen=[16], back=[-1, 6, 4, 4])),
    ],
    "Flatten": [
        carried("f = Flatten(c)\n z = Reshape(f, back)", numbers(back=[0, 6, 4, 4])),
        carried("f = Flatten<axis = 2>(c)\n z = Reshape(f, back)", numbers(back=[-1, 6, 4, 4])),
        carried("t = Transpose<perm = [1,0,2,3]>(c)\n f = Flatten<axis = -3>(t)\n b = Reshape(f, back)\n"
                "z = Transpose<perm = [1,0,2,3]>(b)", numbers(back=[6, -1, 4, 4])),
    ],
    "Squeeze": [
        # an axis that is pruned down to one component must not be squeezed away
        carried("p = GlobalAveragePool(c)\n s = Squeeze(p)\n z = Unsqueeze(s, axes)", numbers(axes=[2, 3]), batch="2"),
        carried("p = GlobalAveragePool(c)\n s = Squeeze(p)\n z = Unsqueeze<axes = [2,3]>(s)", batch="2", opset=11),
        carried("p = GlobalAveragePool(c)\n s = Squeeze(p, axes)\n z = Unsqueeze(s, axes)", numbers(axes=[-1, 2])),
    ],
    "Unsqueeze": [carried("u = Unsqueeze(c, axes)\n r = Relu(u)\n z = Squeeze(r, axes)", numbers(axes=[0, -1]))],
    "Expand": [
        carried("p = GlobalAveragePool(c)\n z = Expand(p, size)", numbers(size=[1, 1, 3, 2])),
        carried("p = GlobalAveragePool(c)\n z = Expand(p, size)", numbers(size=[6, 3, 2])),
        carried("p = GlobalAveragePool(c)\n s = Shape(c)\n z = Expand(p, s)"),
        carried("m = ReduceMean(c, i1)\n e = Expand(m, size)\n z = Mul(e, c)", f"{AXIS}, {numbers(size=[1, 6, 1, 1])}",
                groups=None, reason="reduced over"),
        # repeated keys and values: a factor of its own, which the product with the channels can lose
        carried("u = Unsqueeze(c, axes)\n e = Expand(u, five)\n z = Reshape(e, four)",
                numbers(axes=[2], five=[1, 1, 2, 1, 1], four=[0, 12, 4, 4]), channels=12),
    ],
    "Tile": [
        carried("z = Tile(c, times)", numbers(times=[1, 2, 1, 1]), channels=12),
        carried("z = Tile(c, times)", numbers(times=[1, 1, 2, 1]), opset=9),
    ],
    "Concat": [
        carried("z = Concat<axis = -3>(c, c)", channels=12),
        carried("d = Conv<pads = [1,1,1,1]>(x, w2)\n z = Concat<axis = 1>(c, d, c)", "float[4,3,3,3] w2",
                groups={"w0": 6, "w2": 4}, channels=16),
    ],
    "Split": [
        carried("a, b = Split<axis = 1>(c, sizes)\n z = Concat<axis = 1>(b, a)", numbers(sizes=[2, 4]),
                groups={"w0/0": 2, "w0/1": 4}),
        carried("a, b = Split<axis = -3, num_outputs = 2>(c)\n z = Mul(a, b)", groups={"w0": 3}, channels=3),
        carried("a, b = Split<axis = 1, num_outputs = 2>(c)\n z = Concat<axis = 1>(b, a)", groups=HALF),
        carried("a, b = Split<axis = 1>(c)\n z = Concat<axis = 1>(b, a)", groups=HALF, opset=13),
        carried("a, b = Split<axis = 1>(c)\n z = Concat<axis = 1>(b, a)", groups=HALF, opset=11),
        carried("a, b = Split<axis = 1, split = [3,3]>(c)\n z = Concat<axis = 1>(b, a)", groups=HALF, opset=11),
    ],
    "Slice": [
        carried("a = Slice(c, s, e, axes)\n b = Slice(c, f, g, axes)\n z = Concat<axis = 1>(a, b)",
                numbers(s=[-6], e=[-2], f=[-2], g=[BIG], axes=[-3]), groups={"w0/0": 4, "w0/1": 2}),
        carried("a = Slice(c, s, e)\n z = Relu(a)", numbers(s=[0, 0, 1], e=[BIG, 2, BIG]),
                groups={"w0/0": 2}, channels=2),
        carried("a = Slice<starts = [0], ends = [-3], axes = [1]>(c)\n"
                "b = Slice<starts = [3], ends = [9], axes = [1]>(c)\n"
                "z = Mul(a, b)", groups={"w0": 3}, channels=3, opset=9),
        carried("z = Slice(c, s, e, axes, steps)", numbers(s=[0, -1], e=[BIG, -BIG], axes=[3, 2], steps=[2, -1])),
        pinned("sliced in steps of 2", "z = Slice(c, s, e, i1, t)",
               f"{AXIS}, {numbers(s=[0], e=[6], t=[2])}", channels=3),
        pinned("sliced in steps of -1", "z = Slice(c, s, e, i1, t)", f"{AXIS}, {numbers(s=[5], e=[-BIG], t=[-1])}"),
        # a run-time bound on another axis
        carried("s = Shape(x)\n n = Gather(s, i0)\n z = Slice(c, i0, n, i2)", numbers(i0=[0], i2=[2])),
    ],
    "Gather": [
        carried("a = Gather<axis = 1>(c, low)\n b = Gather<axis = 1>(c, high)\n z = Mul(a, b)",
                numbers(low=[0, 1, 2], high=[-3, -2, -1]), groups={"w0": 3}, channels=3),
        carried("v = Reshape(c, five)\n a = Gather<axis = 1>(v, i)\n b = Gather<axis = -4>(v, j)\n z = Mul(a, b)",
                f"{numbers(five=[0, 2, 3, 4, 4])}, int64 i = {{-1}}, int64 j = {{0}}", groups={"w0": 3}, channels=3),
        pinned("taken in another order", "z = Gather<axis = 1>(c, i)", numbers(i=[0, 2, 4]), channels=3),
        pinned("looked up by position", "g = Gather<axis = 1>(c, i)\n z = Reshape(g, four)",
               f"int64[2,3] i = {{0,1,2,3,4,5}}, {numbers(four=[0, 6, 4, 4])}"),
        # a look-up along another axis, by an index that is computed
        carried("a = ArgMax<axis = 2, keepdims = 0>(x)\n b = ReduceMax<axes = [0,1], keepdims = 0>(a)\n"
                "z = Gather<axis = 2>(c, b)", opset=13),
    ],
    "Pad": [
        carried("z = Pad(c, pads)", numbers(pads=[0, 1, 0, 0, 0, 2, 0, 0]), channels=9),
        carried("z = Pad(c, pads, v, axes)",
                f"float v = {{0.5}}, {numbers(pads=[2, 1, 0, 1], axes=[-3, 3])}", channels=8),
        carried("z = Pad<pads = [0,1,1,0,0,0,0,1], value = 0.5>(c)", channels=7, opset=9),
        carried('z = Pad<mode = "reflect">(c, pads)', numbers(pads=[0, 0, 1, 1, 0, 0, 1, 1])),
        pinned("padded with its own content", 'z = Pad<mode = "edge">(c, pads)',
               numbers(pads=[0, 1, 0, 0, 0, 1, 0, 0]), channels=8),
        pinned("cropped", "z = Pad(c, pads)", numbers(pads=[0, -1, 0, 0, 0, 0, 0, 0]), channels=5),
    ],
    "DepthToSpace": [
        carried(f"d = Conv(c, w2)\n z = DepthToSpace<blocksize = 2, mode = \"{mode}\">(d)", "float[8,6,1,1] w2",
                groups={"w0": 6, f"w2/{place}": 2}, channels=2)
        for mode, place in [("DCR", 1), ("CRD", 0)]
    ],
    "SpaceToDepth": [carried("z = SpaceToDepth<blocksize = 2>(c)", channels=24)],
    "Resize": [
        carried('z = Resize<mode = "linear">(c, "", scales)', "float[4] scales = {1,1,2,1.5}"),
        carried('z = Resize<mode = "nearest">(c, "", "", sizes)', numbers(sizes=[2, 6, 8, 8]), batch="2"),
        carried('z = Resize<mode = "nearest", axes = [2,1]>(c, "", "", sizes)', numbers(sizes=[8, 6])),
        carried("z = Resize(c, scales)", "float[4] scales = {1,1,2,2}", opset=10),
        carried('s = Shape(c)\n k = Slice(s, i0, i2)\n n = Concat<axis = 0>(k, e)\n z = Resize(c, "", "", n)',
                numbers(i0=[0], i2=[2], e=[8, 8])),
        pinned("resampled", 'z = Resize(c, "", scales)', "float[4] scales = {1,1.1,2,2}"),
        pinned("it crops",
               'z = Resize<coordinate_transformation_mode = "tf_crop_and_resize">(c, roi, scales)',
               "float[8] roi = {0,0,0.2,0.2,1,1,0.8,0.8}, float[4] scales = {1,1,1,1}"),
    ],
    "Upsample": [carried("z = Upsample(c, scales)", "float[4] scales = {1,1,2,2}", opset=9)],
    "ConstantOfShape": [
        carried("s = Shape(x)\n n = Gather(s, i0)\n k = Concat<axis = 0>(n, rest)\n o = ConstantOfShape(k)\n"
                "z = Add(c, o)", numbers(i0=[0], rest=[6, 4, 4])),
        # no entry of its target could say what batch times channels becomes
        pinned("nested in a length computed at run time",
               "s = Shape(x)\n n = Gather(s, i0)\n m = Mul(n, six)\n k = Concat<axis = 0>(m, four)\n"
               "o = ConstantOfShape(k)\n v = Reshape(c, flat)\n a = Add(v, o)\n z = Reshape(a, back)",
               numbers(i0=[0], six=[6], four=[4, 4], flat=[-1, 4, 4], back=[-1, 6, 4, 4])),
    ],
    "Shape": [
        pinned("its length is read at run time",
               "v = Reshape(c, flat)\n s = Shape(v)\n f = Cast<to = 1>(s)\n"
               "g = ReduceMax<axes = [0], keepdims = 0>(f)\n z = Div(c, g)", numbers(flat=[-1, 4, 4]), opset=13),
    ],
    "Size": [
        pinned("its length is read at run time", "s = Size(c)\n f = Cast<to = 1>(s)\n z = Div(c, f)"),
    ],
}  # fmt: skip
