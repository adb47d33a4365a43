"""Two sets of samples, one least squares problem: change little on what remains, reach another target on what is forgotten.

With inputs x, old outputs ``W x + b`` and targets t, the correction that minimises

    E_remain||t - W' x - b'||^2 + mu E_forget||t - W' x - b'||^2 + lambda ||W' - W||^2

is the affine regression on the mixture of both sets, weighted 1 : mu. Statistics of a mixture are sums: with weights w_i that
add up to one, ``m = sum w_i m_i`` and ``C = sum w_i (C_i + (m_i - m)(m_i - m)^T)``, and the same for the cross moments. Without
an intercept and with the target zero on the forget set this is ``W' = W S_r (S_r + mu S_f)^-1`` on the second moments S.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from modhifi_graph.observe.moments import Moments, outer
from modhifi_graph.repair.regression import Statistics


def prior(weight: torch.Tensor, bias: torch.Tensor, forget: Moments) -> Statistics:
    """In place of samples that remain: inputs in every direction alike, as large as those of the forget set.

    Their second moment is ``s I`` with s the mean square of an input, and their target is what the layer computes.
    Shapes (G, o, p) and (G, o), float64.
    """
    square = forget.covariance.diagonal(dim1=1, dim2=2) + forget.mean.square()
    scale = square.mean(-1).clamp_min(1e-30)[:, None, None]
    identity = torch.eye(weight.shape[-1], dtype=weight.dtype, device=weight.device)
    return Statistics(torch.zeros_like(forget.mean), bias, scale * identity, scale * weight)


def mixture(parts: Sequence[tuple[float, Statistics]]) -> Statistics:
    """The statistics of sets that count in proportion to the given weights, above zero or zero, whatever their sizes."""
    total = sum(weight for weight, _ in parts)
    shares = [(weight / total, each) for weight, each in parts]
    x = sum_of([share * each.x for share, each in shares])
    t = sum_of([share * each.t for share, each in shares])
    covariance = sum_of([s * (e.covariance + outer(e.x - x, e.x - x)) for s, e in shares])
    cross = sum_of([s * (e.cross + outer(e.t - t, e.x - x)) for s, e in shares])
    return Statistics(x, t, covariance, cross)


def sum_of(terms: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum of tensors of one shape."""
    return torch.stack(list(terms)).sum(0)
