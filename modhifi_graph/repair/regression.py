"""Affine least squares from streamed rows: the closed form that repairs a consumer.

Given rows of inputs ``x`` and of what the consumer should have produced, ``t``, the correction that minimises
``E||t - (W + D) x - b'||^2 + lambda ||D||^2`` is ``D = Cov(t - W x, x) (Cov(x) + lambda I)^-1``, ``b' = E[t] - (W + D) E[x]``.
Shrinking the correction, not the weight, keeps what the calibration set does not show as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from modhifi_graph.observe.moments import Moments, outer
from modhifi_graph.observe.ridge import damped, solve_right


@dataclass(frozen=True, eq=False)
class Statistics:
    """First and second moments of inputs and targets, in float64: all that the regression needs.

    Attributes
    ----------
    x, t : means, shapes (G, p) and (G, o).
    covariance, cross : centred ``E[x x^T]`` and ``E[t x^T]``, shapes (G, p, p) and (G, o, p).
    """

    x: torch.Tensor
    t: torch.Tensor
    covariance: torch.Tensor
    cross: torch.Tensor

    def solve(self, weight: torch.Tensor, ridge: float, intercept: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """The corrected weight and bias for the old W, shapes (G, o, p) and (G, o). O(p^3 + o p^2).

        Without an intercept the correction is fitted around zero, and the bias is what is left over of the mean.
        """
        covariance, cross = self.covariance, self.cross
        if not intercept:
            covariance, cross = covariance + outer(self.x, self.x), cross + outer(self.t, self.x)
        factor = torch.linalg.cholesky(damped(covariance, ridge))
        corrected = weight + solve_right(cross - weight @ covariance, factor)
        return corrected, self.t - torch.einsum("gop,gp->go", corrected, self.x)


@dataclass
class Regression:
    """Running sums for one consumer of G parts, in float64.

    Attributes
    ----------
    moments : of the inputs.
    origin : the mean of the first batch of targets, which all are shifted by, shape (G, o).
    first, cross : sums of shifted targets, and of their products with the shifted inputs, shapes (G, o) and (G, o, p).
    """

    moments: Moments
    origin: torch.Tensor
    first: torch.Tensor
    cross: torch.Tensor

    @classmethod
    def of(cls, x: torch.Tensor, t: torch.Tensor) -> Regression:
        """Start from one batch of rows, shapes (G, rows, p) and (G, rows, o)."""
        moments, origin = Moments.of(x), t.mean(1)
        shifted = t - origin[:, None]
        return cls(moments, origin, shifted.sum(1, dtype=torch.float64), _products(shifted, x, moments))

    def add(self, x: torch.Tensor, t: torch.Tensor) -> Regression:
        """Add a batch of rows in place."""
        self.moments.add(x)
        shifted = t - self.origin[:, None]
        self.first += shifted.sum(1, dtype=torch.float64)
        self.cross += _products(shifted, x, self.moments)
        return self

    @property
    def count(self) -> int:
        return self.moments.count

    def ridge(self, least: float) -> float:
        """The relative damping: at least ``least``, and more the fewer rows an input has (a tenth at one row an input)."""
        return least + 0.1 * min(1.0, self.cross.shape[-1] / self.count) ** 2

    def solve(self, weight: torch.Tensor, ridge: float, intercept: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """The corrected weight and bias, shapes (G, o, p) and (G, o); without an intercept the bias is what is left over."""
        return self.statistics().solve(weight, ridge, intercept)

    def statistics(self) -> Statistics:
        """What the sums come to."""
        shift, first = self.moments.first / self.count, self.first / self.count
        cross = self.cross / self.count - outer(first, shift)
        return Statistics(self.moments.mean, self.origin.double() + first, self.moments.covariance, cross)


def _products(shifted: torch.Tensor, x: torch.Tensor, moments: Moments) -> torch.Tensor:
    return torch.bmm(shifted.transpose(1, 2), x - moments.origin[:, None]).double()
