"""Searches against naive ones, and against all sets."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from modhifi_graph import score
from modhifi_graph.errors import InputError
from modhifi_graph.scoring import search
from modhifi_graph.scoring.subset import SubsetFidelity

from .layer import Layer

KINDS = ["of", "shared", "least_squares"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 3, 5])
def test_exhaustive_is_the_best_of_all(kind: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "TOGETHER", 7)
    fs = Layer(components=6, block=2, parts=2).made(kind)
    every = {subset: fs.fidelity(subset) for subset in combinations(range(6), k)}
    found = fs.search(k, "exhaustive")
    assert found.components == max(every, key=every.__getitem__)
    assert found.fidelity == pytest.approx(max(every.values()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_forward_takes_what_adds_most(kind: str, seed: int) -> None:
    fs = Layer(components=6, block=2, parts=2, seed=seed).made(kind)
    chosen: list[int] = []
    while len(chosen) < 6:
        left = [i for i in range(6) if i not in chosen]
        chosen.append(max(left, key=lambda i: fs.fidelity([*chosen, i])))
    assert list(fs.order("forward"))[:5] == chosen[:5]
    assert search.forward(fs, 3) == tuple(chosen[:3])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_backward_drops_what_costs_least(kind: str, seed: int) -> None:
    fs = Layer(components=6, block=2, parts=2, seed=seed).made(kind)
    left, gone = list(range(6)), []
    while len(left) > 1:
        gone.append(max(left, key=lambda i: fs.fidelity([j for j in left if j != i])))
        left.remove(gone[-1])
    assert list(fs.order("backward")) == [*left, *reversed(gone)]


def test_random_sets_come_from_the_seed() -> None:
    fs = Layer(components=8, block=1).made("of")
    few = [fs.search(3, "random", trials=2, seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert few[0] == few[1]
    assert len({found.components for found in few}) > 1
    assert fs.search(3, "random", trials=5000) == fs.search(3, "exhaustive"), "5,000 draws meet all 56 sets"


def test_too_many_sets_are_refused() -> None:
    fs = SubsetFidelity.shared(np.ones((1, 64)), np.eye(64))
    with pytest.raises(InputError, match="more than 5000000; use forward"):
        fs.search(20, "exhaustive")


@pytest.mark.parametrize(("seed", "k"), [(20, 3), (26, 4)])
def test_exchanges_find_what_greedy_searches_miss(seed: int, k: int) -> None:
    fs = Layer(components=9, block=1, outputs=1, seed=seed).made("shared")
    greedy = max(fs.search(k, "forward").fidelity, fs.search(k, "backward").fidelity)
    found = fs.search(k, "exchange")
    assert found.fidelity > greedy + 0.01
    assert found == fs.search(k, "exhaustive")


def test_exchanges_are_what_search_does() -> None:
    fs = Layer(components=9, block=1, outputs=1, seed=20).made("shared")
    assert fs.search(3) == fs.search(3, "exchange") != fs.search(3, "forward")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(10))
def test_exchanges_come_within_a_per_cent_of_the_best(kind: str, seed: int) -> None:
    """Correlated contributions, where greedy searches miss by more."""
    fs = Layer(components=9, block=1, outputs=1, seed=seed).made(kind)
    for k in range(1, 9):
        assert fs.search(k).fidelity >= 0.99 * fs.search(k, "exhaustive").fidelity


def test_layers_too_large_for_exchanges_get_the_better_greedy_set(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = Layer(components=9, block=1, outputs=1, seed=20).made("shared")
    monkeypatch.setattr(search, "MOST_WORK", 3 * 6 * 3**3 - 1)
    greedy = max((fs.search(3, method) for method in ("forward", "backward")), key=lambda found: found.fidelity)
    assert fs.search(3) == greedy
    monkeypatch.setattr(search, "MOST_WORK", 3 * 6 * 3**3)
    assert fs.search(3).fidelity > greedy.fidelity + 0.01


@pytest.mark.parametrize("method", ["forward", "backward", "exchange"])
def test_greedy_is_within_a_per_cent_on_the_heads_of_a_sample(method: str) -> None:
    """Real activations: the attention heads of the digits ViT, for each k and reading."""
    checked = 0
    for group in score("sample:digits-vit", samples=100, threads=1).groups:
        for layer in group.layers if group.size <= 8 else ():
            for fs in (layer.shared, layer.fidelity, layer.least_squares):
                for k in range(1, fs.components):
                    assert fs.search(k, method).fidelity >= 0.99 * fs.search(k, "exhaustive").fidelity
                    checked += 1
    assert checked == 27
