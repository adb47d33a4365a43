"""Affine least squares from streamed rows: the closed form that repairs a consumer.

Given rows of inputs ``x`` and of what the consumer should have produced, ``t``, the correction that minimises
``E||t - (W + D) x - b'||^2 + lambda ||D||^2`` is ``D = Cov(t - W x, x) (Cov(x) + lambda I)^-1``, ``b' = E[t] - (W + D) E[x]``.
Shrinking the correction, not the weight, keeps what the calibration set does not show as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass
class Regression:
    """Running sums for one consumer of G parts, shifted by the first batch's means; all sums in float64.

    Attributes
    ----------
    count : rows seen.
    x0, t0 : shifts, shapes (G, p) and (G, o).
    sum_x, sum_t, xx, tx : sums of shifted rows and products, shapes (G, p), (G, o), (G, p, p), (G, o, p).
    """

    count: int
    x0: torch.Tensor
    t0: torch.Tensor
    sum_x: torch.Tensor
    sum_t: torch.Tensor
    xx: torch.Tensor
    tx: torch.Tensor

    @classmethod
    def of(cls, x: torch.Tensor, t: torch.Tensor) -> Regression:
        """Start from one batch of rows, shapes (G, rows, p) and (G, rows, o)."""
        x0, t0 = x.mean(1), t.mean(1)
        wide = x0.new_zeros((*x0.shape, x0.shape[1]), dtype=torch.float64)
        tall = x0.new_zeros((*t0.shape, x0.shape[1]), dtype=torch.float64)
        return cls(0, x0, t0, torch.zeros_like(x0).double(), torch.zeros_like(t0).double(), wide, tall).add(x, t)

    def add(self, x: torch.Tensor, t: torch.Tensor) -> Regression:
        x, t = x - self.x0[:, None], t - self.t0[:, None]
        self.count += x.shape[1]
        self.sum_x += x.sum(1, dtype=torch.float64)
        self.sum_t += t.sum(1, dtype=torch.float64)
        self.xx += torch.bmm(x.transpose(1, 2), x).double()
        self.tx += torch.bmm(t.transpose(1, 2), x).double()
        return self

    def solve(self, weight: torch.Tensor, ridge: float, intercept: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """The corrected weight and bias, shapes (G, o, p) and (G, o); without an intercept the bias is what is left over."""
        mean_x, mean_t = self.sum_x / self.count, self.sum_t / self.count
        xx, tx = self.xx / self.count, self.tx / self.count
        x0, t0 = self.x0.double(), self.t0.double()
        if intercept:
            xx = xx - _outer(mean_x, mean_x)
            tx = tx - _outer(mean_t, mean_x)
        else:
            xx = xx + _outer(x0, mean_x) + _outer(mean_x, x0) + _outer(x0, x0)
            tx = tx + _outer(t0, mean_x) + _outer(mean_t, x0) + _outer(t0, x0)
        damping = (ridge * xx.diagonal(dim1=-2, dim2=-1).mean(-1)).clamp_min(1e-12)
        damped = xx + damping[:, None, None] * torch.eye(xx.shape[-1], dtype=xx.dtype, device=xx.device)
        residual = tx - weight @ xx
        corrected = weight + torch.linalg.solve(damped, residual.transpose(1, 2)).transpose(1, 2)
        bias = (mean_t + t0) - torch.einsum("gop,gp->go", corrected, mean_x + x0)
        return corrected, bias

    def ridge(self, least: float) -> float:
        """The relative damping: at least ``least``, and more the fewer rows an input has (a tenth at one row an input)."""
        return least + 0.1 * min(1.0, self.xx.shape[-1] / self.count) ** 2


def _outer(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.einsum("gi,gj->gij", a, b)
