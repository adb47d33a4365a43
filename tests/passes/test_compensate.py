"""The pass: what it asks for, what it leaves alone, and what it is worth on every kind of small model."""

from __future__ import annotations

import inspect
from typing import get_type_hints

import numpy as np
import onnx_ir as ir
import pytest

from modhifi_graph.passes.compensate import METHODS, Compensate
from modhifi_graph.passes.slim import Slim
from modhifi_graph.plan import Plan
from modhifi_graph.prove import structure
from modhifi_graph.repair.compensation import Given, compensate

from ..oracles.layers import Net, parameter, run

KEPT = {
    "conv_chain": {"w0": (0, 1, 4, 5, 6), "w1": (0, 2, 3, 5)},
    "residual_projection": {"w0": (0, 1, 3), "w1": (1, 2, 4, 5), "w4": (0, 1, 3, 4, 6)},
    "depthwise_pointwise": {"w0": (0, 1, 2, 4), "pw": (0, 2, 3, 4, 6)},
    "grouped_conv_in2": {"w0/0": (0, 1, 3)},
    "batchnorm_opset9": {"w0": (0, 1, 2, 4, 6)},
    "flatten_gemm_transb1": {"w0": (0, 1, 3, 5), "w1": (0, 2, 3, 4, 6)},
    "mlp_gelu_erf": {"w0": (0, 1, 2, 3, 6, 8, 9)},
    "swiglu": {"gate": (0, 1, 2, 4, 5, 7, 9)},
    "nhwc": {"w0": (0, 1, 2, 4, 6), "w1": (0, 2, 3, 5)},
    "dense_concat": {"w0": (0, 1, 3, 4), "w1": (0, 2, 3)},
    "shared_zero_bias": {"w0": (0, 1, 3), "w2": (1, 2, 3)},
    "prelu": {"w0": (0, 1, 4, 5, 6), "w1": (0, 2, 3, 5)},
    "two_outputs": {"w0": (0, 1, 4, 5, 6), "w2": (0, 2, 3)},
}
"""Fixed plans, by model: about a third of the components goes."""


def slimmed(net: Net, plan: Plan) -> ir.Model:
    slim = net.model.clone()
    Slim(plan)(slim)
    return slim


@pytest.mark.parametrize("name", KEPT)
def test_each_repair_pays(name: str) -> None:
    net = Net.named(name, samples=200 if name == "flatten_gemm_transb1" else 64)
    errors = {method: net.error(net.compensated(KEPT[name], method)) for method in METHODS}
    assert errors["none"] > 1e-2
    assert errors["lstsq"] < errors["none"]
    assert errors["scalar"] <= errors["none"]
    # Each layer is fitted before its activation, so the last digits at the output are not promised.
    assert errors["sequential"] <= 1.01 * errors["lstsq"]
    assert errors["joint"] <= 1.01 * errors["sequential"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["conv_chain", "swiglu", "nhwc", "shared_zero_bias"])
def test_the_graph_stays_the_graph(name: str, method: str) -> None:
    net = Net.named(name, samples=32)
    plain = slimmed(net, net.plan(KEPT[name]))
    repaired = net.compensated(KEPT[name], method)
    assert structure.first_difference(plain, repaired) is None
    for value in repaired.graph.initializers.values():
        assert value.const_value is not None
        if value.const_value.dtype.is_floating_point():
            assert value.const_value.dtype == ir.DataType.FLOAT
            assert np.isfinite(value.const_value.numpy()).all()
    same = all(np.array_equal(run(plain, net.feeds)[n], run(repaired, net.feeds)[n]) for n in net.outputs)
    assert same == (method == "none" or (method == "bias" and name == "swiglu"))


def test_a_bias_is_added_where_a_convolution_has_none_and_shared_ones_are_parted() -> None:
    net = Net.named("shared_zero_bias", samples=32)
    slim = net.compensated(KEPT["shared_zero_bias"], "lstsq")
    biases = [parameter(slim, "Conv", number, 2) for number in range(4)]
    np.testing.assert_array_equal(biases[0], np.zeros(3))
    np.testing.assert_array_equal(biases[2], np.zeros(3))
    assert np.abs(biases[1]).min() > 0
    assert np.abs(biases[3]).min() > 0
    assert not np.array_equal(biases[1], biases[3])
    bare = Net.named("prelu", samples=32)
    assert all(len(node.inputs) == 2 for node in bare.model.graph if node.op_type == "Conv")
    fitted = bare.compensated({"w0": (0, 1, 4)}, "lstsq")
    assert [len(node.inputs) for node in fitted.graph if node.op_type == "Conv"] == [2, 3, 2]


