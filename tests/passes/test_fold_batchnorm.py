"""Folding batch normalisation changes nothing but the number of nodes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from modhifi_graph import samples
from modhifi_graph.passes.fold_batchnorm import FoldBatchNorm
from modhifi_graph.passes.normalise import Normalise
from tools import zoo

from ..oracles import small
from ..oracles.equivalence import distance, run

NORM = "gain, bias, mean, variance"


def norm(channels: int) -> str:
    return ", ".join(f"float[{channels}] {name}" for name in NORM.split(", "))


def build(
    body: str, header: str, shape: str = "2,4,5,5", opset: int = 17, outputs: str = "float[A,B,C,D] y"
) -> onnx.ModelProto:
    return small.build(
        f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[{shape}] x) => ({outputs}) <{header}> {{ {body} }}'
    )


def folded(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    result = ir.from_proto(model)
    modified = FoldBatchNorm()(result).modified
    return ir.to_proto(result), modified


def norms(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "BatchNormalization" for node in model.graph.node)


def check(model: onnx.ModelProto, left: int = 0, tolerance: float = 1e-6) -> onnx.ModelProto:
    """Fold, and compare what comes out for a random input; returns the folded model."""
    slim, modified = folded(model)
    assert norms(slim) == left
    assert modified == (left < norms(model))
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    feeds = {"x": np.random.default_rng(0).standard_normal(shape, np.float32)}
    before = run(model, feeds)
    assert distance(run(slim, feeds), before, before) < tolerance
    onnx.checker.check_model(slim, full_check=True)
    return slim


LINEAR = {
    "convolution": ("c = Conv(x, w)", "float[6,4,3,3] w", 6),
    "with a bias": ("c = Conv(x, w, b)", "float[6,4,3,3] w, float[6] b", 6),
    "grouped": ("c = Conv<group = 2>(x, w, b)", "float[6,2,3,3] w, float[6] b", 6),
    "depthwise": ("c = Conv<group = 4>(x, w)", "float[8,1,3,3] w", 8),
    "transposed": ("c = ConvTranspose<strides = [2,2]>(x, w)", "float[4,6,2,2] w", 6),
    "transposed and grouped": ("c = ConvTranspose<group = 2>(x, w, b)", "float[4,3,3,3] w, float[6] b", 6),
    "with an addition": ("a = Conv(x, w)\n c = Add(a, k)", "float[6,4,3,3] w, float[6,1,1] k", 6),
    "with an addition from the left": (
        "a = Conv(x, w, b)\n c = Add(k, a)", "float[6,4,3,3] w, float[6] b, float[1,6,3,3] k", 6),
    "with a scalar addition": ("a = Conv(x, w)\n c = Add(a, k)", "float[6,4,3,3] w, float k = {0.7}", 6),
}  # fmt: skip


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("opset", [9, 13, 17])
def test_a_convolution(name, opset):
    body, header, channels = LINEAR[name]
    model = build(f"{body}\n n = BatchNormalization<epsilon = 0.01>(c, {NORM})\n y = Relu(n)",
                  f"{header}, {norm(channels)}", opset=opset)  # fmt: skip
    slim = check(model)
    assert {"w"} <= {tensor.name for tensor in slim.graph.initializer}
    assert not {"gain", "mean"} & {tensor.name for tensor in slim.graph.initializer}


@pytest.mark.parametrize(
    ("body", "header"),
    [
        ("c = Gemm(x, w)", "float[4,6] w"),
        ("c = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, w, b)", "float[6,4] w, float[6] b"),
        ("c = Gemm(x, w, b)", "float[4,6] w, float[3,6] b"),
        ("c = Gemm<beta = 0.5>(x, w, b)", "float[4,6] w, float[3,1] b"),
        ("c = MatMul(x, w)", "float[4,6] w"),
        ("m = MatMul(x, w)\n c = Add(m, b)", "float[4,6] w, float[6] b"),
        ("m = Gemm<beta = 3.0>(x, w, d)\n c = Add(b, m)", "float[4,6] w, float[6] b, float[6] d"),
    ],
)  # fmt: skip
def test_a_matrix(body, header):
    model = build(f"{body}\n n = BatchNormalization(c, {NORM})\n y = Relu(n)", f"{header}, {norm(6)}", "3,4",
                  outputs="float[A,B] y")  # fmt: skip
    check(model)


def test_the_last_output_keeps_its_name():
    model = build(f"c = Conv(x, w)\n y = BatchNormalization(c, {NORM})", f"float[6,4,3,3] w, {norm(6)}")
    assert [value.name for value in check(model).graph.output] == ["y"]


FOLLOWED = f"BatchNormalization(c, {NORM})"

UNTOUCHED = {
    "trains": (f"c = Conv(x, w)\n y = BatchNormalization<training_mode = 1>(c, {NORM})", "float[6,4,3,3] w", 6),
    "is read twice": (f"c = Conv(x, w)\n n = {FOLLOWED}\n y = Mul(n, c)", "float[6,4,3,3] w", 6),
    "follows an activation": (f"r = Conv(x, w)\n c = Relu(r)\n y = {FOLLOWED}", "float[6,4,3,3] w", 6),
    "has a weight made at run time": (f"s = Sigmoid(w)\n c = Conv(x, s)\n y = {FOLLOWED}", "float[6,4,3,3] w", 6),
    "has a bias made at run time": (
        f"s = Sigmoid(b)\n c = Conv(x, w, s)\n y = {FOLLOWED}", "float[6,4,3,3] w, float[6] b", 6),
    "adds two activations": (
        f"a = Conv(x, w)\n b = Conv(x, w)\n c = Add(a, b)\n y = {FOLLOWED}", "float[6,4,3,3] w", 6),
    "normalises the rows of a product": (
        f"f = Reshape(x, s)\n c = MatMul(f, w)\n n = {FOLLOWED}\n y = Reshape(n, t)",
        "float[25,6] w, int64[3] s = {2,4,25}, int64[4] t = {2,4,6,1}", 4),
}  # fmt: skip


@pytest.mark.parametrize("name", UNTOUCHED)
def test_what_cannot_be_folded_is_left_alone(name):
    body, header, channels = UNTOUCHED[name]
    model = build(body, f"{header}, {norm(channels)}")
    same, modified = folded(model)
    assert (norms(same), modified) == (1, False)
    assert [node.op_type for node in same.graph.node] == [node.op_type for node in model.graph.node]


def test_an_output_of_the_graph_is_not_folded_away():
    model = build(f"c = Conv(x, w)\n y = BatchNormalization(c, {NORM})", f"float[6,4,3,3] w, {norm(6)}",
                  outputs="float[A,B,C,D] y, float[A,B,C,D] c")  # fmt: skip
    check(model, left=1)


def test_training_shows_in_the_outputs_before_opset_14():
    model = build(
        f"c = Conv(x, w)\n y, m, v, n, o = BatchNormalization(c, {NORM})", f"float[6,4,3,3] w, {norm(6)}", opset=9
    )
    assert folded(model)[1] is False


def test_a_shared_weight_stays_for_the_others():
    model = build(f"c = Conv(x, w)\n n = BatchNormalization(c, {NORM})\n d = Conv(x, w)\n y = Add(n, d)",
                  f"float[6,4,3,3] w, {norm(6)}")  # fmt: skip
    slim = check(model)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in slim.graph.initializer}
    original = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    np.testing.assert_array_equal(weights["w"], original["w"])
    assert {"w", "w_2"} <= weights.keys()


def test_constants_may_come_through_identities():
    model = build("k = Identity(w)\n g = Identity(gain)\n h = Identity(g)\n c = Conv(x, k)\n"
                  "y = BatchNormalization(c, h, bias, mean, variance)", f"float[6,4,3,3] w, {norm(6)}")  # fmt: skip
    slim = check(model)
    assert [node.op_type for node in slim.graph.node] == ["Conv"]


def test_the_numbers():
    """gain 2, bias 3, mean 5, variance 15 with epsilon 1: y = (x - 5) / 2 + 3."""
    values = {"w": np.ones((1, 1, 1, 1)), "gain": [2.0], "bias": [3.0], "mean": [5.0], "variance": [15.0]}
    tensors = [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in values.items()]
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]),
             helper.make_node("BatchNormalization", ["c", *NORM.split(", ")], ["y"], epsilon=1.0)]  # fmt: skip
    shape = [1, 1, 2, 2]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        tensors,
    )
    slim, _ = folded(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    weight, bias = (numpy_helper.to_array(tensor) for tensor in slim.graph.initializer)
    np.testing.assert_array_equal(weight.ravel(), [0.5])
    np.testing.assert_array_equal(bias, [0.5])


def test_half_precision_is_rounded_once():
    """A variance of 1e-4 and an epsilon of 1e-5: float16 has neither exactly, float64 has enough of both."""
    model = build(f"c = Conv(x, w)\n y = BatchNormalization(c, {NORM})", f"float[6,4,3,3] w, {norm(6)}")
    half = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in half.graph.initializer:
        array = numpy_helper.to_array(tensor) * (1e-4 if tensor.name == "variance" else 1.0)
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), tensor.name))
    for value in (*half.graph.input, *half.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    slim, modified = folded(half)
    assert modified
    arrays = {t.name: numpy_helper.to_array(t) for t in slim.graph.initializer}
    old = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in half.graph.initializer}
    scale = old["gain"] / np.sqrt(old["variance"] + np.float32(1e-5).astype(np.float64))
    assert arrays["w"].dtype == np.float16
    np.testing.assert_array_equal(arrays["w"], (old["w"] * scale[:, None, None, None]).astype(np.float16))


def test_what_would_overflow_is_left_alone():
    model = build(f"c = Conv(x, w)\n y = BatchNormalization<epsilon = 0.0>(c, {NORM})", f"float[6,4,3,3] w, {norm(6)}")
    for tensor in model.graph.initializer:
        if tensor.name == "variance":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(6, np.float32), "variance"))
    with np.errstate(divide="ignore", invalid="ignore"):
        assert folded(model)[1] is False


@pytest.mark.parametrize("normalise", [True, False])
def test_the_sample_network(normalise):
    model = onnx.load(samples.load("digits-cnn").path)
    if normalise:
        result = ir.from_proto(model)
        Normalise()(result)
        model = ir.to_proto(result)
    assert norms(model) == 11
    slim, _ = folded(model)
    assert norms(slim) == 0
    assert {"stem.0.weight", "stem.0.bias"} <= {tensor.name for tensor in slim.graph.initializer}
    feeds = {"image": samples.load("digits-cnn").test[:8]}
    before = run(model, feeds)
    assert distance(run(slim, feeds), before, before) < 1e-6


def test_a_real_network(shared):
    model = onnx.load(shared / "models" / "resnet56_cifar10_bn.onnx")
    slim, _ = folded(model)
    assert (norms(model), norms(slim)) == (55, 0)
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 32, 32), np.float32)}
    before = run(model, feeds)
    assert distance(run(slim, feeds), before, before) < 1e-5
    # the numbers are those of the folding that was published with it, up to its float32 arithmetic
    published = {
        t.name: numpy_helper.to_array(t)
        for t in onnx.load(shared / "models" / "resnet56_cifar10.onnx").graph.initializer
    }
    ours = {t.name: numpy_helper.to_array(t) for t in slim.graph.initializer}
    for name in ours.keys() & published.keys() - {"linear.weight", "linear.bias"}:
        if ours[name].ndim == 4:
            np.testing.assert_allclose(ours[name], published[name], rtol=1e-4, atol=1e-6)


def test_normalisation_before_the_layer_is_left_alone(torch):
    """DenseNet normalises first: nothing linear is before most of its normalisations."""
    model = zoo.export("densenet121", "dynamo", dynamic=False)
    assert (norms(model), norms(folded(model)[0])) == (62, 62)
