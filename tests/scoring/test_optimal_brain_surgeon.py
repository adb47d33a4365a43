"""Greedy block OBS, against least squares solved anew for every set that could be kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modhifi_graph.observe.ridge import refit
from modhifi_graph.scoring.optimal_brain_surgeon import Eliminator, removal_order

RIDGE = 1e-4


class Problem:
    """A consumer of G parts, with interleaved blocks so that no position is where it looks."""

    def __init__(self, components: int, block: int, outputs: int, parts: int, seed: int, scale: float = 1.0) -> None:
        random = np.random.default_rng(seed)
        inputs = components * block
        self.rows = random.standard_normal((parts, 60 + 4 * inputs, inputs)) @ random.standard_normal(
            (parts, inputs, inputs)
        )
        self.rows -= self.rows.mean(1, keepdims=True)
        self.covariance = self.rows.transpose(0, 2, 1) @ self.rows / self.rows.shape[1]
        self.weight = random.standard_normal((parts, outputs, inputs))
        self.blocks = np.sort(random.permutation(inputs).reshape(components, block), axis=1)
        self.scale = scale

    def eliminator(self, ridge: float = RIDGE) -> Eliminator:
        weight, covariance, blocks = map(torch.from_numpy, (self.weight, self.covariance, self.blocks))
        return Eliminator(weight, covariance, blocks, self.scale, ridge)

    def damped(self, part: int, ridge: float) -> np.ndarray:
        covariance = self.covariance[part]
        return covariance + ridge * np.diag(covariance).mean() * np.eye(len(covariance))

    def refit(self, kept: list[int], ridge: float = RIDGE) -> np.ndarray:
        """The weights that come closest with the inputs of the kept components alone."""
        result = np.zeros_like(self.weight)
        stay = np.sort(self.blocks[kept].ravel())
        for part, weight in enumerate(self.weight):
            damped = self.damped(part, ridge)
            result[part][:, stay] = np.linalg.solve(damped[np.ix_(stay, stay)], damped[stay] @ weight.T).T
        return result

    def loss(self, kept: list[int], ridge: float = RIDGE) -> float:
        """The damped squared error of those weights, times the scale."""
        difference = self.weight - self.refit(kept, ridge)
        each = [np.trace(d @ self.damped(part, ridge) @ d.T) for part, d in enumerate(difference)]
        return self.scale * float(sum(each))


PROBLEMS = {
    "single": {"components": 6, "block": 1, "outputs": 3, "parts": 1},
    "taps": {"components": 5, "block": 4, "outputs": 3, "parts": 1},
    "one_output": {"components": 5, "block": 3, "outputs": 1, "parts": 1},
    "parts": {"components": 6, "block": 1, "outputs": 2, "parts": 4},
    "parts_and_taps": {"components": 4, "block": 3, "outputs": 2, "parts": 3},
}


@pytest.mark.parametrize("name", PROBLEMS)
class TestElimination:
    def test_costs_are_what_the_loss_rises_by(self, name: str) -> None:
        problem = Problem(**PROBLEMS[name], seed=1, scale=0.7)
        eliminator = problem.eliminator()
        left = list(range(PROBLEMS[name]["components"]))
        gone = np.random.default_rng(2).permutation(left)[:-1].tolist()
        for component in [None, *gone[:-1]]:
            if component is not None:
                eliminator.remove(component)
                left.remove(component)
            before = problem.loss(left)
            expected = [problem.loss([i for i in left if i != out]) - before for out in left]
            np.testing.assert_allclose(eliminator.costs().numpy()[left], expected, rtol=1e-7)

    def test_weights_are_the_direct_refit_and_what_is_gone_stays_zero(self, name: str) -> None:
        problem = Problem(**PROBLEMS[name], seed=3)
        eliminator = problem.eliminator()
        left = list(range(PROBLEMS[name]["components"]))
        for component in [2, 0, 3]:
            eliminator.remove(component)
            left.remove(component)
            np.testing.assert_allclose(eliminator.weight.numpy(), problem.refit(left), rtol=1e-7, atol=1e-9)
            stays = torch.from_numpy(problem.blocks[left].ravel())
            at_once = refit(torch.from_numpy(problem.weight), torch.from_numpy(problem.covariance), stays, RIDGE)
            np.testing.assert_allclose(eliminator.weight.numpy(), at_once.numpy(), rtol=1e-7, atol=1e-9)
            gone = problem.blocks[[i for i in range(len(problem.blocks)) if i not in left]].ravel()
            assert np.all(eliminator.weight.numpy()[:, :, gone] == 0)

    def test_order_is_greedy_and_paid_adds_up_to_the_loss(self, name: str) -> None:
        problem = Problem(**PROBLEMS[name], seed=4)
        size = PROBLEMS[name]["components"]
        stops = [1, 2, size - 1]
        order, paid, snapshots = removal_order([problem.eliminator()], size, stops)
        left = list(range(size))
        for position, component in enumerate(order):
            losses = {out: problem.loss([i for i in left if i != out]) for out in left}
            assert component == min(losses, key=losses.__getitem__)
            left.remove(component)
            np.testing.assert_allclose(sum(paid[: position + 1]), losses[component], rtol=1e-6)
            if position + 1 in stops:
                (found,) = snapshots[position + 1]
                np.testing.assert_allclose(found.numpy(), problem.refit(left), rtol=1e-6, atol=1e-9)
        assert len(left) == 1
        assert sorted(snapshots) == sorted(set(stops))


def test_several_consumers_share_the_order() -> None:
    problems = [Problem(5, 3, 2, 1, seed=5, scale=1.0), Problem(5, 1, 4, 2, seed=6, scale=20.0)]
    order, paid, _ = removal_order([problem.eliminator() for problem in problems], 5)
    left = list(range(5))
    for component, cost in zip(order, paid, strict=True):
        losses = {out: sum(p.loss([i for i in left if i != out]) for p in problems) for out in left}
        before = sum(p.loss(left) for p in problems)
        assert component == min(losses, key=losses.__getitem__)
        np.testing.assert_allclose(cost, losses[component] - before, rtol=1e-6)
        left.remove(component)
    alone, _, _ = removal_order([problems[0].eliminator()], 5)
    assert alone != order


def test_costs_are_the_residuals_of_lstsq_on_the_rows() -> None:
    problem = Problem(5, 2, 3, 1, seed=7)
    costs = problem.eliminator(ridge=1e-12).costs().numpy()
    rows, target = problem.rows[0], problem.rows[0] @ problem.weight[0].T
    for component, cost in enumerate(costs):
        stay = np.delete(np.arange(10), problem.blocks[component])
        solution = np.linalg.lstsq(rows[:, stay], target, rcond=None)[0]
        np.testing.assert_allclose(cost, ((target - rows[:, stay] @ solution) ** 2).sum(1).mean(), rtol=1e-6)


def test_a_duplicate_is_free_and_goes_first() -> None:
    problem = Problem(6, 1, 3, 1, seed=8)
    problem.rows[0][:, problem.blocks[4]] = problem.rows[0][:, problem.blocks[1]]
    problem.covariance = problem.rows.transpose(0, 2, 1) @ problem.rows / problem.rows.shape[1]
    order, paid, _ = removal_order([problem.eliminator()], 6)
    assert order[0] in (1, 4)
    # Moving its weight to the twin costs only damping, of the one weight and of the other.
    moved = problem.weight[0][:, problem.blocks[order[0]]]
    damping = RIDGE * np.diag(problem.covariance[0]).mean()
    assert 0 < paid[0] <= 2 * damping * (moved**2).sum() < 0.1 * paid[1]


def test_dead_inputs_cost_nothing_and_break_nothing() -> None:
    problem = Problem(4, 2, 3, 2, seed=9)
    dead = problem.blocks[2]
    problem.covariance[:, dead] = 0
    problem.covariance[:, :, dead] = 0
    order, paid, _ = removal_order([problem.eliminator()], 4)
    assert order[0] == 2
    # The damping is all that is left of the component: lambda times its squared weights.
    damping = RIDGE * problem.covariance.diagonal(axis1=1, axis2=2).mean(1)
    expected = (damping * (problem.weight[:, :, dead] ** 2).sum((1, 2))).sum()
    np.testing.assert_allclose(paid[0], expected, rtol=1e-6)
