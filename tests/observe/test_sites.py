"""Where a slim model can be repaired, and what follows each place."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.observe.sites import Site, sites
from modhifi_graph.passes.normal_form import normalise

from ..oracles import small


@pytest.mark.parametrize(
    ("activation", "constants", "opset", "expected"),
    [
        ("Relu(h)", "", 17, (0.0, np.inf)),
        ("Clip(h, low, high)", ", float low = {0}, float high = {6}", 17, (0.0, 6.0)),
        ("Clip(h, low, high)", ", float[1] low = {0}, float[1] high = {6}", 17, (0.0, 6.0)),
        ('Clip(h, "", high)', ", float high = {1}", 17, (-np.inf, 1.0)),
        ("Clip<min = -1.0, max = 1.0>(h)", "", 9, (-1.0, 1.0)),
        ("Sigmoid(h)", "", 17, None),
        ("LeakyRelu(h)", "", 17, None),
    ],
)
def test_the_bounds_of_what_clips(
    activation: str, constants: str, opset: int, expected: tuple[float, float] | None
) -> None:
    text = f"""<ir_version: 4, opset_import: ["" : {opset}]>
        g (float[N,6] x) => (float[N,5] y) <float[6,4] w0, float[4] b0, float[4,5] w1, float[5] b1{constants}> {{
          h = Gemm(x, w0, b0)
          r = {activation}
          y = Gemm(r, w1, b1)
        }}"""
    lifted = lift(normalise(ir.from_proto(small.build(text)), "graph"))
    first, last = sites(find_groups(couple(lifted.graph)), lifted.graph, {})
    assert first.clip == expected
    assert last.clip is None, "nothing reads it"


def last_site(shortcut: str, constants: str = "") -> Site:
    """The second layer of a branch that is added to a shortcut ``s``, which comes after it in the graph."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,6] x, float[N,5] u) => (float[N,5] y) <float[6,4] w0, float[4,5] w1{constants}> {{
          h = MatMul(x, w0)
          r = Relu(h)
          m = MatMul(r, w1)
          {shortcut}
          y = Add(m, s)
        }}"""
    lifted = lift(normalise(ir.from_proto(small.build(text)), "graph"))
    return next(s for s in sites(find_groups(couple(lifted.graph)), lifted.graph, {}) if s.consumer.y.name == "m")


def test_a_shortcut_may_be_computed_after_the_branch() -> None:
    site = last_site("t = Sigmoid(u)\n s = Neg(t)")
    assert site.stream is not None
    assert site.reads == ["r", "s"]
    assert site.late
    assert site.target.name == "y"


@pytest.mark.parametrize(
    ("shortcut", "constants"),
    [("t = MatMul(u, w2)\n s = Neg(t)", ", float[5,5] w2"), ("t = Sigmoid(m)\n s = Neg(t)", "")],
    ids=["repaired itself", "made of the branch"],
)
def test_a_shortcut_that_the_repair_changes_is_no_stream(shortcut: str, constants: str) -> None:
    site = last_site(shortcut, constants)
    assert site.stream is None
    assert not site.late
