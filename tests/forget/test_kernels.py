"""The published modes: which kernels go, by scores counted out, and what is done to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.forget.head import find_head, predicted_class
from modhifi_graph.forget.kernels import SCORES, flip, flipped, kernel_scores
from modhifi_graph.observe.sites import sites

from ..oracles.layers import Net

CLASSIFIER = """
    g (float[N,3,6,6] x) => (float[N,4] y)
    <float[6,3,3,3] w0, float[6] b0, float[5,6,3,3] w1, float[5] b1, float[5,4] w2, float[4] b2> {
      c0 = Conv<pads = [1,1,1,1]>(x, w0, b0)
      r0 = Relu(c0)
      c1 = Conv<pads = [1,1,1,1]>(r0, w1, b1)
      r1 = Relu(c1)
      m = GlobalAveragePool(r1)
      f = Flatten(m)
      y = Gemm(f, w2, b2)
    }"""


@pytest.fixture(scope="module")
def net() -> Net:
    return Net.of(CLASSIFIER)


def by_hand(net: Net, weight: str) -> dict[str, np.ndarray]:
    """The scores of each kernel from its contribution on every row, shape (o, components)."""
    consumer = net.consumers[weight]
    x, w = net.rows(weight)[0], consumer.weight()[0].astype(np.float64)
    x = x - x.mean(0)
    parts = np.stack(
        [x[:, k : k + consumer.taps] @ w[:, k : k + consumer.taps].T for k in range(0, len(w.T), consumer.taps)]
    )
    y = parts.sum(0)  # rows, o
    rowsum, energy = (parts * y).mean(1).T, (parts**2).mean(1).T
    total = (y**2).mean(0)[:, None]
    return {
        "rowsum": rowsum,
        "energy": energy,
        "alpha": rowsum / energy,
        "singleton": rowsum**2 / (energy * total),
    }


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(("weight", "group"), [("w1", "w0"), ("w2", "w1")])
def test_scores_are_those_of_contributions(net: Net, weight: str, group: str, score: str) -> None:
    consumer = net.consumers[weight]
    found = kernel_scores(consumer, net.moments(weight), [net.group(group)], score)[0].numpy()
    np.testing.assert_allclose(found, np.repeat(by_hand(net, weight)[score], consumer.taps, 1), rtol=1e-4)


@pytest.mark.parametrize(("fraction", "count"), [(0.01, 1), (0.25, 3), (1.0, 12)])
def test_the_top_fraction_is_changed(fraction: float, count: int) -> None:
    weight = torch.arange(1.0, 13.0).reshape(1, 3, 4).double()
    scores = torch.from_numpy(np.random.default_rng(0).permutation(12).reshape(1, 3, 4)).double()
    for factor in (0.0, -1.0):
        found = flipped(weight, scores, fraction, factor)
        changed = found != weight
        assert int(changed.sum()) == count
        assert scores[changed].min() == 12 - count
        torch.testing.assert_close(found[changed], factor * weight[changed])


def test_what_is_in_no_group_stays() -> None:
    weight, scores = torch.ones(1, 1, 3).double(), torch.tensor([[[0.5, -torch.inf, 0.1]]]).double()
    assert flipped(weight, scores, 1.0, 0.0).tolist() == [[[0.0, 1.0, 0.0]]]


def test_negation_in_place_by_the_fraction_asked_for(net: Net) -> None:
    model = net.model.clone()
    program = lift(model)
    groups = find_groups(couple(program.graph))
    head = find_head(program.graph, list(sites(groups, program.graph, {})))
    assert flip(program, groups, head, net.batches, "negate", fraction=0.5, threads=1) == 0.5
    for name in ("w1", "w2"):
        old = net.model.graph.initializers[name].const_value.numpy()
        new = model.graph.initializers[name].const_value.numpy()
        assert set(np.unique(new / old)) == {-1.0, 1.0}
        assert np.mean(new != old) == pytest.approx(0.5, abs=0.02)
    stem = [m.graph.initializers["w0"].const_value.numpy() for m in (net.model, model)]
    np.testing.assert_array_equal(*stem)


def test_no_more_kernels_than_it_takes(net: Net) -> None:
    scores = torch.from_numpy(net.outputs["y"])
    label = predicted_class(scores)
    chosen = np.flatnonzero(net.outputs["y"].argmax(1) == label)
    batch = [{"x": net.feeds["x"][chosen]}]
    rates = []
    for fraction in (None, None):
        model = net.model.clone()
        program = lift(model)
        groups = find_groups(couple(program.graph))
        head = find_head(program.graph, list(sites(groups, program.graph, {})))
        found = flip(program, groups, head, batch, "zero", fraction=fraction, label=label, threads=1)
        answers = next(iter(program.results(batch, ["y"], 1)))["y"].argmax(1)
        rates.append((found, float((answers == label).double().mean())))
    assert rates[0] == rates[1]
    assert rates[0][0] < 0.5
    assert rates[0][1] <= 0.01
