"""Pieces: all of the graph, in order, and each the same computation as in the whole."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modhifi_graph.dialects.onnx import Lifted, lift
from modhifi_graph.exporters.onnxruntime import Engine
from modhifi_graph.latency.pieces import model_of, pieces, signature
from modhifi_graph.passes.normal_form import normalise

from ..oracles import small

BLOCK = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,4,6,6] x) => (float[N,4,6,6] y)
    <float[8,4,3,3] w0, float[8] b0, float[4,8,3,3] w1, float[4] b1, float[4,4,1,1] w2> {
      c0 = Conv<pads = [1,1,1,1]>(x, w0, b0)
      s = Sigmoid(c0)
      m = Mul(c0, s)
      c1 = Conv<pads = [1,1,1,1]>(m, w1, b1)
      d = Conv(x, w2)
      t = Add(c1, d)
      y = Relu(t)
    }"""


def lifted(model: onnx.ModelProto) -> Lifted:
    return lift(normalise(ir.from_proto(model), "graph"))


def test_activations_and_the_shortcut_go_with_the_layer_before_them() -> None:
    found = pieces(lifted(small.build(BLOCK)).graph)
    assert [[op.kind for op in piece.ops] for piece in found] == [
        ["Conv", "Sigmoid", "Mul"],
        ["Conv"],
        ["Conv", "Add", "Relu"],
    ]
    assert [piece.name for piece in found] == ["c0", "c1", "d"]
    assert [[v.name for v in piece.inputs] for piece in found] == [["x"], ["m"], ["x", "c1"]]
    assert [[v.name for v in piece.outputs] for piece in found] == [["m"], ["c1"], ["y"]]


@pytest.mark.parametrize("name", sorted(set(small.SMALL) - {"custom_op"}))  # nothing here can run that
def test_they_are_the_whole_graph_and_compute_what_it_does(name: str) -> None:
    model = small.SMALL[name]()
    whole = lifted(model)
    found = pieces(whole.graph)
    assert sorted(str(op) for piece in found for op in piece.ops) == sorted(map(str, whole.graph.ops))
    known = set(whole.graph.inputs)
    for piece in found:
        assert {v for v in piece.inputs if not v.is_constant} <= known
        known |= {v for op in piece.ops for v in op.outputs}
    names = list(dict.fromkeys(v.name for piece in found for v in (*piece.inputs, *piece.outputs)))
    values = {key: array.numpy() for key, array in whole.runner(names, 1)(small.samples(model, 0, 3)).items()}
    for piece in found:
        alone = model_of(piece, whole, values)
        got = Engine.compile(alone, threads=1).run({v.name: values[v.name] for v in piece.inputs})
        assert list(got) == [v.name for v in piece.outputs]
        for key, array in got.items():
            np.testing.assert_allclose(array, values[key], atol=1e-4, rtol=1e-4)


class TestSignature:
    def of(self, text: str, samples: int = 2) -> list[str]:
        model = small.build(text)
        whole = lifted(model)
        found = pieces(whole.graph)
        names = list(dict.fromkeys(v.name for piece in found for v in piece.inputs))
        values = {key: array.numpy() for key, array in whole.runner(names, 1)(small.samples(model, 0, samples)).items()}
        return [signature(model_of(piece, whole, values)) for piece in found]

    def test_names_and_weights_make_no_difference(self) -> None:
        renamed = BLOCK.replace("c0", "hello").replace("w1", "v").replace("t =", "q =").replace("(t)", "(q)")
        assert self.of(BLOCK) == self.of(renamed)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("<pads = [1,1,1,1]>(m", "<pads = [0,1,2,1]>(m"),
            ("float[8,4,3,3] w0, float[8] b0, float[4,8,3,3] w1", "float[6,4,3,3] w0, float[6] b0, float[4,6,3,3] w1"),
            ("Sigmoid", "Tanh"),
            ("Add(c1, d)", "Mul(c1, d)"),
        ],
    )
    def test_all_else_does(self, old: str, new: str) -> None:
        assert self.of(BLOCK) != self.of(BLOCK.replace(old, new))

    def test_so_does_the_batch(self) -> None:
        assert not set(self.of(BLOCK, 2)) & set(self.of(BLOCK, 3))