def test_an_output_that_others_read_keeps_its_meaning() -> None:
    """Where a branch leaves the graph on its own, it is fitted to itself, not to the sum that it also joins."""
    net = Net.of(
        """
        g (float[N,4,6] x) => (float[N,4,6] y, float[N,4,6] branch)
        <float[6,10] w0, float[10] b0, float[10,6] w1, float[6] b1, float[6,10] w2, float[10] b2, float[10,6] w3,
         float[6] b3> {
          m0 = MatMul(x, w0)
          a0 = Add(m0, b0)
          r0 = Relu(a0)
          m1 = MatMul(r0, w1)
          a1 = Add(m1, b1)
          s1 = Add(x, a1)
          m2 = MatMul(s1, w2)
          a2 = Add(m2, b2)
          r2 = Relu(a2)
          m3 = MatMul(r2, w3)
          branch = Add(m3, b3)
          y = Add(s1, branch)
        }""",
        samples=200,
    )
    kept = {"w0": (0, 1, 2, 5, 7, 8), "w2": (0, 2, 3, 4, 6, 8)}
    errors = {method: net.error(net.compensated(kept, method), "branch") for method in ("none", "lstsq", "sequential")}
    assert errors["sequential"] <= errors["lstsq"] <= errors["none"]


class TestWhatItAsksFor:
    def test_an_unknown_method(self) -> None:
        net = Net.named("conv_chain")
        with pytest.raises(
            ir.passes.PreconditionError, match="'magic' is none of none, bias, scalar, lstsq, sequential, joint"
        ):
            Compensate(net.model, net.groups, Plan(), "magic")(net.model.clone())

    def test_inputs_for_sequential(self) -> None:
        net = Net.named("conv_chain")
        with pytest.raises(ir.passes.PreconditionError, match="needs calibration inputs"):
            Compensate(net.model, net.groups, Plan(), "sequential")(net.model.clone())

    def test_it_says_whether_it_changed_anything(self) -> None:
        net = Net.named("conv_chain", samples=32)
        plan = net.plan(KEPT["conv_chain"])
        for method in METHODS:
            change = Compensate(
                net.model, net.groups, plan, method, batches=net.batches, moments=net.all_moments(), threads=1
            )
            assert change(slimmed(net, plan)).modified == (method != "none")
        nothing = Compensate(net.model, net.groups, Plan(), "lstsq", moments=net.all_moments())
        assert not nothing(net.model.clone()).modified

    def test_consumers_without_moments_are_left_alone(self) -> None:
        net = Net.named("conv_chain", samples=32)
        plan = net.plan(KEPT["conv_chain"])
        slim = slimmed(net, plan)
        assert not Compensate(net.model, net.groups, plan, "lstsq")(slim).modified
        some = {net.consumers["w1"]: net.moments("w1")}
        assert Compensate(net.model, net.groups, plan, "lstsq", moments=some)(slim).modified
        np.testing.assert_array_equal(parameter(slim, "Gemm", 0, 2), parameter(net.model, "Gemm", 0, 2))
        assert not np.array_equal(parameter(slim, "Conv", 1, 2), parameter(net.model, "Conv", 1, 2)[[0, 2, 3, 5]])

    def test_the_dense_model_is_not_touched(self) -> None:
        net = Net.named("conv_chain", samples=32)
        before = ir.to_proto(net.model).SerializeToString(deterministic=True)
        for method in METHODS:
            net.compensated(KEPT["conv_chain"], method)
        assert ir.to_proto(net.model).SerializeToString(deterministic=True) == before


def test_what_it_hands_on_is_what_a_repair_takes_by_name() -> None:
    taken = inspect.signature(compensate, eval_str=True).parameters.values()
    assert get_type_hints(Given) == {p.name: p.annotation for p in taken if p.kind is p.KEYWORD_ONLY}
