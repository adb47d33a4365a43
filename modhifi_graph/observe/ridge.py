"""Damped normal equations: the one place that makes a covariance invertible and solves with it."""

from __future__ import annotations

import torch

RIDGE = 1e-4
"""Damping relative to the mean diagonal of C, as in the paper's delta*."""

LEAST = 1e-12
"""Where nothing ever varies the damping is this, so that every factor exists."""


def damping(covariance: torch.Tensor, ridge: float) -> torch.Tensor:
    """lambda = ridge * mean(diag C) of each part, shape (..., 1, 1), for C of shape (..., p, p)."""
    return (ridge * covariance.diagonal(dim1=-2, dim2=-1).mean(-1)).clamp_min(LEAST)[..., None, None]


def damped(covariance: torch.Tensor, ridge: float) -> torch.Tensor:
    """``C + lambda I``."""
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    return covariance + damping(covariance, ridge) * identity


def damped_inverse(covariance: torch.Tensor, ridge: float) -> torch.Tensor:
    """``(C + lambda I)^-1``, shape (..., p, p). O(p^3)."""
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    # LAPACK's own inverse from a factor (potri) takes five times as long.
    return torch.cholesky_solve(identity.expand_as(covariance), torch.linalg.cholesky(damped(covariance, ridge)))


def solve_right(right: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """``right A^-1`` for ``right`` of shape (G, o, p) and the Cholesky factor of A, shape (G, p, p)."""
    return torch.cholesky_solve(right.transpose(1, 2), factor).transpose(1, 2)


def refit(weight: torch.Tensor, covariance: torch.Tensor, stays: torch.Tensor, ridge: float = RIDGE) -> torch.Tensor:
    """W with the inputs that do not stay zeroed and the others refitted; the correction is damped, not the weight.

    ``W'[:, K] = W[:, K] + W[:, gone] C[gone, K] (C + lambda I)[K, K]^-1`` minimises ``E||(W - W') x||^2`` plus
    ``lambda ||W - W'||^2``, as block OBS does component by component.

    Parameters
    ----------
    weight : (G, o, p) tensor.
    covariance : (G, p, p) tensor.
    stays : positions of the inputs that stay.
    """
    gone = torch.ones(weight.shape[-1], dtype=torch.bool, device=weight.device)
    gone[stays] = False
    factor = torch.linalg.cholesky(damped(covariance, ridge)[:, stays[:, None], stays])
    result = torch.zeros_like(weight)
    result[:, :, stays] = weight[:, :, stays] + solve_right(
        weight[:, :, gone] @ covariance[:, gone][:, :, stays], factor
    )
    return result
