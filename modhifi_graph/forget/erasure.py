"""Erasing a class from an activation: the smallest affine change after which no linear probe can tell it from the rest.

A linear classifier of "to be forgotten" against "remains" can do better than a constant exactly if the two means differ. With
the covariance C of both sets together and the difference of their means d, the map

    x -> x - d (d^T C^-1 (x - m)) / (d^T C^-1 d)

makes the means equal, and of all affine maps that do so it moves x least, in the metric of C or any other. (LEACE: Belrose et
al., arXiv 2306.03819, theorem 4.2 for a concept with two values.) It acts on all samples, so that what remains keeps
its place relative to what is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from modhifi_graph.observe.moments import Moments
from modhifi_graph.observe.ridge import RIDGE, damped_inverse


@dataclass(frozen=True, eq=False)
class Erasure:
    """``x -> x - direction (reading . (x - mean))`` for rows x of shape (G, rows, p).

    Attributes
    ----------
    direction, reading, mean : shapes (G, p), float64; ``reading . direction`` is 1, or both are zero where the means agree.
    """

    direction: torch.Tensor
    reading: torch.Tensor
    mean: torch.Tensor

    @classmethod
    def between(cls, remain: Moments, forget: Moments, ridge: float = RIDGE) -> Erasure:
        """Of the class that the second set shows, each set counting by its size. O(p^3)."""
        count = remain.count + forget.count
        share = forget.count / count
        direction = forget.mean - remain.mean
        mean = remain.mean + share * direction
        spread = torch.einsum("gi,gj->gij", direction, direction) * share * (1 - share)
        covariance = (1 - share) * remain.covariance + share * forget.covariance + spread
        reading = torch.einsum("gij,gj->gi", damped_inverse(covariance, ridge), direction)
        separation = (reading * direction).sum(-1, keepdim=True)
        return cls(direction, reading / separation.clamp_min(1e-30), mean)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows without what tells the class, in their own type."""
        strength = torch.einsum("grp,gp->gr", rows - self.mean[:, None].to(rows), self.reading.to(rows))
        return rows - strength[:, :, None] * self.direction[:, None].to(rows)
