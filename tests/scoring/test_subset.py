"""Subset Fidelity against direct regressions on the activations themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modhifi_graph.errors import InputError
from modhifi_graph.scoring.reconstruction import smallest
from modhifi_graph.scoring.subset import Subset, SubsetFidelity

from .layer import Layer


def explained(a: np.ndarray, y: np.ndarray) -> float:
    """What regressing y on a explains of its energy."""
    return float((y**2).sum() - ((y - a @ np.linalg.lstsq(a, y, rcond=None)[0]) ** 2).sum())


SUBSETS = [(0,), (1, 4), (3, 0, 2), (0, 1, 2, 3, 4)]


@pytest.mark.parametrize("subset", SUBSETS)
@pytest.mark.parametrize(("parts", "block"), [(1, 1), (1, 3), (2, 3)])
class TestAgainstRegression:
    def test_a_scale_for_every_component_and_channel(self, parts: int, block: int, subset: tuple[int, ...]) -> None:
        layer = Layer(block=block, parts=parts)
        fs = layer.made("of")
        pairs = layer.by_channel()
        parted = [explained(a[:, list(subset)], y) for a, y in pairs]
        energies = np.array([(y**2).sum() for _, y in pairs])
        np.testing.assert_allclose(fs.per_channel(subset), parted / energies, atol=1e-8)
        assert fs.fidelity(subset) == pytest.approx(sum(parted) / energies.sum(), abs=1e-8)

    def test_one_scale_for_every_component(self, parts: int, block: int, subset: tuple[int, ...]) -> None:
        layer = Layer(block=block, parts=parts)
        a = np.concatenate([a for a, _ in layer.by_channel()])
        y = a.sum(1)
        expected = explained(a[:, list(subset)], y) / (y**2).sum()
        assert layer.made("shared").fidelity(subset) == pytest.approx(expected, abs=1e-8)

    def test_all_weights_refitted(self, parts: int, block: int, subset: tuple[int, ...]) -> None:
        layer = Layer(block=block, parts=parts)
        reached, energy = 0.0, 0.0
        for x, weight in zip(layer.x, layer.weight, strict=True):
            y, own = x @ weight.T, x[:, layer.blocks[list(subset)].ravel()]
            reached += sum(explained(own, column) for column in y.T)
            energy += (y**2).sum()
        assert layer.made("least_squares").fidelity(subset) == pytest.approx(reached / energy, abs=1e-8)


@pytest.mark.parametrize("kind", ["of", "shared", "least_squares"])
@pytest.mark.parametrize("seed", range(4))
def test_in_bounds_and_never_falling(kind: str, seed: int) -> None:
    layer = Layer(components=7, block=2, parts=2, seed=seed)
    fs = layer.made(kind)
    order = np.random.default_rng(seed).permutation(7).tolist()
    values = [fs.fidelity(order[:k]) for k in range(1, 8)]
    assert all(0 <= value <= 1 for value in values)
    assert (np.diff(values) >= -1e-12).all()
    assert values[-1] == pytest.approx(1, abs=1e-8)
    np.testing.assert_allclose(fs.curve(order), values, atol=1e-10)
    np.testing.assert_allclose(
        fs.fidelities([order[:3], order[3:6]]), [fs.fidelity(order[:3]), fs.fidelity(order[3:6])]
    )
    assert fs.fidelity([]) == 0


def test_the_three_readings_in_order() -> None:
    layer = Layer()
    for subset in SUBSETS[:3]:
        shared, own, refitted = (layer.made(kind).fidelity(subset) for kind in ("shared", "of", "least_squares"))
        assert shared < own < refitted


def test_contributions_that_depend_on_each_other() -> None:
    layer = Layer(components=4, block=1)
    layer.x[:, :, layer.blocks[3]] = layer.x[:, :, layer.blocks[0]]  # the same input twice
    layer.x[:, :, layer.blocks[2]] = 0
    layer.weight[:, 1] = 0  # a channel that never varies
    fs = layer.made("of")
    assert fs.fidelity([0, 3]) == pytest.approx(fs.fidelity([0]), abs=1e-7)
    assert fs.fidelity([1, 2]) == pytest.approx(fs.fidelity([1]), abs=1e-9)
    assert fs.fidelity([2]) == pytest.approx(0, abs=1e-12)
    assert fs.per_channel([2])[1] == 1
    for method in ("forward", "backward", "singletons"):
        assert sorted(fs.order(method)) == [0, 1, 2, 3]
    assert not {0, 3} <= set(fs.order("forward")[:2]), "greedy choice does not take the copy"


def test_uncorrelated_contributions_add_up() -> None:
    variances, weight = np.array([5.0, 1.0, 3.0, 0.5]), np.array([[1.0, 2.0, -1.0, 0.3], [0.5, 1.0, 1.0, 2.0]])
    fs = SubsetFidelity.of(weight, np.diag(variances))
    energies = (weight**2 * variances).sum(0)
    np.testing.assert_allclose(fs.singletons, energies / energies.sum(), rtol=1e-8)
    for k in (1, 2, 3):
        best = fs.search(k, "exhaustive")
        assert best == fs.search(k, "singletons") == fs.search(k, "forward") == fs.search(k, "backward")
        assert best.fidelity == pytest.approx(np.sort(energies)[-k:].sum() / energies.sum(), abs=1e-9)


def test_the_papers_scores() -> None:
    layer = Layer(parts=2)
    scores, fs = layer.made("of").scores, layer.made("of")
    for channel, (a, y) in enumerate(layer.by_channel()):
        energy, rowsum = (a**2).mean(0), (a * y[:, None]).mean(0)
        np.testing.assert_allclose(scores.singleton[channel, :, 0], rowsum**2 / (energy * (y**2).mean()), rtol=1e-9)
        np.testing.assert_allclose(scores.alpha[channel, :, 0], rowsum / energy, rtol=1e-9)
        singles = [fs.per_channel([i])[channel] for i in range(fs.components)]
        np.testing.assert_allclose(scores.singleton[channel, :, 0], singles, atol=1e-8)
        share = (scores.energy / scores.total)[channel, :, 0], (scores.rowsum / scores.total)[channel, :, 0]
        np.testing.assert_allclose(share[0], energy / (y**2).mean(), rtol=1e-9)
        np.testing.assert_allclose(share[1], rowsum / (y**2).mean(), rtol=1e-9, atol=1e-12)


def test_neither_scale_nor_kind_of_array_matters() -> None:
    layer = Layer()
    expected = layer.made("least_squares").fidelity([0, 2])
    for scale in (1e-12, 1e12):
        found = SubsetFidelity.least_squares(layer.weight * scale, layer.second * scale, layer.blocks)
        assert found.fidelity([0, 2]) == pytest.approx(expected, abs=1e-9)
    weight, second = torch.from_numpy(layer.weight).float(), torch.from_numpy(layer.second)
    assert SubsetFidelity.least_squares(weight, second, layer.blocks).fidelity([0, 2]) == pytest.approx(
        expected, abs=1e-5
    )
    assert SubsetFidelity.least_squares(layer.weight[0], layer.second[0], layer.blocks.tolist()).fidelity(
        [0, 2]
    ) == pytest.approx(expected, abs=1e-12)


def test_layers_together_count_alike() -> None:
    a, b = (Layer(seed=seed, outputs=outputs).made("shared") for seed, outputs in ((0, 2), (1, 40)))
    both = SubsetFidelity.together([a, b])
    assert both.fidelity([1, 3]) == pytest.approx((a.fidelity([1, 3]) + b.fidelity([1, 3])) / 2, abs=1e-9)


@pytest.mark.parametrize("method", ["forward", "backward", "singletons", "exhaustive"])
def test_hifi_sets_are_the_smallest_that_the_method_finds(method: str) -> None:
    fs = Layer(components=6).made("of")
    for eta in (0.3, 0.7, 0.95):
        found = fs.hifi_set(eta, method)
        assert found.fidelity >= eta
        assert found.fidelity == pytest.approx(fs.fidelity(found.components))
        assert list(found.components) == sorted(set(found.components))
        if len(found.components) > 1:
            assert fs.search(len(found.components) - 1, method).fidelity < eta
    assert isinstance(fs.hifi_set(1.0, method), Subset)


def test_smallest() -> None:
    curve = np.array([0.2, 0.8, 0.9])
    assert [smallest(curve, eta) for eta in (0, 0.2, 0.21, 0.8, 0.85, 0.95)] == [1, 1, 2, 2, 3, 3]


def test_wrong_arguments_are_refused() -> None:
    fs = Layer().made("of")
    for call in (
        lambda: fs.fidelity([0, 0]),
        lambda: fs.fidelity([5]),
        lambda: fs.search(0),
        lambda: fs.search(6),
        lambda: fs.search(2, "best"),
        lambda: fs.order("random"),
        lambda: fs.hifi_set(1.5),
        lambda: SubsetFidelity.of(np.ones((2, 3)), np.eye(4)),
        lambda: SubsetFidelity.of(np.ones((2, 3)), np.eye(3), [[0, 1], [1, 2]]),
        lambda: SubsetFidelity.of(np.ones((2, 3)), np.eye(3), [[0], [3]]),
    ):
        with pytest.raises(InputError, match="expected"):
            call()
