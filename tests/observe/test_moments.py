"""Means and covariances, against numpy's two passes in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modhifi_graph.observe.moments import Moments


def draw(rows: int, inputs: int = 7, parts: int = 2, seed: int = 0, mean: float = 0.0) -> np.ndarray:
    """Correlated rows, (parts, rows, inputs), float64."""
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((parts, inputs, inputs))
    return random.standard_normal((parts, rows, inputs)) @ mixing + mean


def two_pass(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = rows.mean(1)
    centred = rows - mean[:, None]
    return mean, centred.transpose(0, 2, 1) @ centred / rows.shape[1]


def check(moments: Moments, rows: np.ndarray, tolerance: float) -> None:
    mean, covariance = two_pass(rows)
    assert moments.count == rows.shape[1]
    np.testing.assert_allclose(moments.mean.numpy(), mean, rtol=0, atol=tolerance * max(1.0, np.abs(mean).max()))
    np.testing.assert_allclose(moments.covariance.numpy(), covariance, rtol=0, atol=tolerance * covariance.max())


@pytest.mark.parametrize("mean", [0.0, 1e4])
@pytest.mark.parametrize("batches", [1, 5])
def test_batches_add_up(batches: int, mean: float) -> None:
    rows = draw(1000, mean=mean)
    first, *rest = np.split(rows, batches, axis=1)
    moments = Moments.of(torch.from_numpy(first))
    for batch in rest:
        moments.add(torch.from_numpy(batch))
    check(moments, rows, 1e-11)
    assert moments.first.dtype == moments.second.dtype == torch.float64


def test_single_precision_rows_with_a_mean_of_ten_thousand_deviations() -> None:
    rows = draw(4000, mean=3e4).astype(np.float32)  # float32 holds 1/512 there
    moments = Moments.of(torch.from_numpy(rows[:, :500]))
    for start in range(500, 4000, 500):
        moments.add(torch.from_numpy(rows[:, start : start + 500]))
    check(moments, rows.astype(np.float64), 1e-6)


def test_merging_is_exact_whatever_the_origins() -> None:
    rows = draw(3000)
    rows[:, 1000:2000] += 50
    rows[:, 2000:] *= 30
    first, second, third = (Moments.of(torch.from_numpy(part)) for part in np.split(rows, 3, axis=1))
    for merged in (
        first.merge(second).merge(third),
        first.merge(second.merge(third)),
        third.merge(first).merge(second),
    ):
        check(merged, rows, 1e-12)
    assert first.count == 1000, "merging changes neither operand"
    check(first, rows[:, :1000], 1e-12)


def test_merging_distant_origins_loses_only_what_the_distance_costs() -> None:
    rows = draw(2000)
    rows[:, 1000:] += 1e4
    a, b = (Moments.of(torch.from_numpy(part)) for part in np.split(rows, 2, axis=1))
    check(a.merge(b), rows, 1e-12)


def test_a_million_rows() -> None:
    count, chunk, inputs = 1_000_000, 20_000, 6
    random = np.random.default_rng(3)
    mixing, mean = random.standard_normal((inputs, inputs)), 100 * random.standard_normal(inputs)
    moments = None
    total, products = np.zeros(inputs, dtype=np.longdouble), np.zeros((inputs, inputs), dtype=np.longdouble)
    for _ in range(count // chunk):
        rows = random.standard_normal((chunk, inputs)) @ mixing + mean
        batch = torch.from_numpy(rows[None])
        moments = moments.add(batch) if moments else Moments.of(batch)
        centred = rows - mean  # the reference is shifted by the true mean, in extended precision
        total += centred.sum(0, dtype=np.longdouble)
        products += (centred.T @ centred).astype(np.longdouble)
    assert moments is not None
    shift = total / count
    covariance = (products / count - np.outer(shift, shift)).astype(np.float64)
    np.testing.assert_allclose(moments.mean[0].numpy(), (mean + shift).astype(np.float64), rtol=1e-9)
    np.testing.assert_allclose(moments.covariance[0].numpy(), covariance, rtol=1e-9, atol=1e-9 * covariance.max())


@pytest.mark.parametrize("mean", [0.0, 1e3])
def test_a_million_rows_of_single_precision(mean: float) -> None:
    """Against numpy's two passes in float64 over the very same numbers: 1e-9 of every entry's own scale."""
    count, chunk, inputs = 1_000_000, 20_000, 6
    random = np.random.default_rng(4)
    mixing = random.standard_normal((inputs, inputs))
    rows = (random.standard_normal((count, inputs)) @ mixing + mean).astype(np.float32)
    moments = Moments.of(torch.from_numpy(rows[None, :chunk]))
    for start in range(chunk, count, chunk):
        moments.add(torch.from_numpy(rows[None, start : start + chunk]))
    (average,), (covariance,) = two_pass(rows.astype(np.float64)[None])
    deviation = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(moments.mean[0].numpy(), average, rtol=1e-9, atol=1e-9 * deviation.min())
    error = np.abs(moments.covariance[0].numpy() - covariance) / np.outer(deviation, deviation)
    assert error.max() < 1e-9


@pytest.mark.parametrize("inputs", [127, 128, 129, 300])
def test_products_in_blocks(inputs: int) -> None:
    rows = draw(500, inputs=inputs)
    moments = Moments.of(torch.from_numpy(rows[:, :200])).add(torch.from_numpy(rows[:, 200:]))
    check(moments, rows, 1e-12)
    assert moments.second.shape == (2, inputs, inputs)
    halves = [Moments.of(torch.from_numpy(half)) for half in np.split(rows, 2, axis=1)]
    check(halves[0].merge(halves[1]).add(torch.from_numpy(rows)), np.concatenate([rows, rows], 1), 1e-12)


def test_a_constant_input_has_no_variance() -> None:
    rows = np.full((1, 100, 3), 1234.5)
    moments = Moments.of(torch.from_numpy(rows))
    np.testing.assert_array_equal(moments.covariance.numpy(), np.zeros((1, 3, 3)))
    np.testing.assert_array_equal(moments.mean.numpy(), np.full((1, 3), 1234.5))
