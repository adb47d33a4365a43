"""Batch norms remember what the network was trained on: the mean and variance of every channel before each of them.

Of a pool of samples those are kept whose moments together come closest to that. What is compared is x, centred and scaled by
what the norm remembers: its mean should be 0 and its mean square 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from modhifi_graph.graph import Graph

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Remembered:
    """What one norm remembers of the activation ``value``: mean and standard deviation of every channel, axis 1."""

    value: str
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


def remembered(graph: Graph) -> tuple[Remembered, ...]:
    """The batch norms of a graph, in order, that keep constant statistics of an activation."""
    return tuple(_remembered(graph))


def _remembered(graph: Graph) -> Iterator[Remembered]:
    for op in graph.ops:
        if op.kind != "BatchNormalization" or op.domain or len(op.inputs) < 5:
            continue
        x, mean, variance = op.inputs[0], op.inputs[3], op.inputs[4]
        if x is None or mean is None or variance is None or x.is_constant:
            continue
        if mean.is_constant and variance.is_constant:
            epsilon = float(op.attributes.get("epsilon", 1e-5))
            yield Remembered(
                x.name,
                mean.array().astype(np.float64),
                np.sqrt(np.maximum(variance.array().astype(np.float64), 0) + epsilon),
            )


def moments(norms: Sequence[Remembered], values: Mapping[str, torch.Tensor]) -> Floats:
    """Mean and mean square of what every norm reads, for each sample of a batch: (samples, 2 * channels of all norms)."""
    parts = []
    for norm in norms:
        x = values[norm.value]
        x = x.reshape(len(x), x.shape[1], -1).float()
        mean, deviation = (torch.from_numpy(v).to(x).reshape(1, -1, 1) for v in (norm.mean, norm.deviation))
        z = (x - mean) / deviation
        parts += [z.mean(2), z.square().mean(2)]
    return np.asarray(torch.cat(parts, 1).cpu().numpy(), np.float32)


def targets(norms: Sequence[Remembered]) -> Floats:
    """What :func:`moments` should be on average."""
    return np.concatenate([np.repeat(np.array([0, 1], np.float32), len(norm.mean)) for norm in norms])


def discrepancy(norms: Sequence[Remembered], found: Floats) -> float:
    """How far samples are from what the norms remember, by their :func:`moments`.

    The divergence KL(N(m, v) || N(0, 1)) = (v + m^2 - 1 - log v) / 2 in nats, averaged over the channels of all norms.
    """
    average, total, count, start = found.mean(0, dtype=np.float64), 0.0, 0, 0
    for norm in norms:
        size = len(norm.mean)
        mean, square = average[start : start + size], average[start + size : start + 2 * size]
        variance = np.maximum(square - mean**2, 1e-6)
        total += float(((square - 1 - np.log(variance)) / 2).sum())
        count, start = count + size, start + 2 * size
    return total / max(1, count)


def herd(features: Floats, target: Floats, count: int) -> NDArray[np.int64]:
    """The samples whose average features come closest to a target, chosen one by one, in order.

    Each next one is what brings the average closest: it minimises ||sum + f - (k + 1) target||^2. Time O(count * samples *
    features).

    Parameters
    ----------
    features : (samples, features), finite.
    target : (features,)
    count : how many to choose; at most as many as there are.
    """
    away = (features - target).astype(np.float32)
    squares = np.einsum("ij,ij->i", away, away)
    free, total = np.ones(len(away), bool), np.zeros_like(target)
    for _ in range(count):
        cost = np.where(free, squares + 2 * (away @ total), np.inf)
        best = int(cost.argmin())
        free[best] = False
        total = total + away[best]
    return np.flatnonzero(~free)
