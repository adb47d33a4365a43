"""The regression on two sets at once, against rows stacked by hand and the formulas that it should become."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modhifi_graph.forget.mixture import mixture, prior
from modhifi_graph.repair.regression import Regression, Statistics

SIZES = {"remain": 70, "forget": 40}
TINY = 1e-13


def rows(name: str, width: int, seed: int) -> torch.Tensor:
    """Rows of a set, shape (2, rows, width), off-centre, in double precision."""
    random = np.random.default_rng([seed, len(name)])
    spread = random.standard_normal((2, width, width))
    plain = random.standard_normal((2, SIZES[name], width)) @ spread + 3 * random.standard_normal((2, 1, width))
    return torch.from_numpy(plain)


@pytest.fixture(scope="module")
def weight() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(5).standard_normal((2, 3, 6)))


def statistics(name: str, target: torch.Tensor | None = None) -> Statistics:
    """Summed in two batches."""
    x, t = rows(name, 6, 0), rows(name, 3, 1) if target is None else target
    return Regression.of(x[:, :15], t[:, :15]).add(x[:, 15:], t[:, 15:]).statistics()


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("mu", [0.0, 0.3, 5.0])
def test_it_is_least_squares_on_weighted_rows(weight: torch.Tensor, mu: float, intercept: bool) -> None:
    ridge = 0.01
    joint = mixture([(1.0, statistics("remain")), (mu, statistics("forget"))])
    solved, bias = joint.solve(weight, ridge, intercept)
    each = [(mu if name == "forget" else 1.0) / count for name, count in SIZES.items()]
    for g in range(2):
        x = np.concatenate([rows(name, 6, 0)[g].numpy() for name in SIZES])
        wanted = np.concatenate([rows(name, 3, 1)[g].numpy() for name in SIZES])
        t = wanted - x @ weight[g].numpy().T
        share = np.repeat(each, list(SIZES.values())) / (1 + mu)
        left = share @ (wanted - x @ solved[g].numpy().T)
        if intercept:
            x, t = x - share @ x, t - share @ t
        scale = np.sqrt(share)[:, None]
        damping = ridge * np.mean(((scale * x) ** 2).sum(0))
        stacked = np.concatenate([scale * x, np.sqrt(damping) * np.eye(6)])
        change = np.linalg.lstsq(stacked, np.concatenate([scale * t, np.zeros((6, 3))]), rcond=None)[0].T
        np.testing.assert_allclose(solved[g].numpy(), weight[g].numpy() + change, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(bias[g].numpy(), left, rtol=1e-8, atol=1e-8)


def test_with_zero_for_a_target_it_is_the_plain_closed_form(weight: torch.Tensor) -> None:
    mu = 0.7
    remain = statistics("remain", rows("remain", 6, 0) @ weight.transpose(1, 2))
    forget = statistics("forget", torch.zeros(2, SIZES["forget"], 3, dtype=torch.float64))
    solved, _ = mixture([(1.0, remain), (mu, forget)]).solve(weight, TINY, intercept=False)
    second = {name: rows(name, 6, 0).transpose(1, 2) @ rows(name, 6, 0) / count for name, count in SIZES.items()}
    expected = weight @ second["remain"] @ torch.linalg.inv(second["remain"] + mu * second["forget"])
    torch.testing.assert_close(solved, expected, rtol=1e-6, atol=1e-8)


def test_nothing_changes_where_the_forget_set_counts_nothing(weight: torch.Tensor) -> None:
    bias = torch.tensor([[1.0, 2.0, 3.0], [0.0, -1.0, 0.5]], dtype=torch.float64)
    remain = statistics("remain", rows("remain", 6, 0) @ weight.transpose(1, 2) + bias[:, None])
    solved, found = mixture([(1.0, remain), (0.0, statistics("forget"))]).solve(weight, 1e-4)
    torch.testing.assert_close(solved, weight, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found, bias, rtol=1e-10, atol=1e-10)


def test_the_prior_is_inputs_in_every_direction_alike(weight: torch.Tensor) -> None:
    x = rows("forget", 6, 0)
    forget = Regression.of(x, torch.zeros(2, SIZES["forget"], 3, dtype=torch.float64))
    blank = prior(weight, torch.zeros(2, 3, dtype=torch.float64), forget.moments)
    solved, _ = mixture([(1.0, blank), (2.0, forget.statistics())]).solve(weight, TINY, intercept=False)
    second = x.transpose(1, 2) @ x / SIZES["forget"]
    scale = second.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None] * torch.eye(6, dtype=torch.float64)
    expected = weight @ scale @ torch.linalg.inv(scale + 2 * second)
    torch.testing.assert_close(solved, expected, rtol=1e-6, atol=1e-8)
