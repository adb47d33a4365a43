"""Erasing a class: afterwards no linear probe finds it, and nothing has moved further than that takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modhifi_graph.forget.erasure import Erasure
from modhifi_graph.observe.moments import Moments

EXACT = 1e-12


@pytest.fixture(scope="module")
def sets() -> dict[str, torch.Tensor]:
    random = np.random.default_rng(0)
    spread = random.standard_normal((5, 5))
    remain = random.standard_normal((1, 300, 5)) @ spread
    forget = random.standard_normal((1, 100, 5)) @ spread + np.array([2.0, -1.0, 0.5, 0.0, 3.0])
    return {"remain": torch.from_numpy(remain), "forget": torch.from_numpy(forget)}


@pytest.fixture(scope="module")
def erasure(sets: dict[str, torch.Tensor]) -> Erasure:
    return Erasure.between(Moments.of(sets["remain"]), Moments.of(sets["forget"]), EXACT)


def test_the_means_become_equal(sets: dict[str, torch.Tensor], erasure: Erasure) -> None:
    before = sets["remain"].mean(1) - sets["forget"].mean(1)
    assert before.norm() > 3
    after = erasure(sets["remain"]).mean(1) - erasure(sets["forget"]).mean(1)
    assert after.norm() < 1e-9


def test_a_linear_probe_finds_nothing(sets: dict[str, torch.Tensor], erasure: Erasure) -> None:
    answer = np.r_[np.zeros(300), np.ones(100)]

    def explained(change: object) -> float:
        rows = torch.cat([change(sets["remain"]), change(sets["forget"])], 1)[0].numpy()  # type: ignore[operator]
        design = np.c_[rows, np.ones(400)]
        error = answer - design @ np.linalg.lstsq(design, answer, rcond=1e-10)[0]
        return float(1 - (error**2).sum() / ((answer - answer.mean()) ** 2).sum())

    assert explained(lambda rows: rows) > 0.5
    assert explained(erasure) < 1e-9


def test_it_moves_no_further_than_it_must(sets: dict[str, torch.Tensor], erasure: Erasure) -> None:
    rows = torch.cat([sets["remain"], sets["forget"]], 1)
    direction = erasure.direction / erasure.direction.norm()
    along = torch.einsum("grp,gp->gr", rows - rows.mean(1, keepdim=True), direction)[:, :, None] * direction[:, None]
    moved = (erasure(rows) - rows).square().sum()
    assert moved < 0.9 * along.square().sum()  # the orthogonal projection makes the means equal as well
    torch.testing.assert_close(erasure(rows).mean(1), rows.mean(1))


def test_twice_is_once(sets: dict[str, torch.Tensor], erasure: Erasure) -> None:
    once = erasure(sets["forget"])
    torch.testing.assert_close(erasure(once), once)


def test_equal_sets_stay_as_they_are(sets: dict[str, torch.Tensor]) -> None:
    same = Erasure.between(Moments.of(sets["remain"]), Moments.of(sets["remain"]))
    torch.testing.assert_close(same(sets["forget"]), sets["forget"])
