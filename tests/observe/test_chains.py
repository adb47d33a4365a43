"""Which layers follow one another with nothing between them but activations."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.observe.chains import chains
from modhifi_graph.observe.sites import sites
from modhifi_graph.passes.normal_form import normalise

from ..oracles import small
from ..oracles.chains import BROADCAST, CONVOLUTIONS, GATED, INTERLEAVED, MIXER, MLP, STACKS, TRANSFORMER, TURNED

READ_TWICE = """
    g (float[N,6] x) => (float[N,5] y, float[N,5] z)
    <float[6,8] w0, float[8,5] w1, float[8,5] w2> {
      a = MatMul(x, w0)
      r = Relu(a)
      y = MatMul(r, w1)
      z = MatMul(r, w2)
    }"""

SHOWN = """
    g (float[N,6] x) => (float[N,5] y, float[N,8] r)
    <float[6,8] w0, float[8,5] w1> {
      a = MatMul(x, w0)
      r = Relu(a)
      y = MatMul(r, w1)
    }"""

RESIDUAL = """
    g (float[N,6] x) => (float[N,5] y)
    <float[6,6] w0, float[6,8] w1, float[8,6] w2, float[6,5] w3> {
      s = MatMul(x, w0)
      a = MatMul(s, w1)
      r = Relu(a)
      b = MatMul(r, w2)
      t = Add(s, b)
      u = Relu(t)
      y = MatMul(u, w3)
    }"""


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (MLP, ["w0 w1 w2 w3"]),
        (CONVOLUTIONS, ["w0 w1 dw w3"]),
        (TRANSFORMER, ["w0 w1", "w2 w3"]),
        (INTERLEAVED, ["w0 w1 w4", "w2 w3"]),
        (BROADCAST, ["w1 w2"]),
        (GATED, ["w0 w2", "w1 w2"]),
        (READ_TWICE, []),
        (SHOWN, []),
        (RESIDUAL, ["w1 w2"]),
        (STACKS, ["w1 w2 w3"]),  # each matrix reads rows of its own, which a plain one reads and gives all alike
        (MIXER, ["w0 w1"]),  # the last layer mixes places, not channels
        (TURNED, ["w1 w2 w3"]),
    ],
)
def test_chains(graph: str, expected: list[str]) -> None:
    lifted = lift(normalise(ir.from_proto(small.build(graph)), "graph"))
    found = chains(lifted.graph, list(sites(find_groups(couple(lifted.graph)), lifted.graph, {})))
    assert [" ".join(weights(chain.sites)) for chain in found] == expected


def test_a_gate_is_read_from_elsewhere() -> None:
    lifted = lift(normalise(ir.from_proto(small.build(GATED)), "graph"))
    gate, up = chains(lifted.graph, list(sites(find_groups(couple(lifted.graph)), lifted.graph, {})))
    assert [value.name for value in gate.others] == ["u"]
    assert [value.name for value in up.others] == ["g"]


def weights(chain: tuple) -> list[str]:  # type: ignore[type-arg]
    return [site.consumer.op.inputs[site.consumer.contraction.other].name for site in chain]
