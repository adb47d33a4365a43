"""Pictures as a network wants them: the convention that its batch norms remember, its layout, its type."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper

from modhifi_graph.dialects.onnx import lift
from modhifi_graph.inputs.synthesis import matching, pictures
from modhifi_graph.inputs.synthesis.breeding import information
from modhifi_graph.inputs.synthesis.dead_leaves import photographs
from modhifi_graph.inputs.synthesis.frame import Frame, framed
from modhifi_graph.inputs.synthesis.normalisations import BYTES, IMAGENET, SIGNED, UNIT, Normalisation, conventions
from modhifi_graph.inputs.synthesis.subject import Subject

from ...oracles import small

NET = """
g (float[N,3,16,16] x) => (float[N,5] y)
<float[8,3,3,3] w, float[8] gain, float[8] bias, float[8] mean, float[8] variance, float[8,5] head>
{
  c = Conv <pads = [1,1,1,1]> (x, w)
  n = BatchNormalization(c, gain, bias, mean, variance)
  r = Relu(n)
  p = GlobalAveragePool(r)
  f = Flatten(p)
  y = MatMul(f, head)
}
"""


def trained(normalisation: Normalisation) -> onnx.ModelProto:
    """A network whose norm has the moments of pictures normalised so, which it was not built from."""
    model = small.build(NET)
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    x = torch.from_numpy(normalisation(photographs(400, 16, 16, 3, np.random.default_rng(99))))
    w = torch.from_numpy(numpy_helper.to_array(held["w"]).copy())
    c = torch.nn.functional.conv2d(x, w, padding=1)
    for name, value in (("mean", c.mean((0, 2, 3))), ("variance", c.var((0, 2, 3)))):
        held[name].CopyFrom(numpy_helper.from_array(value.numpy(), name))
    head = 40 * numpy_helper.to_array(held["head"])
    held["head"].CopyFrom(numpy_helper.from_array(head, "head"))
    return model


def subject(model: onnx.ModelProto) -> Subject:
    return Subject(lift(ir.from_proto(model)), "toy.onnx", 1, torch.device("cpu"))


def made(it: Subject, samples: int, seed: int = 0) -> tuple[np.ndarray, str, Frame]:
    frame = framed(it, samples, seed)
    return *pictures.made(it, frame, lambda stage, done, total: None), frame


@pytest.mark.parametrize("normalisation", [IMAGENET, SIGNED, UNIT, BYTES])
def test_the_normalisation_is_the_one_that_norms_remember(normalisation: Normalisation) -> None:
    it = subject(trained(normalisation))
    found, what, frame = made(it, 60)
    assert f"normalised to {normalisation.name}, as its batch norms remember" in what
    # The channels of pictures average a half in [0, 1].
    expected = normalisation(np.full((1, 3, 1, 1), 0.5, np.float32)).reshape(3)
    spread = float(np.mean([1 / s for s in normalisation.std]))
    np.testing.assert_allclose(found.mean((0, 2, 3)), expected, atol=0.12 * spread)
    near = matching.discrepancy(it.norms, it.moments(frame.with_lead(found)))
    noise = np.random.default_rng(0).standard_normal(found.shape).astype(np.float32)
    assert near < 0.05 < matching.discrepancy(it.norms, it.moments(frame.with_lead(noise)))


def test_breeding_and_choosing_improve_on_what_was_painted() -> None:
    it = subject(trained(IMAGENET))
    found, what, frame = made(it, 80)
    assert "bred for 6 generations to look like every class" in what
    assert "chosen to match its 1 batch norms" in what
    painted = frame.with_lead(IMAGENET(photographs(80, 16, 16, 3, np.random.default_rng(0))))
    p, q = it.probabilities(painted), it.probabilities(frame.with_lead(found))
    assert information(q) > information(p)
    assert np.bincount(q.argmax(1), minlength=5).max() <= max(24, np.bincount(p.argmax(1), minlength=5).max() - 5)
    again, _, _ = made(it, 80)
    assert again.tobytes() == found.tobytes()
    other, _, _ = made(it, 80, seed=1)
    assert other.tobytes() != found.tobytes()


def test_channels_last_and_bytes() -> None:
    it = subject(
        small.build(
            """
            g (uint8[4,20,24,3] x) => (float[4,3] y)
            <float[3,3] w>
            { f = Cast <to = 1> (x)  m = ReduceMean <axes = [1, 2], keepdims = 0> (f)  y = MatMul(m, w) }
            """
        )
    )
    found, what, _ = made(it, 10)
    assert (found.shape, found.dtype) == ((12, 20, 24, 3), np.uint8)
    assert "pixels of 0 to 255" in what
    assert found.min() < 30
    assert found.max() > 225
    brightness = found.astype(float).mean(3)
    across = np.abs(np.diff(brightness, axis=2)).mean()
    assert across < 0.5 * brightness.std(), "neighbours are alike: axes are where they belong"


def test_without_classes_or_norms_the_most_common_convention() -> None:
    it = subject(small.build("g (float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Relu(x) }"))
    found, what, _ = made(it, 10)
    assert found.shape == (10, 3, 8, 8)
    assert what == (
        "10 pictures of overlapping textured shapes, normalised to ImageNet's mean and deviation, the most common convention"
    )


def test_breeding_is_left_out_where_it_would_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    it = subject(trained(UNIT))
    monkeypatch.setattr(pictures, "WORK", it.work * 90 * 2.5)
    assert "bred for 2 generations" in made(it, 60)[1]
    monkeypatch.setattr(pictures, "WORK", it.work * 10)
    assert "bred" not in made(it, 60)[1]


def test_conventions_by_channels() -> None:
    assert next(n.name for n in conventions(1)) == "[0, 1]"
    x = np.full((2, 3, 1, 1), 0.5, np.float32)
    np.testing.assert_allclose(IMAGENET(x)[0].ravel(), [0.0655, 0.1964, 0.4178], atol=1e-4)
    np.testing.assert_allclose(SIGNED(x), 0)
    np.testing.assert_allclose(BYTES(x), 127.5)
