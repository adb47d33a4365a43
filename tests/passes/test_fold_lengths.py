"""Lengths that are known are constants, beside an open batch too."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from modhifi_graph.passes.fold_lengths import EVALUATORS, FoldLengths, _divide, is_invented
from modhifi_graph.passes.normalise import Normalise

from ..oracles import small
from ..oracles.equivalence import distance, normalised, run


def lengths(body: str, header: str = "", output: str = "int64[K] y", x: str = "float[N,6,T,4] x") -> ir.Model:
    """A model that computes ``y`` from lengths of ``x``, with those that are known folded, and nothing else done."""
    header = f"<{header}>" if header else ""
    model = ir.from_proto(
        small.build(f'<ir_version: 8, opset_import: ["" : 17]> g ({x}) => ({output}) {header} {{ {body} }}')
    )
    common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    FoldLengths()(model)
    return model


def known(model: ir.Model, name: str) -> list[int] | int | None:
    """The constant that the node making ``name`` reads instead of its first input's maker; None where it is open."""
    (node,) = [node for node in model.graph if node.outputs[0].name == name]
    tensor = node.inputs[0].const_value
    return None if tensor is None else tensor.numpy().tolist()


def reshape(model: ir.Model) -> ir.Node:
    return next(node for node in model.graph if node.op_type == "Reshape")


INDICES = "int64 i1 = {1}, int64[2] both = {1,-1}, int64[1] a0 = {0}, int64[1] s1 = {1}, int64[1] e2 = {2}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("v = Gather(s, i1)", 6),
        ("v = Gather(s, both)", [6, 4]),
        ("v = Slice(s, s1, e2)", [6]),
        ("n = Gather(s, i1)\n v = Unsqueeze(n, a0)", [6]),
        ("n = Gather(s, both)\n v = Concat<axis = 0>(n, both)", [6, 4, 1, -1]),
        ("n = Slice(s, s1, e2)\n v = Squeeze(n, a0)", 6),
        ("n = Gather(s, both)\n v = Mul(n, both)", [6, -4]),
        ("n = Gather(s, both)\n v = Add(n, n)", [12, 8]),
        ("n = Gather(s, both)\n v = Sub(n, i1)", [5, 3]),
        ("n = Gather(s, both)\n m = Neg(n)\n v = Div(m, four)", [-1, -1]),
        ("n = Gather(s, both)\n v = ReduceProd<keepdims = 0>(n)", 24),
        ("n = Gather(s, both)\n v = ReduceProd(n)", [24]),
        ("n = Gather(s, both)\n v = Cast<to = 6>(n)", [6, 4]),
        ("n = Gather(s, both)\n v = Identity(n)", [6, 4]),
        ("n = Gather(s, i1)\n v = Reshape(n, minus)", [6]),
        ("n = Gather(s, both)\n c = Equal(n, i1)\n v = Where(c, both, n)", [6, 4]),
        ("n = Slice(s, s1, e2)\n v = ConstantOfShape(n)", [0] * 6),
        # an open length is no negative number, so torch's test for -1 is decided
        ("c = Equal(s, minus)\n w = Where(c, both4, s)\n v = Slice(w, s1, e2)", [6]),
        # and what depends on one stays open
        ("n = Gather(s, zero)\n v = Mul(n, four)", None),
        ("m = Mul(s, s)\n v = Slice(m, a0, e2)", None),
        ("n = Gather(s, both)\n c = Equal(n, four)\n w = Slice(s, a0, e2)\n v = Where(c, w, w)", None),
        ("v = Gather(s, zero)", None),
    ],
)  # fmt: skip
def test_a_vector_of_lengths(body, expected):
    """``v`` as its reader sees it."""
    header = INDICES + ", int64 four = {4}, int64[1] minus = {-1}, int64 zero = {0}, int64[4] both4 = {1,1,1,1}"
    model = lengths(f"s = Shape(x)\n {body}\n f = Cast<to = 7>(v)\n y = Reshape(f, minus)", header)
    assert known(model, "f") == expected


def test_shape_takes_a_part_and_size_a_product():
    model = lengths("s = Shape<start = 1, end = 2>(x)\n f = Cast<to = 7>(s)\n y = Identity(f)")
    assert known(model, "f") == [6]
    model = lengths("s = Size(x)\n f = Cast<to = 7>(s)\n y = Identity(f)", x="float[2,6,3,4] x")
    assert known(model, "f") == 144


