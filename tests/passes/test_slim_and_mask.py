"""What slimming and masking do to a model, beside computing the same (which `tests/oracles` check)."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from modhifi_graph.errors import InputError
from modhifi_graph.passes.mask import Mask
from modhifi_graph.passes.slim import Slim
from modhifi_graph.plan import GroupPlan, Plan

from ..oracles import small
from ..oracles.equivalence import apply, normalised


def tensors(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def plan(**keep: tuple[int, tuple[int, ...]]) -> Plan:
    return Plan(tuple(GroupPlan(name, size, kept) for name, (size, kept) in keep.items()))


def test_weights_are_sliced_and_keep_their_names():
    model = normalised(small.SMALL["conv_chain"]())
    slim = apply(model, Slim(plan(w0=(8, (1, 4, 6)), w1=(6, (0, 5)))))
    before, after = tensors(model), tensors(slim)
    assert after.keys() == before.keys()
    np.testing.assert_array_equal(after["w0"], before["w0"][[1, 4, 6]])
    np.testing.assert_array_equal(after["b0"], before["b0"][[1, 4, 6]])
    np.testing.assert_array_equal(after["w1"], before["w1"][np.ix_([0, 5], [1, 4, 6])])
    np.testing.assert_array_equal(after["w2"], before["w2"][[0, 5]])
    np.testing.assert_array_equal(after["b2"], before["b2"])


def test_shapes_and_the_interface_are_right():
    model = normalised(small.SMALL["conv_chain"]())
    slim = ir.from_proto(apply(model, Slim(plan(w0=(8, (1, 4, 6))))))
    assert [str(node.outputs[0].shape) for node in slim.graph][:2] == ["[N,3,8,8]", "[N,3,8,8]"]
    assert str(slim.graph.outputs[0].shape) == "[N,5]"


def test_a_shared_constant_is_sliced_for_each_of_its_readers():
    model = normalised(small.SMALL["shared_zero_bias"]())
    slim = tensors(apply(model, Slim(plan(w0=(4, (0, 1, 2)), w1=(4, (3,))))))
    assert {name: array.shape for name, array in slim.items() if "zero" in name} == {
        "zero": (4,), "zero_2": (3,), "zero_3": (1,)
    }  # fmt: skip


def test_equal_slices_of_one_constant_stay_one():
    model = normalised(small.SMALL["shared_zero_bias"]())
    slim = apply(model, Slim(plan(w0=(4, (0, 1)), w1=(4, (0, 1)), w2=(4, (0, 1)))))
    assert sorted(name for name in tensors(slim) if "zero" in name) == ["zero", "zero_2"]


def test_an_empty_plan_changes_nothing():
    model = normalised(small.SMALL["attention_gqa"]())
    for change in (Slim, Mask):
        result = ir.from_proto(model)
        assert change(Plan())(result).modified is False
        assert {k: v.tobytes() for k, v in tensors(ir.to_proto(result)).items()} == {
            k: v.tobytes() for k, v in tensors(model).items()
        }


def test_a_depthwise_convolution_counts_its_groups_again():
    model = normalised(small.SMALL["depthwise_pointwise"]())
    slim = ir.from_proto(apply(model, Slim(plan(w0=(6, (0, 2)), pw=(8, (1, 2, 3))))))
    groups = [node.attributes.get_int("group", 1) for node in slim.graph if node.op_type == "Conv"]
    assert groups == [1, 2, 1, 3, 1]


def test_an_initialiser_that_is_an_output_too_stays():
    model = normalised(small.build("""
        g (float[2,3,4,4] x) => (float[2,5,4,4] y, float[6] b0)
        <float[6,3,1,1] w0, float[6] b0, float[5,6,1,1] w1> {
          c = Conv(x, w0, b0)
          y = Conv(c, w1)
        }"""))  # fmt: skip
    slim = apply(model, Slim(plan(w0=(6, (1, 3)))))
    after = tensors(slim)
    np.testing.assert_array_equal(after["b0"], tensors(model)["b0"])
    np.testing.assert_array_equal(after["b0_2"], tensors(model)["b0"][[1, 3]])
    onnx.checker.check_model(slim, full_check=True)


def test_a_constant_that_a_subgraph_reads_stays_for_it():
    model = normalised(small.build("""
        g (float[2,3,4,4] x) => (float[2,5,4,4] y)
        <float[6,3,1,1] w0, float[6] b0, float[5,6,1,1] w1, float zero = {0}> {
          c = Conv(x, w0, b0)
          z = Conv(c, w1)
          s = ReduceMean<keepdims = 0>(x)
          condition = Greater(s, zero)
          b = If (condition) <
            then_branch = g1 () => (float[6] t) { t = Mul(b0, s) },
            else_branch = g2 () => (float[6] e) { e = Sub(b0, s) }>
          m = ReduceMean<keepdims = 0>(b)
          y = Add(z, m)
        }"""))  # fmt: skip
    slim = apply(model, Slim(plan(w0=(6, (1, 3)))))
    assert {name: array.shape for name, array in tensors(slim).items() if name.startswith("b0")} == {
        "b0": (6,), "b0_2": (2,)
    }  # fmt: skip
    onnx.checker.check_model(slim, full_check=True)


def test_a_mask_zeroes_rows_where_they_are_consumed_and_nothing_else():
    model = normalised(small.SMALL["conv_chain"]())
    mask = apply(model, Mask(plan(w0=(8, (1, 4, 6)))))
    before, after = tensors(model), tensors(mask)
    assert {name for name in before if name in after} == {"w0", "b0", "b1", "w2", "b2"}
    expected = before["w1"].copy()
    expected[:, [0, 2, 3, 5, 7]] = 0
    np.testing.assert_array_equal(after["w1_masked"], expected)


def test_two_activations_are_masked_by_a_product():
    model = normalised(small.SMALL["attention_separate"]())
    mask = apply(model, Mask(Plan((GroupPlan("wq/1", 4, (0, 3)),))))
    added = [node for node in mask.graph.node if node.name.endswith("_masked")]
    assert [node.op_type for node in added] == ["Mul"]
    np.testing.assert_array_equal(tensors(mask)[added[0].input[1]].ravel(), [1, 0, 0, 1])


@pytest.mark.parametrize("change", [Slim, Mask])
def test_a_plan_for_another_model_is_refused(change):
    model = ir.from_proto(normalised(small.SMALL["conv_chain"]()))
    with pytest.raises(InputError, match=r"the model has no group 'w9'; `modhifi-graph inspect`"):
        change(plan(w9=(8, (0,))))(model)
    with pytest.raises(InputError, match="group 'w0' has 8 components here, 6 in the plan"):
        change(plan(w0=(6, (0,))))(model)
