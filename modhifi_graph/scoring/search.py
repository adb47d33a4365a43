"""Finding sets of high Subset Fidelity: the k-MFS of small layers, and good sets of large ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import combinations, islice

import numpy as np
import torch

from modhifi_graph.errors import InputError
from modhifi_graph.scoring.optimal_brain_surgeon import Eliminator, removal_order
from modhifi_graph.scoring.reconstruction import NEGLIGIBLE, Reconstruction

NESTED = ("forward", "backward", "singletons")
"""The methods whose best k components are the first k of one order."""

OTHERS = ("exchange", "exhaustive", "random")

MOST_SETS = 5_000_000
TOGETHER = 1 << 14
"""An exhaustive search looks at no more sets than MOST_SETS, so many at a time."""

RESTARTS = 6
MOST_WORK = 1e11
"""Random sets that exchanges start from, and what a pass over all exchanges may cost: a minute or so."""


def order(layer: Reconstruction, method: str) -> tuple[int, ...]:
    """All components, best first."""
    if method == "forward":
        return forward(layer)
    if method == "backward":
        return backward(layer)
    if method == "singletons":
        return tuple(int(i) for i in np.argsort(-layer.singletons, kind="stable"))
    raise InputError(f"method {method!r}: expected one of {', '.join(NESTED)}")


def best(layer: Reconstruction, k: int, method: str, trials: int, seed: int) -> Sequence[int]:
    """The best set of k components that a method finds."""
    if method in NESTED:
        return (forward(layer, k) if method == "forward" else order(layer, method))[:k]
    if method == "exhaustive":
        return exhaustive(layer, k)
    if method == "exchange":
        return exchange(layer, k, seed)
    if method == "random":
        return monte_carlo(layer, k, trials, seed)
    raise InputError(f"method {method!r}: expected one of {', '.join((*NESTED, *OTHERS))}")


def exhaustive(layer: Reconstruction, k: int) -> tuple[int, ...]:
    """The k-MFS: the best of all ``binomial(components, k)`` sets, the first of equals."""
    count = math.comb(layer.components, k)
    if count > MOST_SETS:
        raise InputError(f"{k} of {layer.components} components are {count} sets, more than {MOST_SETS}; use forward")
    every = combinations(range(layer.components), k)
    return _first_best(layer, (np.array(list(islice(every, TOGETHER))) for _ in range(0, count, TOGETHER)))


def exchange(layer: Reconstruction, k: int, seed: int = 0) -> tuple[int, ...]:
    """Sets of k with one component exchanged for another as long as that helps: the best of what several starts come to.

    The starts are the greedy sets (forward and backward), the best singletons and RESTARTS random ones. Each stops where no
    single exchange helps, which need not be the k-MFS, but no start fails where all others do in what was enumerated.
    Where a pass over all exchanges takes more than MOST_WORK multiplications, the better greedy set as it is.

    Time: k (components - k) sets an exchange, O(G (k block)^3) each.
    """
    random = np.random.default_rng(seed).random((RESTARTS, layer.components)).argsort(1)[:, :k]
    greedy = [forward(layer, k), backward(layer)[:k]]
    if k * (layer.components - k) * layer.weight.shape[0] * (k * layer.blocks.shape[1]) ** 3 > MOST_WORK:
        return max(greedy, key=layer.fidelity)
    starts = {tuple(sorted(int(i) for i in start)) for start in (*greedy, order(layer, "singletons")[:k], *random)}
    return max((_exchanged(layer, start) for start in sorted(starts)), key=layer.fidelity)


def _exchanged(layer: Reconstruction, found: tuple[int, ...]) -> tuple[int, ...]:
    reached = layer.fidelity(found)
    while True:
        others = [j for j in range(layer.components) if j not in found]
        swaps = [[j if i == out else i for i in found] for out in found for j in others]
        values = layer.fidelities(swaps) if swaps else np.zeros(1)
        if values.max() <= reached + NEGLIGIBLE:
            return found
        found, reached = tuple(swaps[int(values.argmax())]), float(values.max())


def monte_carlo(layer: Reconstruction, k: int, trials: int = 1000, seed: int = 0) -> tuple[int, ...]:
    """The best of ``trials`` random sets, which the paper's figures of measured layers show."""
    drawn = np.random.default_rng(seed).random((trials, layer.components)).argsort(1)[:, :k]
    return _first_best(layer, np.array_split(drawn, -(-trials // TOGETHER)))


def _first_best(layer: Reconstruction, chunks: Iterable[np.ndarray]) -> tuple[int, ...]:
    best, reached = np.empty(0), -1.0
    for sets in chunks:
        found = layer.fidelities(sets)
        if found.max() > reached:
            best, reached = sets[found.argmax()], found.max()
    return tuple(int(i) for i in best)


def backward(layer: Reconstruction) -> tuple[int, ...]:
    """Greedy removal of what costs least once the others are refitted, by block OBS; the last to go is the best."""
    eliminator = Eliminator(layer.weight, layer.covariance, layer.blocks, 1.0, NEGLIGIBLE)
    gone, _, _ = removal_order([eliminator], layer.components)
    return (*set(range(layer.components)).difference(gone), *reversed(gone))


def forward(layer: Reconstruction, k: int | None = None) -> tuple[int, ...]:
    """Greedy choice: always the component that adds most to what is reconstructed, up to k of them.

    A Cholesky factorisation of C, pivoted by what is gained; columns are made when their component is chosen.
    Time: O(G p k^2 block^2); memory: O(G p k block).
    """
    blocks, factor = layer.blocks, layer._damped
    k = layer.components if k is None else k
    target = layer._target.clone()  # what is left of W C
    inner = factor[:, blocks[:, :, None], blocks[:, None]]  # and of the diagonal blocks of C
    columns = factor.new_zeros(*factor.shape[:2], k * blocks.shape[1])
    left = torch.ones(len(blocks), dtype=torch.bool, device=blocks.device)
    chosen: list[int] = []
    for start in range(0, columns.shape[2], blocks.shape[1]):
        roots = torch.linalg.cholesky(inner)
        halves = torch.linalg.solve_triangular(roots, target[:, :, blocks].permute(0, 2, 3, 1), upper=False)
        pick = int(halves.square().sum((0, 2, 3)).masked_fill(~left, -1).argmax())
        own, root = blocks[pick], roots[:, pick]
        column = factor[:, :, own] - columns[:, :, :start] @ columns[:, own, :start].transpose(1, 2)
        column = torch.linalg.solve_triangular(root.transpose(1, 2), column, upper=True, left=False)
        columns[:, :, start : start + len(own)] = column
        target -= halves[:, pick].transpose(1, 2) @ column.transpose(1, 2)
        inner -= column[:, blocks] @ column[:, blocks].transpose(-1, -2)
        left[pick] = False
        inner[:, ~left] = torch.eye(len(own), dtype=inner.dtype, device=inner.device)  # zero but for rounding
        chosen.append(pick)
    return tuple(chosen)
