"""From a model to an engine, and back from its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import modhifi_graph
from modhifi_graph import InputError, samples
from modhifi_graph.exporters import onnxruntime

from ..oracles import small


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(small.SMALL["conv_chain"](), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_sample_keeps_its_accuracy(backend: str, precision: str, tmp_path: Path) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    sample = samples.load("digits-cnn")
    engine = modhifi_graph.compile_model("sample:digits-cnn", backend=backend, precision=precision, threads=1)
    assert engine.describe()["precision"] == precision
    name = tmp_path / ("e.onnx" if backend == "onnxruntime" else "e.blob")
    engine.save(name)
    loaded = modhifi_graph.load_engine(name, backend=backend, threads=1)
    (scores,) = loaded.run({loaded.inputs[0].name: sample.test}).values()
    assert np.mean(scores.argmax(1) == sample.labels) > 0.98


def test_integers_are_as_the_backend_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT's kind of integers, in ONNX Runtime, which has both."""
    monkeypatch.setattr(onnxruntime, "SYMMETRIC", True)
    sample = samples.load("digits-cnn")
    engine = modhifi_graph.compile_model("sample:digits-cnn", precision="int8", threads=1)
    assert engine.describe()["precision"] == "int8"
    kinds = {tensor.data_type for tensor in onnx.load_model_from_string(engine._source).graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    assert not kinds & {onnx.TensorProto.UINT8, onnx.TensorProto.INT32}
    (scores,) = engine.run({engine.inputs[0].name: sample.test}).values()
    assert np.mean(scores.argmax(1) == sample.labels) > 0.98


def test_a_file_with_its_inputs(path: Path, tmp_path: Path) -> None:
    model = onnx.load(path)
    np.savez(tmp_path / "calib.npz", **small.samples(model, 0, 20))
    engine = modhifi_graph.compile_model(path, tmp_path / "calib.npz", precision="int8", samples=16)
    assert engine.describe()["precision"] == "int8"


def test_integers_need_inputs(path: Path) -> None:
    with pytest.raises(InputError, match=r"m\.onnx: int8 needs calibration inputs: give --calib"):
        modhifi_graph.compile_model(path, precision="int8")
