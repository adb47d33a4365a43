"""Activations between linear maps: every op of the table against the runtime and against differentiation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest
import torch

from modhifi_graph.dialects.onnx import lift
from modhifi_graph.observe.pointwise import POINTWISE, Region, region
from modhifi_graph.observe.sites import readers_of
from modhifi_graph.passes.normal_form import normalise

from ..oracles import small
from ..oracles.layers import run

BODIES = {
    "Add": "e = Add(h, g)",
    "Clip": "e = Clip(h, low, high)",
    "Div": "p = Div(h, g) q = Div(g, h) e = Add(p, q)",
    "Erf": "e = Erf(h)",
    "Gelu": "e = Gelu(h)",
    "Gelu, by tanh": 'e = Gelu<approximate = "tanh">(h)',
    "HardSigmoid": "e = HardSigmoid<alpha = 0.3, beta = 0.4>(h)",
    "HardSwish": "e = HardSwish(h)",
    "Identity": "e = Identity(h)",
    "LeakyRelu": "e = LeakyRelu<alpha = 0.1>(h)",
    "Mul": "e = Mul(h, h)",
    "Neg": "e = Neg(h)",
    "Relu": "e = Relu(h)",
    "Sigmoid": "e = Sigmoid(h)",
    "Softplus": "e = Softplus(h)",
    "Sub": "p = Sub(h, g) q = Sub(g, h) r = Mul(q, q) e = Sub(r, p)",
    "Swish": "s = Sigmoid(h) e = Mul(s, h)",
    "Tanh": "e = Tanh(h)",
    "GELU in five ops": "a = Div(h, two) b = Erf(a) c = Add(b, one) d = Mul(h, c) e = Mul(d, half)",
    "a gate": "s = Sigmoid(g) e = Mul(h, s)",
}


def between(body: str) -> tuple[Region | None, Mapping[str, np.ndarray]]:
    """The region between h and e, and what the runtime computes for every value."""
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
        g (float[N,6] x) => (float[N,5] y)
        <float[6,4] w0, float[6,4] w1, float[4,5] w2, float low = {{-0.5}}, float high = {{0.7}}, float two = {{1.4142135}},
         float one = {{1}}, float half = {{0.5}}> {{
          h = MatMul(x, w0)
          g = MatMul(x, w1)
          {body}
          y = MatMul(e, w2)
        }}"""
    proto = small.build(text)
    model = normalise(ir.from_proto(proto), "graph")
    graph = lift(model).graph
    values = {value.name: value for value in graph.values()}
    feeds = small.samples(proto, 0, 50)
    made = [v.name for op in graph.ops for v in op.outputs]
    place = {op: i for i, op in enumerate(graph.ops)}
    return region(values["h"], values["e"], readers_of(graph), place), {**feeds, **run(model, feeds, made)}


def test_every_op_of_the_table_has_a_case() -> None:
    assert POINTWISE.keys() <= BODIES.keys()


@pytest.mark.parametrize("name", [name for name in BODIES if name != "Identity"])
def test_value_and_slope(name: str) -> None:
    found, seen = between(BODIES[name])
    assert found is not None
    h = torch.from_numpy(seen["h"])
    others = {value: torch.from_numpy(seen[value.name]) for value in found.others}
    value, slope = found(h, others)
    np.testing.assert_allclose(value, seen["e"], rtol=1e-4, atol=1e-5)
    bent = h.double().requires_grad_()
    again, _ = found(bent, {v: a.double() for v, a in others.items()})
    again.sum().backward()
    assert bent.grad is not None
    np.testing.assert_allclose(slope, bent.grad, rtol=1e-3, atol=0.02 if "tanh" in name else 1e-4)


def test_an_identity_is_what_it_reads() -> None:
    h = torch.randn(3, 4)
    value, slope = POINTWISE["Identity"](None, [(h, torch.ones(3, 4))])  # type: ignore[arg-type]
    assert value is h
    assert slope is not None
    assert torch.equal(slope, torch.ones(3, 4))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("e = Softmax(h)", "positions depend on one another"),
        ("t = ReduceMean<axes = [1]>(h) e = Mul(h, t)", "one path is no activation"),
        ("r = Relu(h) z = MatMul(r, w2) e = Tanh(h)", "somebody else reads it"),
        ("e = Pow(h, two)", "not in the table"),
        ("p = Unsqueeze(h, axes) q = Add(p, g) e = Squeeze(q, axes)", "not in the table"),
    ],
)
def test_what_is_no_region(body: str, why: str) -> None:
    body = body.replace("axes)", "zero)")
    text = f"""<ir_version: 10, opset_import: ["" : 17]>
        g (float[N,4] h, float[N,4] g) => (float[N,4] e, float[N,5] z)
        <float[4,5] w2, float two = {{2}}, int64[1] zero = {{0}}> {{ {body} {"" if "z =" in body else "z = MatMul(g, w2)"} }}"""
    graph = lift(normalise(ir.from_proto(small.build(text)), "graph")).graph
    values = {value.name: value for value in graph.values()}
    place = {op: i for i, op in enumerate(graph.ops)}
    assert region(values["h"], values["e"], readers_of(graph), place) is None, why


def test_what_is_broadcast_is_no_region() -> None:
    text = """g (float[N,1,4] h, float[N,3,4] g) => (float[N,3,4] e) { r = Relu(h) e = Add(r, g) }"""
    graph = lift(normalise(ir.from_proto(small.build(text)), "graph")).graph
    values = {value.name: value for value in graph.values()}
    assert region(values["h"], values["e"], readers_of(graph), {op: i for i, op in enumerate(graph.ops)}) is None
