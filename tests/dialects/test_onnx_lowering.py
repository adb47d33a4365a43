"""The numbers that a graph says after slimming."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from modhifi_graph.passes.slim import Slim
from modhifi_graph.plan import GroupPlan, Plan

from ..oracles import small
from ..oracles.equivalence import apply, normalised


def slim(body: str, header: str = "", channels: int = 6, opset: int = 17, batch: str = "N", **keep) -> ir.Model:
    """A model with six channels between two convolutions, of which ``keep`` says by group what stays."""
    text = f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        g (float[{batch},3,4,4] x) => (float[{batch},5,P,Q] y)
        <float[6,3,3,3] w0, float[5,{channels},1,1] w1{", " + header if header else ""}> {{
          c = Conv<pads = [1,1,1,1]>(x, w0)
          {body}
          y = Conv(z, w1)
        }}"""
    model = normalised(small.build(text))
    groups = {name.replace("_", "/"): kept for name, kept in (keep or {"w0": (6, (0, 2, 3, 5))}).items()}
    plan = Plan(tuple(GroupPlan(name, size, kept) for name, (size, kept) in groups.items()))
    result = apply(model, Slim(plan))
    onnx.checker.check_model(result, full_check=True)
    return ir.from_proto(result)


def node(model: ir.Model, kind: str, number: int = 0) -> ir.Node:
    return [each for each in model.graph if each.op_type == kind][number]


def numbers(model: ir.Model, kind: str, slot: int, number: int = 0) -> list[int]:
    value = node(model, kind, number).inputs[slot]
    return value.const_value.numpy().tolist()


def test_a_constant_target_says_the_lengths_and_leaves_the_open_ones():
    model = slim("v = Reshape(c, a)\n z = Reshape(v, b)", "int64[3] a = {0,-1,16}, int64[4] b = {-1,6,4,4}")
    assert numbers(model, "Reshape", 1) == [0, 4, 16]
    assert numbers(model, "Reshape", 1, 1) == [-1, 4, 4, 4]


def test_a_target_computed_at_run_time_is_mended_and_not_guessed():
    """Two open lengths: the batch, and the time that a look-up by position leaves open."""
    model = normalised(small.build("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N,T,5] x) => (float[N,T,7] y) <float[5,6] w0, float[6,7] w1, int64 i0 = {0}, int64 i1 = {1},
         int64[1] a0 = {0}, int64[1] six = {6}, int64[2] flat = {-1,6}> {
          h = MatMul(x, w0)
          f = Reshape(h, flat)
          s = Shape(x)
          n = Gather(s, i0)
          t = Gather(s, i1)
          n1 = Unsqueeze(n, a0)
          t1 = Unsqueeze(t, a0)
          k = Concat<axis = 0>(n1, t1, six)
          b = Reshape(f, k)
          y = MatMul(b, w1)
        }"""))  # fmt: skip
    result = ir.from_proto(apply(model, Slim(Plan((GroupPlan("w0", 6, (0, 2, 5)),)))))
    where = node(result, "Where")
    known, lengths, computed = where.inputs
    assert known.const_value.numpy().tolist() == [False, False, True]
    assert lengths.const_value.numpy().tolist()[2] == 3
    assert computed.producer().op_type == "Concat"
    assert numbers(result, "Reshape", 1) == [-1, 3]


def test_expand_and_constant_of_shape():
    model = slim("p = GlobalAveragePool(c)\n z = Expand(p, size)", "int64[3] size = {6,3,2}")
    assert numbers(model, "Expand", 1) == [4, 3, 2]


@pytest.mark.parametrize(("opset", "slot"), [(11, None), (13, 1), (18, 1)])
def test_split_sizes(opset, slot):
    attributes = ", num_outputs = 2" if opset == 18 else ""
    model = slim(f"a, b = Split<axis = 1{attributes}>(c)\n z = Concat<axis = 1>(b, a)", opset=opset,
                 w0_0=(3, (0, 1)), w0_1=(3, (2,)))  # fmt: skip
    split = node(model, "Split")
    assert "num_outputs" not in split.attributes
    assert (list(split.attributes.get_ints("split")) if slot is None else numbers(model, "Split", slot)) == [2, 1]


@pytest.mark.parametrize("opset", [9, 17])
def test_slice_bounds(opset):
    bounds = {"a": (-6, -2), "b": (-2, 9223372036854775807)}
    if opset == 9:
        body = "\n".join(f"{k} = Slice<axes = [1], starts = [{s}], ends = [{e}]>(c)" for k, (s, e) in bounds.items())
        header = ""
    else:
        body = "a = Slice(c, sa, ea, i)\n b = Slice(c, sb, eb, i)"
        header = "int64[1] i = {-3}" + "".join(
            f", int64[1] s{k} = {{{s}}}, int64[1] e{k} = {{{e}}}" for k, (s, e) in bounds.items()
        )
    model = slim(f"{body}\n z = Concat<axis = 1>(b, a)", header, opset=opset, w0_0=(4, (1, 2)), w0_1=(2, (1,)))
    for number, expected in enumerate([([0], [2]), ([2], [3])]):
        slices = node(model, "Slice", number)
        if opset == 9:
            found = tuple(list(slices.attributes.get_ints(name)) for name in ("starts", "ends"))
        else:
            found = numbers(model, "Slice", 1, number), numbers(model, "Slice", 2, number)
        assert found == expected


def test_gather_positions():
    five = "int64[5] five = {0,2,3,4,4}"
    model = slim(
        "v = Reshape(c, five)\n a = Gather<axis = 1>(v, i)\n b = Gather<axis = 1>(v, j)\n z = Mul(a, b)",
        f"{five}, int64 i = {{-1}}, int64 j = {{0}}",
        channels=3,
        w0=(3, (0, 2)),
    )
    assert numbers(model, "Reshape", 1) == [0, 2, 2, 4, 4]
    # one position is a scalar, before and after; the axis of two that it is taken from is whole
    assert node(model, "Gather").inputs[1].const_value.numpy().shape == ()
    model = slim(
        "a = Gather<axis = 1>(c, low)\n b = Gather<axis = 1>(c, high)\n z = Mul(a, b)",
        "int64[3] low = {0,1,2}, int64[3] high = {-3,-2,-1}",
        channels=3,
        w0=(3, (0, 2)),
    )
    assert (numbers(model, "Gather", 1), numbers(model, "Gather", 1, 1)) == ([0, 1], [2, 3])


def test_one_position_behind_channels_that_go():
    model = normalised(small.build("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N,5] x) => (float[N,4] y)
        <float[5,6] w0, float[4] w1, int64 last = {5}, int64[1] i1 = {1}, int64[5] low = {0,1,2,3,4}, float[5,4] w3> {
          h = MatMul(x, w0)
          r = Relu(h)
          a = Gather<axis = 1>(r, last)
          u = Unsqueeze(a, i1)
          b = Gather<axis = 1>(r, low)
          c = MatMul(b, w3)
          d = Mul(u, w1)
          y = Add(c, d)
        }"""))  # fmt: skip
    result = ir.from_proto(apply(model, Slim(Plan((GroupPlan("w0", 5, (1, 4)),)))))
    index = next(each for each in result.graph if each.op_type == "Gather").inputs[1].const_value.numpy()
    assert (index.shape, index.item()) == ((), 2)


