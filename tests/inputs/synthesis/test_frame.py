"""Shapes, counts, and what goes into inputs without structure."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir
import pytest
import torch

from modhifi_graph.dialects.onnx import lift
from modhifi_graph.errors import InputError
from modhifi_graph.inputs.synthesis import frame as module
from modhifi_graph.inputs.synthesis.frame import described, framed
from modhifi_graph.inputs.synthesis.signals import sounds
from modhifi_graph.inputs.synthesis.subject import Subject

from ...oracles import small
from ..test_input_kinds import ENCODER


def subject(text: str) -> Subject:
    return Subject(lift(ir.from_proto(small.build(text))), "toy.onnx", 1, torch.device("cpu"))


def test_inputs_of_an_encoder_go_together() -> None:
    """The model has 16 positions only: the longest length tried that it takes is 12."""
    found = framed(subject(ENCODER.replace("Gather(places, position_ids)", "Gather(places, position_ids)")), None, 0)
    assert (found.lead.spec.name, found.count, found.free) == ("input_ids", 128, 192), "positions wrap around"
    arrays = found.plain().arrays
    assert {name: array.shape for name, array in arrays.items()} == dict.fromkeys(arrays, (128, 192))
    assert (arrays["attention_mask"] == 1).all()
    assert (arrays["token_type_ids"] == 0).all()
    assert arrays["position_ids"][3, :20].tolist() == [*range(16), 0, 1, 2, 3]
    np.testing.assert_allclose(np.bincount(arrays["input_ids"].ravel(), minlength=50) / (128 * 192), 0.02, atol=0.005)
    assert described(found).startswith(
        "128 samples of uniformly random tokens for input_ids (looked up in a table of 50)"
    )
    assert described(found, "text") == (
        "text; ones for attention_mask (a mask by its name), zeros for token_type_ids (segments by its name), "
        "positions 0, 1, 2 and so on for position_ids (positions by its name)"
    )


def test_a_shorter_length_where_the_model_takes_no_more() -> None:
    limited = """
    g (int64[N,T] ids) => (float[N,T,4] y)
    <float[50,4] words, int64[3] shape = {0, 24, 4}>
    { w = Gather(words, ids)  y = Reshape(w, shape) }
    """
    assert framed(subject(limited), None, 0).free == 24


def test_a_batch_that_the_graph_fixes() -> None:
    text = "g (float[8,6] x, float[1,6] c) => (float[8,4] y) <float[6,4] w> { s = Add(x, c)  y = MatMul(s, w) }"
    found = framed(subject(text), 20, 0)
    assert (found.count, found.least) == (24, 8)
    data = found.plain()
    assert (data.arrays["x"].shape, data.arrays["c"].shape, data.samples) == ((24, 6), (1, 6), 24)
    assert [batch["x"].shape for batch in data.batches(100)] == [(8, 6)] * 3


def test_large_samples_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "g (float[N,100] x) => (float[N,4] y) <float[100,4] w> { y = MatMul(x, w) }"
    assert framed(subject(text), None, 0).count == 4096
    monkeypatch.setattr(module, "BYTES", 400 * 30)
    assert framed(subject(text), None, 0).count == 30
    assert framed(subject(text), 50, 0).count == 50, "what was asked for is made"


def test_numbers_are_standard_normal_and_repeat_with_the_seed() -> None:
    text = "g (float[N,100] x, bool[N] b) => (float[N,100] y, bool[N] z) { y = Identity(x)  z = Identity(b) }"
    found = framed(subject(text), None, 0)
    arrays = found.plain().arrays
    assert abs(arrays["x"].mean()) < 0.01
    assert arrays["x"].std() == pytest.approx(1, abs=0.01)
    assert arrays["b"].mean() == pytest.approx(0.5, abs=0.05)
    assert found.plain().arrays["x"].tobytes() == arrays["x"].tobytes()
    assert dataclasses.replace(found, seed=1).plain().arrays["x"].tobytes() != arrays["x"].tobytes()


def test_what_cannot_be_made() -> None:
    text = "g (float[N,T] x) => (float[N,4] y) <float[77,4] w> { y = MatMul(x, w) }"
    with pytest.raises(InputError, match=r"toy.onnx: calibration inputs cannot be synthesised, give --calib: .*MatMul"):
        framed(subject(text), None, 0)
    with pytest.raises(InputError, match="samples is 0; expected 1 or more"):
        framed(subject(ENCODER), 0, 0)
    strings = "g (string[N] x) => (string[N] y) { y = Identity(x) }"
    with pytest.raises(InputError, match="cannot synthesise the input x"):
        framed(subject(strings), None, 0)


def test_sounds_swell_and_lose_power_with_frequency() -> None:
    found = sounds(60, 4000, np.random.default_rng(0))
    assert (found.shape, found.dtype) == ((60, 4000), np.float32)
    peaks = np.abs(found).max(1)
    assert peaks.min() >= 0.09
    assert peaks.max() <= 0.5
    power = (np.abs(np.fft.rfft(found)) ** 2).mean(0)[1:]
    frequency = np.arange(1, len(power) + 1)
    middle = (frequency > 50) & (frequency < 1000)
    assert -2.2 < np.polyfit(np.log(frequency[middle]), np.log(power[middle]), 1)[0] < -0.8
    loud = np.abs(found).reshape(60, 40, 100).mean(2)
    assert (loud.min(1) < 0.05 * loud.max(1)).mean() > 0.9, "there is silence between the bursts"
