"""Reading and replacing constants."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modhifi_graph.dialects.onnx_constants import constant_array, new_initialiser, origin, replace_constant

from ..oracles import small

TEXT = """
    g (float[2,3] x) => (float[2,3] y, float[3] shown) <float[3] w, float[3] shown> {
      i = Identity(w)
      j = Identity(i)
      k = Constant<value_floats = [1.0, 2.0, 3.0]>()
      a = Add(x, j)
      b = Add(a, k)
      c = Add(b, w)
      y = Add(c, shown)
    }"""


def model() -> ir.Model:
    return ir.from_proto(small.build(TEXT))


def values(source: ir.Model) -> dict[str, ir.Value]:
    return {value.name: value for node in source.graph for value in (*node.inputs, *node.outputs)}


def test_a_constant_is_read_through_identities_and_constant_nodes():
    known = values(model())
    assert origin(known["j"]) is known["w"]
    np.testing.assert_array_equal(constant_array(known["j"]), constant_array(known["w"]))
    np.testing.assert_array_equal(constant_array(known["k"]), [1, 2, 3])
    assert constant_array(known["a"]) is None
    assert constant_array(known["x"]) is None
    assert constant_array(None) is None


@pytest.mark.parametrize("array", [np.float32(3.0), np.zeros((0,), np.int64), np.arange(6).reshape(2, 3).T])
def test_a_new_initialiser_has_the_rank_it_is_given(array):
    source = model()
    value = new_initialiser(source, np.asarray(array), "new")
    assert tuple(value.shape) == np.shape(array)
    np.testing.assert_array_equal(source.graph.initializers["new"].const_value.numpy(), array)


def test_a_name_that_is_read_or_shown_is_not_taken():
    source = model()
    assert new_initialiser(source, np.zeros(1), "w").name == "w_2"
    assert new_initialiser(source, np.zeros(1), "shown").name == "shown_2"
    assert new_initialiser(source, np.zeros(1), "w").name == "w_2", "nobody reads the first w_2"


def test_a_replaced_constant_keeps_its_name_unless_others_read_it():
    source = model()
    nodes = {node.outputs[0].name: node for node in source.graph}
    replace_constant(source, nodes["c"], 1, np.zeros(3, np.float32), "fallback")
    assert nodes["c"].inputs[1].name == "w_2"
    replace_constant(source, nodes["c"], 1, np.ones(3, np.float32), "fallback")
    assert nodes["c"].inputs[1].name == "w_2"
    replace_constant(source, nodes["b"], 0, np.ones(3, np.float32), "fallback")
    assert nodes["b"].inputs[0].name == "fallback"
    replace_constant(source, nodes["b"], 2, np.ones(3, np.float32), "third")
    assert nodes["b"].inputs[2].name == "third"
