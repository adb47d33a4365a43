"""The one statistic: the mean and the second moment of what a consumer reads.

``m = E[x]`` and ``S = E[x x^T]`` of the unfolded input, accumulated in float64 from batches. Sums add, so shards merge
exactly. ``C = S - m m^T`` is the covariance; everything downstream is linear algebra on (W, C, m).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass
class Moments:
    """Running sums over rows of ``x``, shape (G, rows, p), shifted by ``origin`` so that centring loses no digits.

    Attributes
    ----------
    count : rows seen.
    origin : the shift, shape (G, p): the mean of the first batch.
    first, second : sums of (x - origin) and of its outer products, shapes (G, p) and (G, p, p), float64.
    """

    count: int
    origin: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor

    @classmethod
    def of(cls, rows: torch.Tensor) -> Moments:
        """Moments of one batch of rows, shape (G, rows, p)."""
        origin = rows.mean(1)
        return cls(0, origin, torch.zeros_like(origin, dtype=torch.float64), _zeros(origin)).add(rows)

    def add(self, rows: torch.Tensor) -> Moments:
        """Add a batch of rows in place; products in the rows' own precision, sums in float64."""
        shifted = rows - self.origin[:, None]
        self.count += rows.shape[1]
        self.first += shifted.sum(1, dtype=torch.float64)
        self.second += torch.bmm(shifted.transpose(1, 2), shifted).double()
        return self

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets of rows, exact whatever their origins."""
        shift = (other.origin - self.origin).double()
        moved = other.first + other.count * shift
        cross = torch.einsum("gi,gj->gij", other.first, shift)
        second = other.second + cross + cross.transpose(1, 2) + other.count * torch.einsum("gi,gj->gij", shift, shift)
        return Moments(self.count + other.count, self.origin, self.first + moved, self.second + second)

    @property
    def mean(self) -> torch.Tensor:
        """m, shape (G, p)."""
        return self.origin.double() + self.first / self.count

    @property
    def covariance(self) -> torch.Tensor:
        """C, shape (G, p, p)."""
        shift = self.first / self.count
        return self.second / self.count - torch.einsum("gi,gj->gij", shift, shift)


def _zeros(origin: torch.Tensor) -> torch.Tensor:
    return torch.zeros((*origin.shape, origin.shape[-1]), dtype=torch.float64, device=origin.device)
