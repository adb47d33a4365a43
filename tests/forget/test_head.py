"""Finding the layer that makes the class scores, and refusing what has none."""

from __future__ import annotations

import pytest
import torch

from modhifi_graph.errors import InputError
from modhifi_graph.forget.head import Head, find_head, predicted_class, rate
from modhifi_graph.observe.sites import sites

from ..oracles.layers import Net

LAYERS = "<float[6,8] w0, float[8] b0, float[8,5] w1, float[5] b1>"


def head_of(body: str, outputs: str = "float[N,5] y", layers: str = LAYERS, inputs: str = "float[N,6] x") -> Head:
    net = Net.of(f"g ({inputs}) => ({outputs}) {layers} {{ {body} }}")
    return find_head(net.program.graph, list(sites(net.groups, net.program.graph, {})), "m")


def test_logits() -> None:
    head = head_of("h = Gemm(x, w0, b0) r = Relu(h) y = Gemm(r, w1, b1)")
    assert (head.site.output.name, head.output.name, head.classes, head.place) == ("y", "y", 5, 0)


def test_probabilities_after_a_matmul_with_a_bias() -> None:
    head = head_of("h = Gemm(x, w0, b0) r = Relu(h) m = MatMul(r, w1) a = Add(m, b1) y = Softmax<axis = -1>(a)")
    assert (head.site.output.name, head.output.name) == ("a", "y")


def test_the_output_that_holds_classes_among_several() -> None:
    body = "h = Gemm(x, w0, b0) r = Relu(h) s = ReduceSum<keepdims = 0>(r) y = Gemm(r, w1, b1)"
    head = head_of(body, "float s, float[N,5] y")
    assert (head.output.name, head.place) == ("y", 1)


def test_a_convolution_that_is_pooled() -> None:
    layers = "<float[6,3,3,3] w0, float[6] b0, float[5,6,1,1] w1, float[5] b1>"
    body = "h = Conv(x, w0, b0) r = Relu(h) c = Conv(r, w1, b1) p = GlobalAveragePool(c) y = Flatten(p)"
    head = head_of(body, layers=layers, inputs="float[N,3,6,6] x")
    assert (head.site.output.name, head.classes) == ("c", 5)


@pytest.mark.parametrize(
    ("body", "outputs", "layers"),
    [
        ("h = Gemm(x, w0, b0) r = Relu(h) m = Gemm(r, w1, b1) y = Relu(m)", "float[N,5] y", LAYERS),
        ("h = Gemm(x, w0, b) r = Gemm(x, w1, b) y = Add(h, r)", "float[N,5] y", "<float[6,5] w0, float[5] b, float[6,5] w1>"),
    ],
)  # fmt: skip
def test_what_is_no_single_layers_scores_is_refused(body: str, outputs: str, layers: str) -> None:
    with pytest.raises(InputError, match=r"^m: no output holds one score a class"):
        head_of(body, outputs, layers)


def test_a_sequence_is_refused() -> None:
    with pytest.raises(InputError, match="only classifiers"):
        head_of(
            "h = MatMul(x, w0) a = Add(h, b0) r = Relu(a) m = MatMul(r, w1) y = Add(m, b1)",
            "float[N,T,5] y",
            inputs="float[N,T,6] x",
        )


def test_a_last_layer_without_a_bias_is_refused() -> None:
    with pytest.raises(InputError, match="has no bias"):
        head_of("h = Gemm(x, w0, b0) r = Relu(h) y = MatMul(r, w1)")


def test_the_class_is_what_the_model_sees() -> None:
    scores = torch.tensor([[0.0, 9.0, 0.0], [0.1, 0.0, 0.2], [0.0, 5.0, 4.0]])
    assert predicted_class(scores) == 1
    assert rate(scores, 1) == pytest.approx(2 / 3)
