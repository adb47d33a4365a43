"""The one statistic: the mean and the second moment of what a consumer reads.

``m = E[x]`` and ``S = E[x x^T]`` of the unfolded input, accumulated in float64 from batches. Sums add, so shards merge
exactly. ``C = S - m m^T`` is the covariance; everything downstream is linear algebra on (W, C, m).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

BLOCK = 128
"""Products are symmetric: only blocks of this many inputs on and above the diagonal are multiplied. That makes them as fast in
float64 as whole ones in float32, so that nothing is lost to rounding, however many rows there are."""


@dataclass
class Moments:
    """Running sums over rows of ``x``, shape (G, rows, p), shifted by ``origin`` so that centring loses no digits.

    Attributes
    ----------
    count : rows seen.
    origin : the shift, shape (G, p): the mean of the first batch.
    first : sums of (x - origin), shape (G, p), float64.
    upper : sums of the outer products of (x - origin), shape (G, p, p), float64, valid on and above the diagonal blocks.
    """

    count: int
    origin: torch.Tensor
    first: torch.Tensor
    upper: torch.Tensor

    @classmethod
    def of(cls, rows: torch.Tensor) -> Moments:
        """Moments of one batch of rows, shape (G, rows, p)."""
        origin = rows.mean(1)
        return cls(0, origin, torch.zeros_like(origin, dtype=torch.float64), _zeros(origin)).add(rows)

    def add(self, rows: torch.Tensor) -> Moments:
        """Add a batch of rows in place, all in float64. O(G rows p^2)."""
        shifted = rows - self.origin[:, None].double()
        self.count += rows.shape[1]
        self.first += shifted.sum(1)
        for own, right in _blocks(rows.shape[-1]):
            self.upper[:, own, right].baddbmm_(shifted[:, :, own].transpose(1, 2), shifted[:, :, right])
        return self

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets of rows, exact whatever their origins."""
        shift = (other.origin - self.origin).double()
        moved = other.first + other.count * shift
        cross = torch.einsum("gi,gj->gij", other.first, shift)
        second = other.second + cross + cross.transpose(1, 2) + other.count * torch.einsum("gi,gj->gij", shift, shift)
        return Moments(self.count + other.count, self.origin, self.first + moved, self.second + second)

    @property
    def second(self) -> torch.Tensor:
        """Sums of the outer products of (x - origin), shape (G, p, p), float64."""
        for own, _ in _blocks(self.upper.shape[-1]):
            below = slice(own.stop, None)
            self.upper[:, below, own] = self.upper[:, own, below].transpose(1, 2)
        return self.upper

    @property
    def mean(self) -> torch.Tensor:
        """m, shape (G, p)."""
        return self.origin.double() + self.first / self.count

    @property
    def covariance(self) -> torch.Tensor:
        """C, shape (G, p, p)."""
        shift = self.first / self.count
        return torch.baddbmm(self.second, shift[:, :, None], shift[:, None], beta=1 / self.count, alpha=-1)


def _blocks(inputs: int) -> Iterator[tuple[slice, slice]]:
    """The rows of every block on the diagonal, and the columns from there on."""
    for start in range(0, inputs, BLOCK):
        yield slice(start, start + BLOCK), slice(start, None)


def _zeros(origin: torch.Tensor) -> torch.Tensor:
    return torch.zeros((*origin.shape, origin.shape[-1]), dtype=torch.float64, device=origin.device)


def merged(matrices: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
    """Symmetric matrices (n, p, p) with rows and columns summed by owner, shape (p,): over inputs, then over components."""
    count = int(owner.max()) + 1
    for _ in range(2):
        half = matrices.new_zeros(len(matrices), count, matrices.shape[2])
        matrices = half.index_add(1, owner, matrices).transpose(1, 2)
    return matrices


def second_moment(moments: Moments, centred: bool = True) -> torch.Tensor:
    """C, or ``E[x x^T] = C + m m^T`` where there is no intercept to take up the mean. Shape (G, p, p)."""
    return moments.covariance if centred else moments.covariance + outer(moments.mean, moments.mean)


def outer(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``a b^T`` of every part, shape (G, i, j)."""
    return torch.einsum("gi,gj->gij", a, b)
