"""Graphs prepared for TensorRT, run by ONNX Runtime: they compute what they did."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from modhifi_graph.errors import InputError
from modhifi_graph.exporters.onnxruntime import Engine
from modhifi_graph.exporters.precision import converted
from modhifi_graph.exporters.tensorrt_graph import Range, prepared, ranges

from ..oracles import small

pytest.importorskip("onnx_graphsurgeon")

NO_RUNTIME = {"custom_op": "ONNX Runtime does not have the operator"}


def run(model: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
    return Engine.compile(model, optimise=False).run(feeds)


def parsed(text: str, **constants: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 17]>\n{text}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return model


@pytest.mark.parametrize("name", [name for name in small.SMALL if name not in NO_RUNTIME])
def test_every_small_model_gives_the_same_numbers(name: str) -> None:
    model = small.SMALL[name]()
    before = model.SerializeToString()
    found = prepared(model)
    onnx.checker.check_model(found)
    assert model.SerializeToString() == before, "the original is not touched"
    feeds = small.samples(model, 0, 3)
    expected = run(model, feeds)
    got = run(found, feeds)
    assert list(got) == list(expected)
    for output, array in expected.items():
        np.testing.assert_array_equal(got[output], array)
    names = [node.name for node in found.graph.node]
    assert all(names) and len(set(names)) == len(names)


def test_constants_are_folded_and_dead_nodes_go() -> None:
    model = parsed(
        """
        g (float[n, 4] x) => (float[n, 3] y) {
          turned = Transpose<perm = [1, 0]>(w)
          same = Identity(turned)
          dead = MatMul(x, same)
          y = MatMul(x, same)
        }""",
        w=np.arange(12, dtype=np.float32).reshape(3, 4),
    )
    found = prepared(model)
    assert [node.op_type for node in found.graph.node] == ["MatMul"]
    (weight,) = found.graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(weight), np.arange(12).reshape(3, 4).T)


def test_what_would_grow_is_not_folded() -> None:
    model = parsed(
        """
        g (float[n] x) => (float[a, b] y) {
          mask = Expand(one, shape)
          y = Add(mask, x)
        }""",
        one=np.ones(1, np.float32),
        shape=np.array([4096, 4096]),
    )
    assert [node.op_type for node in prepared(model).graph.node] == ["Expand", "Add"]


def test_names_are_given_once() -> None:
    model = parsed("g (float[n] x) => (float[n] z) { y = Relu(x)  z = Neg(y) }")
    for node in model.graph.node:
        node.name = "Relu_1"
    assert [node.name for node in prepared(model).graph.node] == ["Relu_1", "Relu_1_1"]


def test_double_becomes_single() -> None:
    least = np.finfo(np.float64).min
    model = parsed(
        """
        g (double[n] x, bool[n] keep) => (double[n] y, float[n] z) {
          kept = Where(keep, x, far)
          part = Cast<to = 11>(z0)
          zero = ConstantOfShape<value = double[1] {0.25}>(one)
          sum = Add(part, zero)
          y = Add(kept, sum)
          z0 = Cast<to = 1>(x)
          z = Neg(z0)
        }""",
        far=np.array(least),
        one=np.array([1]),
    )
    model.graph.node.insert(0, model.graph.node.pop(5))
    feeds = {"x": np.array([1.5, -2.25]), "keep": np.array([True, False])}
    expected = run(model, feeds)
    found = prepared(model)
    got = run(found, {**feeds, "x": feeds["x"].astype(np.float32)})
    assert expected["y"].tolist() == [3.25, least]
    assert got["y"].dtype == np.float32
    assert got["y"].tolist() == [3.25, np.finfo(np.float32).min], "finite still, as far as it goes"
    np.testing.assert_array_equal(got["z"], expected["z"])
    assert {tensor.data_type for tensor in found.graph.initializer} <= {TensorProto.FLOAT, TensorProto.INT64}


class TestQuantised:
    @staticmethod
    def made(symmetric: bool) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        model = small.SMALL["conv_chain"]()
        batches = [small.samples(model, seed, 8) for seed in range(8)]
        return model, converted(model, "int8", batches, symmetric=symmetric)

    def test_symmetric_graphs_run_and_stay_quantised(self) -> None:
        model, quantised = self.made(symmetric=True)
        found = prepared(quantised)
        kinds = [node.op_type for node in quantised.graph.node]
        for kind in ("QuantizeLinear", "DequantizeLinear"):
            assert [node.op_type for node in found.graph.node].count(kind) == kinds.count(kind) > 0
        feeds = small.samples(model, 9, 16)
        expected = run(quantised, feeds)
        for name, array in run(found, feeds).items():
            np.testing.assert_array_equal(array, expected[name])

    def test_biases_in_int32_become_numbers(self) -> None:
        model = parsed(
            "g (float[n, 3] x) => (float[n, 3] y) { b = DequantizeLinear<axis = 0>(whole, scale)  y = Add(x, b) }",
            whole=np.array([3, -4, 5], np.int32),
            scale=np.array([0.5, 0.25, 2], np.float32),
        )
        found = prepared(model)
        assert [node.op_type for node in found.graph.node] == ["Add"]
        assert run(found, {"x": np.zeros((1, 3), np.float32)})["y"].tolist() == [[1.5, -1.0, 10.0]]

    def test_zero_points_are_refused(self) -> None:
        _, quantised = self.made(symmetric=False)
        with pytest.raises(InputError, match=r"m\.onnx: (De)?[qQ]uantizeLinear .* has a zero point"):
            prepared(quantised, "m.onnx")


class TestRanges:
    def test_a_batch(self) -> None:
        model = small.SMALL["conv_chain"]()
        (found,) = ranges(model).values()
        shape = found.best[1:]
        assert found == Range((1, *shape), (1, *shape), (64, *shape))

    def test_fixed_lengths_need_none(self) -> None:
        assert ranges(small.SMALL["static_opset9"]()) == {}

    def test_lengths_reach_as_far_as_the_model_runs(self) -> None:
        free = parsed("g (float[batch, length] x) => (float[batch, length] y) { y = Relu(x) }")
        assert ranges(free)["x"] == Range((1, 1), (1, 8), (64, 512))
        table = parsed(
            """
            g (float[batch, length, 2] x) => (float[batch, length, 2] y) {
              shape = Shape<start = 1, end = 2>(x)
              rows = Slice(table, zero, shape)
              y = Add(x, rows)
            }""",
            table=np.ones((40, 2), np.float32),
            zero=np.array([0]),
        )
        assert ranges(table)["x"] == Range((1, 1, 2), (1, 8, 2), (64, 8, 2)), "512 positions are too many"
        pad = parsed(
            'g (float[batch, length] x) => (float[batch, longer] y) { y = Pad<mode = "reflect">(x, ends) }',
            ends=np.array([0, 20, 0, 20]),
        )
        assert ranges(pad)["x"] == Range((1, 64), (1, 64), (64, 512)), "8 are too few"

    def test_a_length_is_the_same_in_every_input(self) -> None:
        text = "g (float[batch, length] x, float[batch, length] w, float[length] b) => (float[batch, length] y)"
        found = ranges(parsed(text + " { z = Add(x, w)  y = Add(z, b) }"))
        assert found["x"] == found["w"] == Range((1, 1), (1, 8), (64, 512))
        assert found["b"] == Range((1,), (8,), (512,))


def test_a_graph_that_is_none() -> None:
    model = parsed("g (float[n] x) => (float[n] y) { z = Relu(x)  y = Neg(z) }")
    model.graph.node[0].input[0] = "y"
    with pytest.raises(InputError, match=r"m\.onnx: cannot be compiled: is not a valid graph"):
        prepared(model, "m.onnx")


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    prepared(small.SMALL["constant_nodes"]())
    assert capfd.readouterr() == ("", "")
