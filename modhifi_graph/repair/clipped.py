"""Least squares through an activation that clips (ReLU, ReLU6, Clip): only what passes it counts.

Where the target lies beyond a bound, every output beyond that bound is as good. For an output z with target t the loss is
``(t - z)^2`` between the bounds, ``max(z - low, 0)^2`` where t <= low and ``max(high - z, 0)^2`` where t >= high: convex, and
bounded from above by plain least squares to a target that follows z wherever z is good enough already. So each sweep moves
the target and solves the same normal equations again (majorisation and minimisation); their Hessian is never less than the
true one, hence steps up to twice as long still descend. Fitting through ReLU goes back to Zhang et al. 2015
(arXiv 1505.06798), who relax it to alternating fits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from modhifi_graph.observe.moments import second_moment
from modhifi_graph.observe.ridge import damped, damping, solve_right
from modhifi_graph.repair.regression import Regression

SWEEPS = 6
STEP = 1.8
"""Over-relaxation, below 2: six such sweeps get as far as about twelve plain ones."""

SAMPLE_BYTES = 1 << 29
"""The rows that are kept for the sweeps take at most this much memory."""


@dataclass
class Sample:
    """Rows that are looked at again: what a consumer reads, what is wanted, and what is added to its output.

    Attributes
    ----------
    low, high : the bounds of the activation.
    batches : how many batches will come.
    x, target, stream : lists of (G, rows, p), (G, rows, o) and (G, rows, o) tensors; no ``stream`` where nothing is added.
    """

    low: float
    high: float
    batches: int
    x: list[torch.Tensor] = field(default_factory=list)
    target: list[torch.Tensor] = field(default_factory=list)
    stream: list[torch.Tensor] = field(default_factory=list)

    def add(self, x: torch.Tensor, target: torch.Tensor, stream: torch.Tensor | None) -> None:
        """Keep evenly spaced rows of a batch, as many as its share of the memory holds."""
        given = [t for t in (x, target, stream) if t is not None]
        size = self.batches * sum(t.numel() * t.element_size() for t in given)
        every = max(1, math.ceil(size / SAMPLE_BYTES))
        for rows, into in ((x, self.x), (target, self.target), (stream, self.stream)):
            if rows is not None:
                into.append(rows[:, ::every].contiguous())


def refine(
    sample: Sample,
    fit: Regression,
    old: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    ridge: float,
    intercept: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Improve a least squares fit for what passes the activation.

    Parameters
    ----------
    fit : the regression that ``weight`` (G, o, p) and ``bias`` (G, o) come from; without an intercept the bias is zero.
    old : the weight before it, which the correction is counted and damped from.

    Time: O(G rows p o) a sweep.
    """
    covariance = second_moment(fit.moments, intercept)
    factor = torch.linalg.cholesky(damped(covariance, ridge))
    shrink = damping(covariance, ridge)
    x, target = torch.cat(sample.x, 1), torch.cat(sample.target, 1)
    stream = torch.cat(sample.stream, 1) if sample.stream else x.new_zeros(1)
    mean = x.mean(1, dtype=torch.float64)
    rows = x.shape[1]
    if not intercept:
        bias = torch.zeros_like(bias)
    for _ in range(SWEEPS):
        output = torch.baddbmm(bias.to(x)[:, None], x, weight.to(x).transpose(1, 2)) + stream
        residual = wanted(output, target, sample.low, sample.high) - output
        cross = torch.bmm(residual.transpose(1, 2), x).double() / rows - shrink * (weight - old)
        offset = residual.mean(1, dtype=torch.float64)
        if intercept:
            cross -= torch.einsum("go,gp->gop", offset, mean)
        change = STEP * solve_right(cross, factor)
        weight = weight + change
        if intercept:
            bias = bias + STEP * offset - torch.einsum("gop,gp->go", change, mean)
    return weight, bias


def wanted(output: torch.Tensor, target: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """The target, moved to the output wherever that is beyond the same bound."""
    below = torch.where(target <= low, output.clamp(max=low), target)
    return torch.where(target >= high, output.clamp(min=high), below)
