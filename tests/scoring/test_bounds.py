"""Gains against perturbed networks run by hand."""

from __future__ import annotations

import numpy as np
import pytest

from modhifi_graph.scoring import bounds as module
from modhifi_graph.scoring.bounds import ERRORS, bounds_of

from ..oracles.layers import Net

TWO_LAYERS = """
    g (float[N,6] x) => (float[N,4] y) <float[6,5] w, float[5,4] v> {
      h = MatMul(x, w)
      r = ACTIVATION(h)
      y = MatMul(r, v)
    }"""


def measured(net: Net) -> dict[str, tuple[float, ...]]:
    found = bounds_of(net.program, net.layers, net.all_moments(), net.batches, seed=3, threads=1)
    return {layer.name: layer.gains for layer in found.layers}


@pytest.mark.parametrize("activation", ["Identity", "Relu"])
def test_gains_are_those_of_the_perturbed_network(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLES", 64)
    net = Net.of(TWO_LAYERS.replace("ACTIVATION", activation))
    found = measured(net)
    assert list(found) == ["w", "v"], "in the order of the graph"
    x, y = net.feeds["x"].astype(np.float64), net.outputs["y"]
    weights = {name: c.weight()[0].T.astype(np.float64) for name, c in net.consumers.items()}
    for number, name in enumerate(("w", "v")):
        moments, consumer = net.moments(name), net.consumers[name]
        noise = module._noise(consumer, moments, np.random.default_rng([3, number]))[0].numpy()
        rows = net.rows(name)[0]
        centred = rows - rows.mean(0)
        wrong = centred @ noise.T
        own = centred @ weights[name]
        assert (wrong**2).sum() == pytest.approx((own**2).sum()), "the noise has the energy of the output"
        for error, gain in zip(ERRORS, found[name], strict=True):
            changed = {**weights, name: weights[name] + error * noise.T}
            h = x @ changed["w"] - (rows.mean(0) @ (error * noise.T) if name == "w" else 0)
            h = np.maximum(h, 0) if activation == "Relu" else h
            other = h @ changed["v"] - (rows.mean(0) @ (error * noise.T) if name == "v" else 0)
            assert gain == pytest.approx(np.sqrt(((other - y) ** 2).mean() / y.var()) / error, rel=2e-3)


def test_a_linear_network_has_the_same_gain_at_every_size() -> None:
    for gains in measured(Net.of(TWO_LAYERS.replace("ACTIVATION", "Identity"))).values():
        np.testing.assert_allclose(gains, gains[0], rtol=1e-3)


def test_whole_numbers_have_no_gain() -> None:
    net = Net.of("""
        g (float[N,6] x) => (int64[N] y) <float[6,5] w> {
          h = MatMul(x, w)
          y = ArgMax<axis = 1, keepdims = 0>(h)
        }""")
    assert measured(net) == {}


def test_samples_and_progress() -> None:
    net = Net.of(TWO_LAYERS.replace("ACTIVATION", "Relu"))
    seen: list[tuple[str, int, int]] = []
    found = bounds_of(
        net.program, net.layers, net.all_moments(), net.batches, threads=1, progress=lambda *what: seen.append(what)
    )
    assert found.samples == 32
    assert seen == [("bounds", 1, 2), ("bounds", 2, 2)]
    assert found.to_json()["layers"][0]["gains"] == found.layers[0].gains
