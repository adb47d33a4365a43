"""Streamed least squares, against numpy.linalg.lstsq on all rows at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modhifi_graph.repair.regression import Regression


def draw(parts: int, rows: int, inputs: int, outputs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs with a mean, and noisy targets."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((parts, rows, inputs)) @ random.standard_normal((parts, inputs, inputs)) + 3
    t = x @ random.standard_normal((parts, inputs, outputs)) + random.standard_normal((parts, rows, outputs)) - 7
    return x, t


def streamed(x: np.ndarray, t: np.ndarray, batches: int = 4) -> Regression:
    first, *rest = zip(np.array_split(x, batches, axis=1), np.array_split(t, batches, axis=1), strict=True)
    fitted = Regression.of(*map(torch.from_numpy, first))
    for more in rest:
        fitted.add(*map(torch.from_numpy, more))
    assert fitted.count == x.shape[1]
    return fitted


def solved(
    x: np.ndarray, t: np.ndarray, weight: np.ndarray, ridge: float, **options: bool
) -> tuple[np.ndarray, np.ndarray]:
    found, bias = streamed(x, t).solve(torch.from_numpy(weight), ridge, **options)
    return found.numpy(), bias.numpy()


@pytest.mark.parametrize("parts", [1, 3])
def test_with_intercept(parts: int) -> None:
    x, t = draw(parts, 400, 6, 4)
    weight, bias = solved(x, t, np.zeros((parts, 4, 6)), 0.0)
    for part in range(parts):
        design = np.hstack([x[part], np.ones((400, 1))])
        expected = np.linalg.lstsq(design, t[part], rcond=None)[0]
        np.testing.assert_allclose(weight[part], expected[:-1].T, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(bias[part], expected[-1], rtol=1e-7)


@pytest.mark.parametrize("parts", [1, 3])
def test_without_intercept(parts: int) -> None:
    x, t = draw(parts, 400, 6, 4)
    weight, _ = solved(x, t, np.zeros((parts, 4, 6)), 0.0, intercept=False)
    for part in range(parts):
        expected = np.linalg.lstsq(x[part], t[part], rcond=None)[0]
        np.testing.assert_allclose(weight[part], expected.T, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("intercept", [True, False])
def test_ridge_shrinks_the_correction_not_the_weight(intercept: bool) -> None:
    x, t = draw(1, 300, 5, 3)
    old = np.random.default_rng(1).standard_normal((1, 3, 5))
    distances = []
    for ridge in (0.0, 1e-2, 1.0, 1e2, 1e6):
        weight, _ = solved(x, t, old, ridge, intercept=intercept)
        distances.append(float(np.linalg.norm(weight - old)))
        # The objective's own solution: augment the rows by sqrt(n lambda) I with the residual of the old weight.
        centre = x[0].mean(0) if intercept else np.zeros(5)
        rows = x[0] - centre
        residual = t[0] - (t[0].mean(0) if intercept else 0) - rows @ old[0].T
        damping = ridge * np.mean(rows**2)
        design = np.vstack([rows, np.sqrt(300 * damping) * np.eye(5)])
        expected = np.linalg.lstsq(design, np.vstack([residual, np.zeros((5, 3))]), rcond=None)[0]
        np.testing.assert_allclose(weight[0], old[0] + expected.T, rtol=1e-6, atol=1e-8)
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-4 * distances[0]


def test_what_is_linear_is_recovered_exactly() -> None:
    x, _ = draw(2, 200, 5, 1)
    truth, shift = np.random.default_rng(2).standard_normal((2, 3, 5)), np.array([[1.0, -2, 3], [4, 5, -6]])
    t = np.einsum("gop,grp->gro", truth, x) + shift[:, None]
    weight, bias = solved(x, t, np.zeros((2, 3, 5)), 0.0)
    np.testing.assert_allclose(weight, truth, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(bias, shift, rtol=1e-7)
    # What the old weight already explains needs no correction, whatever the ridge.
    weight, bias = solved(x, t, truth, 10.0)
    np.testing.assert_allclose(weight, truth, rtol=1e-8)
    np.testing.assert_allclose(bias, shift, rtol=1e-7)


def test_directions_without_data_keep_the_old_weight() -> None:
    x, t = draw(1, 100, 6, 2)
    x[..., 4:] = 5.0
    old = np.random.default_rng(3).standard_normal((1, 2, 6))
    weight, _ = solved(x, t, old, 1e-4)
    np.testing.assert_allclose(weight[..., 4:], old[..., 4:], rtol=1e-7)


def test_batches_and_large_means_lose_nothing() -> None:
    x, t = draw(1, 900, 5, 3)
    x, t = x + 1e4, t - 1e5
    expected = streamed(x, t, 1).solve(torch.zeros(1, 3, 5, dtype=torch.float64), 1e-4)
    found = streamed(x, t, 9).solve(torch.zeros(1, 3, 5, dtype=torch.float64), 1e-4)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-8)


def test_the_ridge_grows_as_rows_run_out() -> None:
    ridges = [streamed(*draw(1, rows, 8, 2), 1).ridge(1e-4) for rows in (4, 8, 80, 8000)]
    np.testing.assert_allclose(ridges, [0.1001, 0.1001, 0.0011, 1e-4 + 1e-7], rtol=1e-9)
