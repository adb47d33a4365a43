"""What batch norms remember, and samples that agree with it."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir
import pytest
import torch

from modhifi_graph.dialects.onnx import lift
from modhifi_graph.inputs.synthesis.matching import Remembered, discrepancy, herd, moments, remembered, targets

from ...oracles import small

NORM = """
g (float[N,2,4,4] x) => (float[N,3,4,4] y)
<float[3,2,1,1] w, float[3] gain, float[3] shift, float[3] mean = {1.0, -2.0, 0.5}, float[3] variance = {4.0, 1.0, 0.25}>
{ c = Conv(x, w)  y = BatchNormalization <epsilon = 0.0>(c, gain, shift, mean, variance) }
"""


def test_norms_are_found_with_what_they_remember() -> None:
    (norm,) = remembered(lift(ir.from_proto(small.build(NORM))).graph)
    assert norm.value == "c"
    np.testing.assert_allclose(norm.mean, [1, -2, 0.5])
    np.testing.assert_allclose(norm.deviation, [2, 1, 0.5])


def test_a_graph_without_norms_remembers_nothing() -> None:
    assert remembered(lift(ir.from_proto(small.SMALL["conv_chain"]())).graph) == ()


@pytest.fixture
def norms() -> list[Remembered]:
    return [
        Remembered("a", np.array([1.0, -2.0]), np.array([2.0, 0.5])),
        Remembered("b", np.array([0.0]), np.array([3.0])),
    ]


def test_moments_by_sample(norms: list[Remembered]) -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(5, 2, 3, 4)), random.normal(size=(5, 1))
    found = moments(norms, {"a": torch.from_numpy(a), "b": torch.from_numpy(b)})
    assert found.shape == (5, 6)
    za, zb = (a - np.array([1, -2]).reshape(2, 1, 1)) / np.array([2, 0.5]).reshape(2, 1, 1), b / 3
    expected = np.concatenate([za.mean((2, 3)), (za**2).mean((2, 3)), zb, zb**2], 1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert targets(norms).tolist() == [0, 0, 1, 1, 0, 1]


def test_the_divergence_in_closed_form(norms: list[Remembered]) -> None:
    assert discrepancy(norms, targets(norms)[None]) == pytest.approx(0, abs=1e-9)
    # Mean 0.5 and variance 4 in one channel of three: (4 + 0.25 - 1 - log 4) / 2, over 3.
    found = np.array([[0.5, 0, 4.25, 1, 0, 1]], np.float32)
    assert discrepancy(norms, found) == pytest.approx((3.25 - np.log(4)) / 6, rel=1e-6)
    # It is the moments of all samples together that count, not each one's.
    apart = np.array([[2, 0, 1, 1, 0, 1], [-2, 0, 1, 1, 0, 1]], np.float32)
    assert discrepancy(norms, apart) == pytest.approx(0, abs=1e-9)


def test_the_herd_is_nearer_than_almost_every_other_choice() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(12, 3)).astype(np.float32)
    target = np.float32([0.3, -0.2, 0.1])
    distance = lambda rows: float(np.square(features[list(rows)].mean(0) - target).sum())  # noqa: E731
    chosen = herd(features, target, 4)
    assert len(set(chosen.tolist())) == 4
    every = sorted(distance(rows) for rows in itertools.combinations(range(12), 4))
    assert distance(chosen) <= every[len(every) // 20]
    assert herd(features, features[7], 1).tolist() == [7]
    assert herd(features, target, 12).tolist() == list(range(12))
