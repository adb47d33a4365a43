"""Fitting through ReLU and Clip: the loss it claims to lower, and where it comes to rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modhifi_graph.repair import clipped
from modhifi_graph.repair.clipped import Sample, refine
from modhifi_graph.repair.regression import Regression

BOUNDS = [(0.0, np.inf), (0.0, 6.0), (-1.0, 1.0)]


class Problem:
    """Inputs, a stream that is added, and targets that no affine map reaches."""

    def __init__(self, low: float, high: float, stream: bool = True, parts: int = 2) -> None:
        random = np.random.default_rng(0)
        self.low, self.high = low, high
        mix = random.standard_normal((parts, 5, 5))
        self.x = (random.standard_normal((parts, 600, 5)) @ mix + 1).astype(np.float32)
        self.stream = random.standard_normal((parts, 600, 3)).astype(np.float32) if stream else None
        y = self.x @ random.standard_normal((parts, 5, 3)) + random.standard_normal((parts, 600, 3)) / 3
        self.target = np.where(y < low, 2 * y, y).astype(np.float32)  # what the activation hides is bent
        self.old = random.standard_normal((parts, 3, 5))

    def fit(self, ridge: float = 0.0, intercept: bool = True) -> tuple[np.ndarray, np.ndarray]:
        added = 0 if self.stream is None else self.stream
        regression = Regression.of(torch.from_numpy(self.x), torch.from_numpy(self.target - added))
        old = torch.from_numpy(self.old)
        weight, bias = regression.solve(old, ridge, intercept)
        sample = Sample(self.low, self.high, 1)
        stream = None if self.stream is None else torch.from_numpy(self.stream)
        sample.add(torch.from_numpy(self.x), torch.from_numpy(self.target), stream)
        weight, bias = refine(sample, regression, old, weight, bias, ridge, intercept)
        return weight.numpy(), bias.numpy()

    def output(self, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        z = self.x.astype(np.float64) @ weight.transpose(0, 2, 1) + bias[:, None]
        return z if self.stream is None else z + self.stream

    def residual(self, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """What is still wrong, (G, rows, o): nothing where target and output lie beyond the same bound."""
        z = self.output(weight, bias)
        below, above = self.target <= self.low, self.target >= self.high
        wrong = np.clip(self.target, self.low, self.high) - z
        return np.where(below, np.minimum(wrong, 0), np.where(above, np.maximum(wrong, 0), wrong))

    def loss(self, weight: np.ndarray, bias: np.ndarray) -> float:
        return float(np.mean(self.residual(weight, bias) ** 2))

    def passed(self, weight: np.ndarray, bias: np.ndarray) -> float:
        """The squared error after the activation."""
        z = self.output(weight, bias)
        return float(np.mean((np.clip(self.target, self.low, self.high) - np.clip(z, self.low, self.high)) ** 2))


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("stream", [True, False])
class TestSweeps:
    def test_every_sweep_lowers_the_loss(
        self, bounds: tuple[float, float], stream: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        problem, default = Problem(*bounds, stream), clipped.SWEEPS
        losses, passed = [], []
        for sweeps in range(default + 3):
            monkeypatch.setattr(clipped, "SWEEPS", sweeps)
            losses.append(problem.loss(*problem.fit()))
            passed.append(problem.passed(*problem.fit()))
        assert losses == sorted(losses, reverse=True)
        assert losses[default] < 0.95 * losses[0]
        assert passed[default] < 0.95 * passed[0], "the bound on it is not too loose to help"
        assert losses[0] - losses[default] > 0.8 * (losses[0] - losses[-1]), "the default is most of the way"

    @pytest.mark.parametrize("intercept", [True, False])
    def test_it_comes_to_rest_where_the_gradient_vanishes(
        self, bounds: tuple[float, float], stream: bool, intercept: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(clipped, "SWEEPS", 1000)
        problem, ridge = Problem(*bounds, stream), 1e-2
        weight, bias = problem.fit(ridge, intercept)
        residual = problem.residual(weight, bias)
        x = problem.x.astype(np.float64)
        spread = x - x.mean(1, keepdims=True) if intercept else x
        shrink = ridge * (spread**2).mean((1, 2))
        gradient = np.einsum("gro,grp->gop", residual, x) / x.shape[1] - shrink[:, None, None] * (weight - problem.old)
        np.testing.assert_allclose(gradient, 0, atol=2e-4)
        if intercept:
            np.testing.assert_allclose(residual.mean(1), 0, atol=2e-4)
        else:
            assert np.all(bias == 0)


def test_targets_within_the_bounds_are_plain_least_squares() -> None:
    problem = Problem(-1e6, 1e6)
    found = problem.fit()
    x, residual = problem.x.astype(np.float64), problem.residual(*found)
    np.testing.assert_allclose(np.einsum("gro,grp->gop", residual, x) / x.shape[1], 0, atol=1e-4)


def test_only_a_share_of_the_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, target, stream = torch.arange(400.0).reshape(1, 100, 4), torch.zeros(1, 100, 2), torch.ones(1, 100, 2)
    sample = Sample(0.0, np.inf, batches=2)
    monkeypatch.setattr(clipped, "SAMPLE_BYTES", 2 * 4 * 100 * 8)  # all of both batches
    sample.add(rows, target, stream)
    monkeypatch.setattr(clipped, "SAMPLE_BYTES", 2 * 4 * 100 * 3)  # three eighths: every third row
    sample.add(rows, target, stream)
    assert [len(t[0]) for t in (*sample.x, *sample.target, *sample.stream)] == [100, 34] * 3
    assert sample.x[1][0, :, 0].tolist() == list(range(0, 400, 12))