def test_every_evaluator_is_tested():
    assert set(EVALUATORS) == {
        "Shape", "Size", "Gather", "Slice", "Concat", "Unsqueeze", "Squeeze", "Reshape", "Identity", "Cast",
        "ReduceProd", "ConstantOfShape", "Add", "Sub", "Mul", "Div", "Neg", "Equal", "Where",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["n", "six", "minus"], [0, 6, -1]),
        (["n", "minus", "four"], [0, -1, 4]),
        # the last axis is what is left: a number
        (["n", "six", "t", "minus"], [0, 6, 0, 4]),
        # one length that is open and not in its place is inferred
        (["t", "six", "four", "minus"], None),
        (["nt", "six", "four"], [-1, 6, 4]),
        (["t", "n", "six", "four"], None),
    ],
)
def test_a_target_shape(entries, expected):
    header = "int64 i0 = {0}, int64 i2 = {2}, int64[1] a0 = {0}"
    header += ", int64[1] six = {6}, int64[1] four = {4}, int64[1] minus = {-1}"
    body = f"""
        s = Shape(x)
        n0 = Gather(s, i0)
        t0 = Gather(s, i2)
        m0 = Mul(n0, t0)
        n = Unsqueeze(n0, a0)
        t = Unsqueeze(t0, a0)
        nt = Unsqueeze(m0, a0)
        k = Concat<axis = 0>({", ".join(entries)})
        y = Reshape(x, k)"""
    output = "float[" + ",".join("ABCD"[: len(entries)]) + "] y"
    model = lengths(body, header, output)
    target = reshape(model).inputs[1].const_value
    assert (None if target is None else target.numpy().tolist()) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("e = Expand(x, k)", ["N", "6", "T", "4"]),
        ("p = ReduceMax<axes = [1,2]>(x)\n e = Expand(p, k)", ["N", "1", "T", "4"]),
        ("e = ConstantOfShape(k)", ["N", "1", "T", "1"]),
        ("e = Range(i0, t0, i1)", ["T"]),
    ],
)
def test_what_a_target_says_of_the_shape(body, expected):
    header = "int64 i0 = {0}, int64 i1 = {1}, int64 i2 = {2}, int64[1] a0 = {0}, int64[1] one = {1}"
    model = lengths(f"""
        s = Shape(x)
        n0 = Gather(s, i0)
        t0 = Gather(s, i2)
        n = Unsqueeze(n0, a0)
        t = Unsqueeze(t0, a0)
        k = Concat<axis = 0>(n, one, t, one)
        {body}
        y = Identity(e)""", header, "float[A,B,C,D] y" if "Range" not in body else "int64[A] y")  # fmt: skip
    (value,) = [node.outputs[0] for node in model.graph if node.outputs[0].name == "e"]
    assert [str(dim) if isinstance(dim, int) else dim.value for dim in value.shape] == expected


def test_a_normalisation_that_inference_does_not_know_keeps_its_shape():
    model = ir.from_proto(small.build("""
        <ir_version: 8, opset_import: ["" : 18]>
        g (float[N,6,4] x) => (float[A,B,C] y) <float[2] gain, float[2] bias> {
          n = GroupNormalization<num_groups = 2>(x, gain, bias)
          y = Relu(n)
        }"""))  # fmt: skip
    Normalise()(model)
    assert str(model.graph[0].outputs[0].shape) == "[N,6,4]"


def test_invented_names():
    assert is_invented("unk__3")
    assert is_invented(None)
    assert is_invented(ir.SymbolicDim("unk__0"))
    assert not is_invented("batch")
    assert not is_invented(ir.SymbolicDim("batch"))
    assert not is_invented(7)


def test_the_folded_graph_computes_the_same_for_any_batch():
    model = small.SMALL["dynamic_reshape"]()
    slim = normalised(model)
    assert not {"Shape", "Gather", "Concat"} & {node.op_type for node in slim.graph.node}
    for batch in (1, 5):
        feeds = small.samples(model, batch=batch)
        before = run(model, feeds)
        assert distance(run(slim, feeds), before, before) < 1e-6


def test_an_output_of_the_graph_stays_an_output():
    model = lengths("s = Shape(x)\n y = Slice(s, s1, e2)", INDICES)
    assert model.graph.outputs[0].producer().op_type == "Slice"
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_a_literal_zero_is_not_taken_for_a_copy():
    """With allowzero an entry of 0 is a length of 0."""
    body = """
        s = Shape(x)
        n0 = Gather(s, i0)
        n = Unsqueeze(n0, a0)
        k = Concat<axis = 0>(n, zero, minus)
        y = Reshape<allowzero = 1>(x, k)"""
    header = "int64 i0 = {0}, int64[1] a0 = {0}, int64[1] zero = {0}, int64[1] minus = {4}"
    model = lengths(body, header, "float[A,B,C] y")
    assert reshape(model).inputs[1].const_value is None


def test_numpy_agrees_with_the_division_of_lengths():
    """ONNX divides integers as C does."""
    for a in range(-7, 8):
        for b in (-3, -2, -1, 1, 2, 3):
            assert _divide(a, b) == int(np.trunc(a / b))
