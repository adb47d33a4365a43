"""Two sets of samples, one least squares problem: change little on what remains, reach another target on what is forgotten.

With inputs x, old outputs ``W x + b`` and targets t, the correction that minimises

    E_remain||t - W' x - b'||^2 + mu E_forget||t - W' x - b'||^2 + lambda ||W' - W||^2

is the affine regression on the mixture of both sets, weighted 1 : mu. Statistics of a mixture are sums: with weights w_i that
add up to one, ``m = sum w_i m_i`` and ``C = sum w_i (C_i + (m_i - m)(m_i - m)^T)``, and the same for the cross moments. Without
an intercept and with the target zero on the forget set this is ``W' = W S_r (S_r + mu S_f)^-1`` on the second moments S.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from modhifi_graph.fidelity.moments import Moments
from modhifi_graph.fidelity.regression import Regression
from modhifi_graph.fidelity.ridge import damped, solve_right


@dataclass(frozen=True, eq=False)
class Joint:
    """First and second moments of inputs and targets, in float64.

    Attributes
    ----------
    x, t : means, shapes (G, p) and (G, o).
    covariance, cross : centred ``E[x x^T]`` and ``E[t x^T]``, shapes (G, p, p) and (G, o, p).
    """

    x: torch.Tensor
    t: torch.Tensor
    covariance: torch.Tensor
    cross: torch.Tensor

    @classmethod
    def of(cls, seen: Regression) -> Joint:
        """What a regression has summed up."""
        shift, first = seen.moments.first / seen.count, seen.first / seen.count
        cross = seen.cross / seen.count - _outer(first, shift)
        return cls(seen.moments.mean, seen.origin.double() + first, seen.moments.covariance, cross)

    @classmethod
    def prior(cls, weight: torch.Tensor, bias: torch.Tensor, forget: Moments) -> Joint:
        """In place of samples that remain: inputs in every direction alike, as large as those of the forget set.

        Their second moment is ``s I`` with s the mean square of an input, and their target is what the layer computes.
        Shapes (G, o, p) and (G, o), float64.
        """
        square = forget.covariance.diagonal(dim1=1, dim2=2) + forget.mean.square()
        scale = square.mean(-1).clamp_min(1e-30)[:, None, None]
        identity = torch.eye(weight.shape[-1], dtype=weight.dtype, device=weight.device)
        return cls(torch.zeros_like(forget.mean), bias, scale * identity, scale * weight)

    def solve(self, weight: torch.Tensor, ridge: float, intercept: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """W' and b' for the old W, shapes (G, o, p) and (G, o); without an intercept b' is zero. O(p^3 + o p^2)."""
        covariance, cross = self.covariance, self.cross
        if not intercept:
            covariance, cross = covariance + _outer(self.x, self.x), cross + _outer(self.t, self.x)
        factor = torch.linalg.cholesky(damped(covariance, ridge))
        solved = weight + solve_right(cross - weight @ covariance, factor)
        bias = self.t - torch.einsum("gop,gp->go", solved, self.x) if intercept else torch.zeros_like(self.t)
        return solved, bias


def mixture(parts: Sequence[tuple[float, Joint]]) -> Joint:
    """The statistics of sets that count in proportion to the given weights, above zero or zero, whatever their sizes."""
    total = sum(weight for weight, _ in parts)
    shares = [(weight / total, joint) for weight, joint in parts]
    x = sum_of([share * joint.x for share, joint in shares])
    t = sum_of([share * joint.t for share, joint in shares])
    covariance = sum_of([s * (j.covariance + _outer(j.x - x, j.x - x)) for s, j in shares])
    cross = sum_of([s * (j.cross + _outer(j.t - t, j.x - x)) for s, j in shares])
    return Joint(x, t, covariance, cross)


def sum_of(terms: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum of tensors of one shape."""
    return torch.stack(list(terms)).sum(0)


def _outer(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.einsum("gi,gj->gij", a, b)
