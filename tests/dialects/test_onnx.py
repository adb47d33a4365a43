"""Lifting an ONNX model into the neutral graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modhifi_graph.dialects.onnx import interface, lift, opset_of

from ..oracles import small
from ..oracles.equivalence import normalised


def lifted(text: str):
    return lift(ir.from_proto(small.build(text)))


def test_values_and_ops():
    graph = lifted("""
        g (float[N,3,4,4] x) => (float[N,6,4,4] y) <float[6,3,1,1] w> {
          c = Conv<pads = [0,0,0,0], group = 1>(x, w)
          y = Clip(c, "", w)
        }""").graph
    conv, clip = graph.ops
    assert (conv.kind, conv.domain, conv.opset) == ("Conv", "", 17)
    assert conv.attributes == {"pads": [0, 0, 0, 0], "group": 1}
    assert clip.inputs[1] is None
    assert (graph.inputs[0].name, graph.inputs[0].shape) == ("x", ("N", 3, 4, 4))
    assert graph.inputs[0].dtype == np.float32
    x, w = conv.inputs
    assert (x.is_constant, w.is_constant, w.shape) == (False, True, (6, 3, 1, 1))
    assert w.array().shape == (6, 3, 1, 1)
    assert clip.inputs[0] is conv.outputs[0]
    assert [value.name for value in graph.values()] == ["x", "w", "c", "y"]


def test_weights_are_not_read_before_they_are_asked_for():
    model = ir.from_proto(normalised(small.SMALL["conv_chain"]()))
    reads = []

    def read(name: str) -> ir.Tensor:
        reads.append(name)
        return ir.tensor(np.zeros(8, np.float32))

    model.graph.initializers["b0"].const_value = ir.LazyTensor(
        lambda: read("b0"), dtype=ir.DataType.FLOAT, shape=ir.Shape([8]), name="b0"
    )
    graph = lift(model).graph
    (b0,) = [value for value in graph.values() if value.name == "b0"]
    assert (reads, b0.shape) == ([], (8,))
    assert b0.array().shape == (8,)
    assert reads == ["b0"]


def test_an_initialiser_that_is_an_input_is_no_constant():
    """Whoever runs the model may feed another one."""
    graph = lift(ir.from_proto(small.SMALL["initializers_as_inputs"]())).graph
    assert not any(value.is_constant for value in graph.values())


def test_what_a_subgraph_reads_is_captured():
    graph = lift(ir.from_proto(small.SMALL["if_subgraph"]())).graph
    (branch,) = [op for op in graph.ops if op.kind == "If"]
    assert {value.name for value in branch.captured} == {"r0", "w1", "w2"}
    assert branch.attributes == {}


def test_an_activation_has_no_array():
    graph = lift(ir.from_proto(small.SMALL["conv_chain"]())).graph
    with pytest.raises(ValueError, match="'x' is not a constant"):
        graph.inputs[0].array()


def test_a_parameter_is_an_attribute_or_an_input():
    graph = lift(ir.from_proto(small.SMALL["static_opset9"]())).graph
    (first, _) = [op for op in graph.ops if op.kind == "Slice"]
    np.testing.assert_array_equal(first.parameter("starts", 1), [4])
    assert first.parameter("steps", 4) is None


def test_the_opset_may_be_called_by_its_full_name():
    model = ir.from_proto(small.SMALL["conv_chain"]())
    assert opset_of(model) == 17
    model.graph.opset_imports["ai.onnx"] = model.graph.opset_imports.pop("")
    assert opset_of(model) == 17


def test_the_interface():
    model = ir.from_proto(small.SMALL["two_outputs"]())
    assert [name for name, _, _ in interface(model)] == ["x", "y", "feature"]
    assert interface(model)[0][2] == "[N,3,8,8]"
