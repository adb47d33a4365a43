"""By what removals are priced."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modhifi_graph.dialects.onnx import lift
from modhifi_graph.observe.output_error import divergence, is_language_model, output_error, relative_error
from modhifi_graph.passes.normal_form import normalise

from ..oracles import small

LANGUAGE = """
    g (int64[N,T] ids) => (float[N,T,16] logits) <float[16,6] table, float[6,16] head> {
      x = Gather(table, ids)
      r = Relu(x)
      logits = MatMul(r, head)
    }"""
CLASSIFIER = """
    g (int64[N,T] ids) => (float[N,16] scores) <float[16,6] table, float[6,16] head> {
      x = Gather(table, ids)
      m = ReduceMean<axes = [1], keepdims = 0>(x)
      scores = MatMul(m, head)
    }"""
TAGGER = LANGUAGE.replace("16] logits", "9] logits").replace("float[6,16] head", "float[6,9] head")
NUMBERS = "g (float[N,4,16] x) => (float[N,4,16] y) <float[16,16] w> { y = MatMul(x, w) }"


@pytest.mark.parametrize(
    ("text", "expected"), [(LANGUAGE, True), (CLASSIFIER, False), (TAGGER, False), (NUMBERS, False)]
)
def test_which_models_are_language_models(text: str, expected: bool) -> None:
    graph = lift(normalise(ir.from_proto(small.build(text)), "graph")).graph
    assert is_language_model(graph) == expected
    assert output_error(graph) is (divergence if expected else relative_error)


def test_divergence_is_what_it_costs_to_expect_the_other() -> None:
    random = np.random.default_rng(0)
    logits = random.standard_normal((2, 2, 3, 5)).astype(np.float32) * 3
    p, q = (np.exp(a.astype(np.float64)) / np.exp(a.astype(np.float64)).sum(-1, keepdims=True) for a in logits)
    expected = (p * np.log(p / q)).sum(-1)  # 2 x 3 positions
    whole = divergence([{"y": logits[0]}], [{"y": logits[1]}])
    np.testing.assert_allclose(whole, expected.mean(), rtol=1e-5)
    parts = [[{"y": a[:1]}, {"y": a[1:]}] for a in logits]
    np.testing.assert_allclose(divergence(*parts), whole, rtol=1e-6)
    np.testing.assert_allclose(divergence([{"y": logits[0]}], [{"y": logits[0] + 7}]), 0, atol=1e-6)
