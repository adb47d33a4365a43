"""TensorRT: what is refused without its library, and, where that and a GPU are, that it computes what the graph says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import modhifi_graph
from modhifi_graph import InputError, samples
from modhifi_graph.exporters import onnxruntime, tensorrt
from modhifi_graph.exporters.precision import converted
from modhifi_graph.exporters.tensorrt_graph import Range

from ..oracles import small

REASON = tensorrt.available()
needs_tensorrt = pytest.mark.skipif(REASON is not None, reason=str(REASON))

BOUNDS = {"fp32": 1e-5, "fp16": 3e-3, "int8": 0.06}
"""Errors relative to the spread of the outputs."""


class TestRefused:
    @pytest.mark.parametrize("device", ["cpu", "tpu", "cuda:one"])
    def test_other_devices(self, device: str, tmp_path: Path) -> None:
        message = f"TensorRT runs on cuda, not on {device}; give cuda:0 as the device"
        with pytest.raises(InputError, match=message):
            tensorrt.build(small.SMALL["conv_chain"](), device=device)
        with pytest.raises(InputError, match=message):
            tensorrt.load(tmp_path / "e.engine", device=device)

    def test_threads(self) -> None:
        with pytest.raises(InputError, match="threads is -1"):
            tensorrt.build(small.SMALL["conv_chain"](), threads=-1, device="cuda:0")

    @pytest.mark.skipif(REASON is None, reason="TensorRT can be used here")
    def test_where_there_is_none(self) -> None:
        assert REASON is not None
        with pytest.raises(InputError) as caught:
            tensorrt.build(small.SMALL["conv_chain"](), device="cuda:0")
        assert str(caught.value) == f"<model in memory>: cannot be compiled: {REASON}"
        with pytest.raises(InputError) as caught:
            modhifi_graph.bench("sample:digits-cnn", backend="tensorrt", device="cuda:0")
        assert str(caught.value) == f"backend tensorrt: {REASON}"


@needs_tensorrt
@pytest.mark.parametrize("precision", list(BOUNDS))
def test_it_computes_what_the_graph_says(precision: str) -> None:
    model = small.SMALL["conv_chain"]()
    batches = [small.samples(model, seed, 8) for seed in range(8)]
    engine = tensorrt.build(converted(model, precision, batches, symmetric=True), device="cuda:0")
    assert engine.describe()["precision"] == precision
    plain = onnxruntime.Engine.compile(model, optimise=False)
    for seed in range(4):  # at once, while it is captured, and from the graph
        feeds = small.samples(model, seed, 8)
        for name, array in plain.run(feeds).items():
            found = engine.run(feeds)[name]
            error = np.sqrt(np.mean((found - array) ** 2) / np.var(array))
            assert error <= BOUNDS[precision]


@needs_tensorrt
def test_shapes_change_between_runs() -> None:
    model = small.SMALL["attention_separate"]()
    engine = tensorrt.build(model, device="cuda:0")
    plain = onnxruntime.Engine.compile(model, optimise=False)
    for batch in (1, 1, 1, 5, 5, 5, 1):
        feeds = small.samples(model, batch, batch)
        expected = plain.run(feeds)
        for name, array in engine.run(feeds).items():
            assert array.shape == expected[name].shape
            np.testing.assert_allclose(array, expected[name], atol=1e-5 * max(1.0, float(np.abs(array).max())))


@needs_tensorrt
def test_lengths_that_were_asked_for() -> None:
    model = small.SMALL["conv_chain"]()
    (name, feeds), *_ = small.samples(model, 0, 4).items()
    shape = feeds.shape[1:]
    lengths = {name: Range((2, *shape), (4, *shape), (4, *shape))}
    engine = tensorrt.build(model, device="cuda:0", shapes=lengths)
    assert engine.profile == lengths
    assert len(next(iter(engine.run({name: feeds}).values()))) == 4
    with pytest.raises(InputError, match="compiled for float32 from"):
        engine.run({name: feeds[:1]})


@needs_tensorrt
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_sample_keeps_its_accuracy(precision: str, tmp_path: Path) -> None:
    sample = samples.load("digits-cnn")
    compiled = modhifi_graph.compile_model(
        "sample:digits-cnn", backend="tensorrt", precision=precision, device="cuda:0"
    )
    compiled.save(tmp_path / "e.engine")
    engine = modhifi_graph.load_engine(tmp_path / "e.engine", backend="tensorrt", device="cuda:0")
    assert engine.describe() == compiled.describe()
    right = 0
    for start in range(0, len(sample.test), 50):
        (scores,) = engine.run({engine.inputs[0].name: sample.test[start : start + 50]}).values()
        right += int(np.sum(scores.argmax(1) == sample.labels[start : start + 50]))
    assert right / len(sample.labels) > 0.98
