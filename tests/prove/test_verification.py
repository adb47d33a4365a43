"""Slim graphs that are what they should be, and every way in which one can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.errors import InputError, VerificationError
from modhifi_graph.models.opening import open_model
from modhifi_graph.passes.normal_form import normalise
from modhifi_graph.passes.slim import Slim
from modhifi_graph.plan import GroupPlan, Plan, random_plan
from modhifi_graph.prove.structure import first_difference
from modhifi_graph.prove.verification import random_feeds, verify, verify_files

from ..oracles import small

CHAIN = small.CONVOLUTIONS["conv_chain"]
PLAN = Plan((GroupPlan("w0", 8, (0, 2, 3, 7)), GroupPlan("w1", 6, (1, 4))))


def pair(text: str = CHAIN, plan: Plan = PLAN) -> tuple[ir.Model, ir.Model]:
    """The normalised model, and the slim one."""
    dense = normalise(ir.from_proto(small.build(text)), "m")
    slim = dense.clone()
    Slim(plan)(slim)
    return dense, slim


def set_weight(model: ir.Model, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    value = model.graph.initializers[name]
    assert value.const_value is not None
    value.const_value = ir.tensor(change(value.const_value.numpy().copy()), name=name)


def weight_of(model: ir.Model, node: int) -> str:
    """The name of the weight of the convolution or product that is number `node`."""
    nodes = [n for n in model.graph if n.op_type in ("Conv", "Gemm", "MatMul")]
    value = nodes[node].inputs[1]
    assert value is not None
    assert value.name is not None
    return value.name


class TestVerify:
    def test_a_slim_graph_is_its_mask(self) -> None:
        dense, slim = pair()
        feeds = [random_feeds(dense, seed) for seed in range(3)]
        result = verify(dense, slim, PLAN, feeds)
        assert result.max_abs_error <= result.tolerance < 1e-2
        assert (result.output, result.runs) == ("y", 3)
        assert result.to_json()["max_abs_error"] == result.max_abs_error

    def test_it_modifies_nothing(self) -> None:
        dense, slim = pair()
        before = [to_proto(model).SerializeToString() for model in (dense, slim)]
        verify(dense, slim, PLAN, [random_feeds(dense)])
        assert [to_proto(model).SerializeToString() for model in (dense, slim)] == before

    def test_another_plan_of_the_same_sizes_is_found(self) -> None:
        dense, slim = pair()
        other = Plan((GroupPlan("w0", 8, (0, 2, 3, 6)), GroupPlan("w1", 6, (1, 4))))
        with pytest.raises(VerificationError, match="output 'y' of the slim graph differs from the masked one by") as e:
            verify(dense, slim, other, [random_feeds(dense)])
        assert e.value.exit_code == 3

    def test_a_slightly_wrong_weight_is_found(self) -> None:
        dense, slim = pair()
        set_weight(slim, weight_of(slim, 1), lambda w: w * np.float32(1.01))
        with pytest.raises(VerificationError, match="differs from the masked one"):
            verify(dense, slim, PLAN, [random_feeds(dense)])

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_what_is_not_finite_must_be_so_in_both(self, value: float) -> None:
        dense, slim = pair()
        feeds = random_feeds(dense)
        feeds["x"][0, 0, 0, 0] = value
        assert verify(dense, slim, PLAN, [feeds]).runs == 1
        set_weight(slim, weight_of(slim, 2), lambda w: w * np.float32(value))
        with pytest.raises(VerificationError, match="NaN or infinite where the masked one's is not"):
            verify(dense, slim, PLAN, [random_feeds(dense)])

    def test_a_changed_interface(self) -> None:
        dense, slim = pair()
        slim.graph.outputs[0].name = "z"
        with pytest.raises(VerificationError, match="the graph's outputs were y and are now z"):
            verify(dense, slim, PLAN, [random_feeds(dense)])
        slim.graph.outputs[0].name = "y"
        slim.graph.outputs[0].shape = ir.Shape(["N", 4])
        with pytest.raises(VerificationError, match=r"'y' was FLOAT \[N,5\] and is now FLOAT \[N,4\]"):
            verify(dense, slim, PLAN, [random_feeds(dense)])

    def test_an_invalid_graph(self) -> None:
        dense, slim = pair()
        slim.graph.node(0).op_type = "Mystery"
        with pytest.raises(VerificationError, match=r"does not pass onnx\.checker: No Op registered for Mystery"):
            verify(dense, slim, PLAN, [random_feeds(dense)])

    def test_a_graph_that_does_not_run(self) -> None:
        dense, slim = pair(small.SPATIAL["dynamic_reshape"], Plan())
        node = next(node for node in slim.graph if node.op_type in ("Gemm", "MatMul"))
        set_weight(slim, str(node.inputs[1].name), lambda w: np.concatenate([w, w]))  # type: ignore[union-attr]
        with pytest.raises(VerificationError):
            verify(dense, slim, Plan(), [random_feeds(dense)])

    def test_feeds_that_the_dense_graph_rejects_are_the_users_fault(self) -> None:
        dense, slim = pair()
        with pytest.raises(InputError, match="cannot run it"):
            verify(dense, slim, PLAN, [{"x": np.zeros((1, 4, 8, 8), np.float32)}])
        with pytest.raises(InputError, match="no inputs to compare on"):
            verify(dense, slim, PLAN, [])

    @pytest.mark.parametrize("name", sorted(set(small.SMALL) - set(small.NOT_RUNNABLE)))
    def test_random_plans(self, name: str) -> None:
        dense = normalise(ir.from_proto(small.SMALL[name]()), name)
        plan = random_plan(find_groups(couple(lift(dense).graph)), 1)
        slim = dense.clone()
        Slim(plan)(slim)
        result = verify(dense, slim, plan, [random_feeds(dense)])
        assert result.max_abs_error <= result.tolerance or not result.output


INTEGERS = """
    g (float[N,3] x) => (int64[N] y)
    <float[8,3] a, float[100,8] b> {
      h = Gemm<transB=1>(x, a)
      r = Relu(h)
      s = Gemm<transB=1>(r, b)
      y = ArgMax<axis=1, keepdims=0>(s)
    }"""


def test_integers_must_be_equal() -> None:
    plan = Plan((GroupPlan("a", 8, (1, 2, 3, 5)),))
    dense, slim = pair(INTEGERS, plan)
    feeds = random_feeds(dense, batch=500)
    assert verify(dense, slim, plan, [feeds]).output == ""
    with pytest.raises(VerificationError, match=r"output 'y', of int64, differs in .* % of its entries; at most 0.1 %"):
        verify(dense, slim, Plan((GroupPlan("a", 8, (1, 2, 3, 6)),)), [feeds])


def test_half_precision_is_judged_more_loosely() -> None:
    model = small.build(CHAIN)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    dense = normalise(open_model(model).model, "m")
    slim = dense.clone()
    Slim(PLAN)(slim)
    feeds = random_feeds(dense)
    exact = verify(*pair(), PLAN, [{"x": feeds["x"].astype(np.float32)}])
    result = verify(dense, slim, PLAN, [feeds])
    assert result.max_abs_error <= result.tolerance
    assert result.tolerance == pytest.approx(200 * exact.tolerance, rel=0.05)


class TestStructure:
    def test_the_same_graph(self) -> None:
        _, slim = pair()
        assert first_difference(slim, slim.clone()) is None

    def test_weights_and_biases_may_differ(self) -> None:
        _, slim = pair()
        other = slim.clone()
        for node in other.graph:
            if node.op_type in ("Conv", "Gemm"):
                set_weight(other, str(node.inputs[1].name), lambda w: w * 2)  # type: ignore[union-attr]
        assert first_difference(slim, other) is None

    def test_a_bias_may_be_added(self) -> None:
        _, slim = pair(small.CONVOLUTIONS["residual_projection"], Plan())
        other = slim.clone()
        node = next(node for node in other.graph if node.op_type == "Conv" and len(node.inputs) == 2)
        channels = int(node.inputs[1].shape[0])  # type: ignore[union-attr, index, arg-type]
        bias = ir.Value(name="extra", const_value=ir.tensor(np.ones(channels, np.float32), name="extra"))
        other.graph.register_initializer(bias)
        node.resize_inputs(3)
        node.replace_input_with(2, bias)
        assert first_difference(slim, other) is None
        assert str(first_difference(other, slim)).startswith("input 2 of Conv ")

    def test_other_constants_may_not(self) -> None:
        _, slim = pair(small.CONVOLUTIONS["batchnorm_opset15"], Plan())
        kept = ir.from_proto(small.build(small.CONVOLUTIONS["batchnorm_opset15"]))
        other = kept.clone()
        norm = next(node for node in other.graph if node.op_type == "BatchNormalization")
        set_weight(other, str(norm.inputs[1].name), lambda w: w * 2)  # type: ignore[union-attr]
        assert str(first_difference(kept, other)).endswith("has other values, and is no weight or bias")
        assert first_difference(kept, slim) is not None

    def test_another_attribute(self) -> None:
        _, slim = pair()
        other = slim.clone()
        node = next(node for node in other.graph if node.op_type == "Conv")
        node.attributes["pads"] = ir.AttrInt64s("pads", [0, 0, 2, 2])
        assert str(first_difference(slim, other)).startswith("the attribute 'pads' of Conv ")

    def test_another_shape(self) -> None:
        dense, slim = pair()
        assert "instead of" in str(first_difference(slim, dense))

    def test_another_connection(self) -> None:
        _, slim = pair(small.SPATIAL["two_inputs"], Plan())
        other = slim.clone()
        add = next(node for node in other.graph if node.op_type == "Add")
        first = add.inputs[0]
        add.replace_input_with(1, first)
        assert "instead of" in str(first_difference(slim, other))


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Dense model, slim model with changed weights as compensation leaves them, and plan."""
    dense, slim, plan = tmp_path / "dense.onnx", tmp_path / "slim.onnx", tmp_path / "plan.json"
    onnx.save(small.build(CHAIN), dense)
    opened = open_model(dense)
    model = normalise(opened.model, opened.label)
    Slim(PLAN)(model)
    set_weight(model, weight_of(model, 1), lambda w: w * np.float32(1.5))
    onnx.save(opened.give_back(model), slim)
    plan.write_text(json.dumps(PLAN.to_json()))
    return dense, slim, plan


