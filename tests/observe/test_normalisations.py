"""What normalisations divide by, against numpy."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from modhifi_graph.dialects.onnx import lift
from modhifi_graph.frontends.torch import TorchFrontEnd
from modhifi_graph.jobs.calibrate import calibrated
from modhifi_graph.observe.normalisations import NormInput, norm_inputs
from modhifi_graph.options.request import Options
from modhifi_graph.passes.normal_form import normalise
from modhifi_graph.select.budget import Keep

from ..oracles import small
from ..oracles.layers import Net


def only(net: Net) -> NormInput:
    (found,) = norm_inputs(net.program, net.batches, threads=1)
    return found


def check(found: NormInput, kind: str, norms: np.ndarray, gamma: np.ndarray) -> None:
    assert found.kind == kind
    assert found.smallest == pytest.approx(norms.min(), rel=1e-5)
    assert found.gamma == pytest.approx(np.abs(gamma).max())
    assert found.lipschitz == pytest.approx(np.abs(gamma).max() / norms.min(), rel=1e-5)


def test_layer_norm() -> None:
    net = Net.of("""
        g (float[N,3,6] x) => (float[N,3,6] y) <float[6] s, float[6] b> {
          y = LayerNormalization<axis = -1, epsilon = 0.01>(x, s, b)
        }""")
    norms = np.sqrt(net.feeds["x"].astype(np.float64).var(-1) + 0.01)
    check(only(net), "LayerNormalization", norms, net.model.graph.initializers["s"].const_value.numpy())


def test_group_norm() -> None:
    module = torch.nn.Sequential(torch.nn.GroupNorm(2, 6, eps=1e-4))
    x = torch.randn(8, 6, 4, generator=torch.Generator().manual_seed(0))
    options = Options(budget=Keep(1.0), plan=None)
    front = TorchFrontEnd(module, x, options)
    data = calibrated(front, None, options)
    assert data is not None
    (found,) = norm_inputs(front.program, data.feeds)
    norms = np.sqrt(x.double().numpy().reshape(8, 2, 12).var(-1) + 1e-4)
    check(found, "GroupNormalization", norms, np.ones(6))


@pytest.mark.parametrize(
    ("square", "divide"),
    [
        ("q = Pow(x, two)", "r = Reciprocal(d)\n          z = Mul(x, r)"),
        ("q = Mul(x, x)", "z = Div(x, d)"),
    ],
)
def test_a_root_mean_square_that_is_spelt_out(square: str, divide: str) -> None:
    net = Net.of(f"""
        g (float[N,3,6] x) => (float[N,3,6] y)
        <float[6] s = {{1.0, -3.0, 0.5, 1.0, 2.0, 1.0}}, float two = {{2.0}}, float eps = {{0.05}}> {{
          {square}
          m = ReduceMean<axes = [-1]>(q)
          e = Add(m, eps)
          d = Sqrt(e)
          {divide}
          y = Mul(z, s)
        }}""")
    norms = np.sqrt((net.feeds["x"].astype(np.float64) ** 2).mean(-1) + 0.05)
    check(only(net), "RMSNormalization", norms, np.array([3.0]))


def test_means_that_divide_nothing_are_left_alone() -> None:
    net = Net.of("""
        g (float[N,3,6] x) => (float[N,3,1] y) {
          q = Mul(x, x)
          y = ReduceMean<axes = [-1]>(q)
        }""")
    assert norm_inputs(net.program, net.batches, threads=1) == []


def test_a_batch_norm_divides_by_constants() -> None:
    proto = small.build("""
        g (float[N,3,4] x) => (float[N,3,4] y)
        <float[3] s = {1.0, -2.0, 4.0}, float[3] b, float[3] m, float[3] v = {0.25, 4.0, 1.0}> {
          y = BatchNormalization<epsilon = 0.0>(x, s, b, m, v)
        }""")
    program = lift(normalise(ir.from_proto(proto), "model", fold_batchnorm=False))
    (found,) = norm_inputs(program, [], threads=1)
    assert (found.smallest, found.gamma, found.lipschitz) == (0.5, 4.0, 4.0)
