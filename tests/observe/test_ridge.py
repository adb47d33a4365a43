"""Damped normal equations, against numpy's solvers."""

from __future__ import annotations

import numpy as np
import torch

from modhifi_graph.observe.ridge import damped, damped_inverse, damping, refit, solve_right


def covariances(parts: int = 3, inputs: int = 6) -> np.ndarray:
    rows = np.random.default_rng(0).standard_normal((parts, 40, inputs)) * np.arange(1, inputs + 1)
    return np.einsum("gri,grj->gij", rows, rows) / 40


def test_the_damping_is_relative_to_the_mean_variance_of_each_part() -> None:
    c = covariances()
    expected = [0.01 * np.trace(part) / 6 for part in c]
    np.testing.assert_allclose(damping(torch.from_numpy(c), 0.01).numpy().ravel(), expected, rtol=1e-12)
    found = damped(torch.from_numpy(c), 0.01).numpy()
    np.testing.assert_allclose(found, c + np.array(expected)[:, None, None] * np.eye(6), rtol=1e-12)


def test_the_inverse_exists_whatever_never_varies() -> None:
    c = torch.from_numpy(covariances())
    np.testing.assert_allclose(damped_inverse(c, 1e-4).numpy(), np.linalg.inv(damped(c, 1e-4).numpy()), rtol=1e-7)
    nothing = damped_inverse(torch.zeros(2, 3, 3, dtype=torch.float64), 1e-4).numpy()
    np.testing.assert_allclose(nothing, np.broadcast_to(1e12 * np.eye(3), (2, 3, 3)))


def test_solving_from_the_right() -> None:
    c, right = covariances(), np.random.default_rng(1).standard_normal((3, 4, 6))
    found = solve_right(torch.from_numpy(right), torch.linalg.cholesky(torch.from_numpy(c))).numpy()
    np.testing.assert_allclose(found @ c, right, rtol=1e-9, atol=1e-12)


def test_a_refit_is_the_least_damped_squared_error_over_what_stays() -> None:
    c, weight = covariances(2), np.random.default_rng(2).standard_normal((2, 4, 6))
    stays = [0, 2, 5]
    found = refit(torch.from_numpy(weight), torch.from_numpy(c), torch.tensor(stays), 1e-2).numpy()
    assert np.all(found[:, :, [1, 3, 4]] == 0)
    for part in range(2):
        # The gradient of tr((W - W') (C + lambda I) (W - W')^T) vanishes at what stays.
        gradient = (weight[part] - found[part]) @ damped(torch.from_numpy(c), 1e-2).numpy()[part]
        np.testing.assert_allclose(gradient[:, stays], 0, atol=1e-9)
    np.testing.assert_array_equal(refit(*map(torch.from_numpy, (weight, c)), torch.arange(6)).numpy(), weight)