class TestFiles:
    def test_a_finished_file(self, finished: tuple[Path, Path, Path]) -> None:
        result = verify_files(*finished)
        assert result.max_abs_error <= result.tolerance

    def test_another_plan(self, finished: tuple[Path, Path, Path]) -> None:
        dense, slim, plan = finished
        plan.write_text(json.dumps(Plan((GroupPlan("w0", 8, (0, 1)),)).to_json()))
        with pytest.raises(
            VerificationError, match=r"slim\.onnx: is not the graph that the plan makes of .*instead of"
        ):
            verify_files(dense, slim, plan)

    def test_the_dense_file_is_not_the_slim_one(self, finished: tuple[Path, Path, Path]) -> None:
        dense, _, plan = finished
        with pytest.raises(VerificationError, match="is not the graph that the plan makes"):
            verify_files(dense, dense, plan)

    def test_weights_that_are_not_finite(self, finished: tuple[Path, Path, Path]) -> None:
        dense, slim, plan = finished
        model = onnx.load(slim)
        weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(np.nan), weight.name))
        onnx.save(model, slim)
        with pytest.raises(VerificationError, match=r"slim\.onnx: output 'y' is NaN or infinite on random inputs"):
            verify_files(dense, slim, plan)

    def test_a_plan_of_another_model(self, finished: tuple[Path, Path, Path]) -> None:
        dense, slim, plan = finished
        plan.write_text(json.dumps(Plan((GroupPlan("elsewhere", 8, (0, 1)),)).to_json()))
        with pytest.raises(InputError, match="the model has no group 'elsewhere'"):
            verify_files(dense, slim, plan)

    def test_no_plan(self, finished: tuple[Path, Path, Path], tmp_path: Path) -> None:
        dense, slim, _ = finished
        with pytest.raises(InputError, match="cannot be read as a plan"):
            verify_files(dense, slim, tmp_path / "missing.json")
        with pytest.raises(InputError, match="cannot be read as a plan"):
            verify_files(dense, slim, dense)


def test_random_inputs_grow_until_the_model_takes_them() -> None:
    """A reflecting pad of 100 needs a length of 101, which only its own error message tells."""
    text = """
    g (float[N,L] x) => (float[N,M] y)
    <int64[4] pads = {0, 100, 0, 100}> {
      y = Pad<mode = "reflect">(x, pads)
    }"""
    feeds = random_feeds(ir.from_proto(small.build(text)))
    assert feeds["x"].shape == (2, 512)


def test_random_inputs_that_no_size_fits() -> None:
    text = """
    g (float[N,L] x) => (float[N,M] y)
    <int64[2] shape = {7, 11}> {
      y = Reshape(x, shape)
    }"""
    with pytest.raises(InputError, match="tried random inputs with open sizes of 8, 64, 512, 4096"):
        random_feeds(ir.from_proto(small.build(text)))