@pytest.mark.parametrize("opset", [9, 17, 18])
def test_pads(opset):
    if opset == 9:
        body, header = "p = Pad<pads = [0,1,0,0,0,2,0,0]>(c)\n z = Add(p, d)", ""
    elif opset == 17:
        body, header = "p = Pad(c, amounts)\n z = Add(p, d)", "int64[8] amounts = {0,1,0,0,0,2,0,0}"
    else:
        body = 'p = Pad(c, amounts, "", axes)\n z = Add(p, d)'
        header = "int64[4] amounts = {1,0,2,0}, int64[2] axes = {-3,3}"
    body = f"d = Conv<pads = [1,1,1,1]>(x, w2)\n {body}"
    header = ", ".join(filter(None, ["float[9,3,3,3] w2", header]))
    # w2 makes nine channels: one that meets padding, the six of c, and two that meet padding
    model = slim(body, header, 9, opset, w0=(6, (1, 4)), w2_1=(2, (1,)))
    pad = node(model, "Pad")
    found = list(pad.attributes.get_ints("pads")) if opset == 9 else numbers(model, "Pad", 1)
    assert found == ([1, 0, 1, 0] if opset == 18 else [0, 1, 0, 0, 0, 1, 0, 0])


@pytest.mark.parametrize("opset", [11, 17])
def test_squeeze_names_its_axes(opset):
    unsqueeze = "z = Unsqueeze<axes = [2,3]>(s)" if opset == 11 else "z = Unsqueeze(s, axes)"
    model = slim(f"p = GlobalAveragePool(c)\n s = Squeeze(p)\n {unsqueeze}",
                 "" if opset == 11 else "int64[2] axes = {2,3}", opset=opset, batch="2", w0=(6, (4,)))  # fmt: skip
    squeeze = node(model, "Squeeze")
    found = list(squeeze.attributes.get_ints("axes")) if opset == 11 else numbers(model, "Squeeze", 1)
    assert found == [2, 3]
    assert str(squeeze.outputs[0].shape) == "[2,1]"


def test_resize_sizes_of_some_axes():
    model = slim('z = Resize<mode = "nearest", axes = [2,1]>(c, "", "", sizes)', "int64[2] sizes = {8,6}", opset=18)
    assert numbers(model, "Resize", 3) == [8, 4]


def test_groups_of_a_normalisation():
    model = slim(
        "z = GroupNormalization<num_groups = 3>(c, gain, bias)",
        "float[6] gain, float[6] bias",
        opset=21,
        w0_0=(3, (0, 2)),
    )
    norm = node(model, "GroupNormalization")
    assert norm.attributes.get_int("num_groups") == 2
    assert [tuple(value.shape) for value in norm.inputs[1:]] == [(4,), (4,)]


def test_a_parameter_that_two_ops_share_is_rewritten_for_each():
    """One pair of sizes splits twelve channels here and six there."""
    model = normalised(small.build("""
        g (float[N,3,4,4] x) => (float[N,5,4,4] y)
        <float[4,3,1,1] w0, float[4,3,1,1] w1, float[5,2,1,1] w2, int64[2] sizes = {2,2}> {
          a = Conv(x, w0)
          b = Conv(x, w1)
          a0, a1 = Split<axis = 1>(a, sizes)
          b0, b1 = Split<axis = 1>(b, sizes)
          m = Mul(a0, a1)
          y0 = Conv(m, w2)
          n = Sub(b0, b1)
          y1 = Conv(n, w2)
          y = Add(y0, y1)
        }"""))  # fmt: skip
    result = apply(model, Slim(Plan((GroupPlan("w0", 2, (1,)),))))
    found = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in result.graph.initializer}
    assert (found["sizes"], found["sizes_2"]) == ([2, 2], [1, 1])
    assert np.shape(found["w2"]) == (5, 2, 1, 1)
    assert np.shape(found["w2_2"]) == (5, 1, 1, 1)
