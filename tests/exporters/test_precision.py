"""Graphs in other precisions: what they say, and how near they stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from modhifi_graph.errors import InputError
from modhifi_graph.exporters import backend as backends
from modhifi_graph.exporters.precision import PRECISIONS, converted, precision_of

from ..oracles import small


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return small.SMALL["conv_chain"]()


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 0.0), ("fp16", 2e-3), ("int8", 0.06)])
def test_it_says_so_and_stays_near(model: onnx.ModelProto, precision: str, bound: float) -> None:
    batches = [small.samples(model, seed, 8) for seed in range(8)]
    found = converted(model, precision, batches)
    assert precision_of(found) == precision
    assert precision_of(model) == "fp32", "the original is not touched"
    onnx.checker.check_model(found)
    feeds = small.samples(model, 9, 16)
    chosen = backends.backend("onnxruntime")
    expected, got = (chosen.build(m, threads=1).run(feeds) for m in (model, found))
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        error = np.sqrt(np.mean((got[name] - array) ** 2) / np.mean((array - array.mean()) ** 2))
        assert error <= bound
        assert precision == "fp32" or error > 0


def test_symmetric_integers_are_signed_about_zero(model: onnx.ModelProto) -> None:
    batches = [small.samples(model, seed, 8) for seed in range(8)]
    found = converted(model, "int8", batches, symmetric=True)
    onnx.checker.check_model(found)
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in found.graph.initializer}
    nodes = [node for node in found.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {node.op_type for node in nodes} == {"QuantizeLinear", "DequantizeLinear"}
    for node in nodes:
        assert held[node.input[2]].dtype == np.int8
        assert not held[node.input[2]].any()
    feeds = small.samples(model, 9, 16)
    chosen = backends.backend("onnxruntime")
    expected, got = (chosen.build(m, threads=1).run(feeds) for m in (model, found))
    for name, array in expected.items():
        error = np.sqrt(np.mean((got[name] - array) ** 2) / np.mean((array - array.mean()) ** 2))
        assert 0 < error <= 0.06
    unsigned = converted(model, "int8", batches)
    assert any(numpy_helper.to_array(tensor).dtype == np.uint8 for tensor in unsigned.graph.initializer)


def test_of_a_file(model: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(converted(model, "fp16"), tmp_path / "half.onnx")
    assert precision_of(tmp_path / "half.onnx") == "fp16"
    assert precision_of((tmp_path / "half.onnx").read_bytes()) == "fp16"


class TestRefused:
    def test_a_precision_that_there_is_not(self, model: onnx.ModelProto) -> None:
        with pytest.raises(InputError, match=f"precision 'fp4' is unknown; choose one of {', '.join(PRECISIONS)}"):
            converted(model, "fp4")

    def test_integers_without_inputs(self, model: onnx.ModelProto) -> None:
        with pytest.raises(InputError, match=r"m\.onnx: int8 needs calibration inputs: give --calib"):
            converted(model, "int8", label="m.onnx")

    def test_from_one_to_another(self, model: onnx.ModelProto) -> None:
        with pytest.raises(InputError, match="calculates in fp16 already; int8 is made of a model in fp32"):
            converted(converted(model, "fp16"), "int8", [small.samples(model, 0, 4)])
