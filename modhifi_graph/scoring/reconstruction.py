"""The share of a layer's output that a subset of its components reconstructs (ModHiFi, arXiv 2511.19566).

An output channel is a sum of contributions, ``y_c = sum_i A_ci``, one for each component: ``A_ci = W[c, P_i] x[P_i]``. With
``Q_c[i, j] = E<A_ci, A_cj>`` and ``R_c = Q_c 1``

    FS_c(K) = max over delta of 1 - E||y_c - sum_{i in K} delta_i A_ci||^2 / E||y_c||^2
            = R_c[K]^T Q_c[K, K]^-1 R_c[K] / E||y_c||^2,

which is in [0, 1], never falls as K grows, and is the sum of the singletons' where contributions are uncorrelated. A set of
at most k components with FS >= eta is a (k, eta)-HiFi set; the best one of k is the k-MFS, which is NP-hard to find.

All of this is least squares from some of the columns of ``x`` to ``W x``, so one class serves three readings that differ in
what may be refitted: a scale for every component and output channel (the paper's), one for every component, or all weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch

from modhifi_graph.errors import InputError
from modhifi_graph.observe.ridge import damped
from modhifi_graph.scoring.scores import Contributions

NEGLIGIBLE = 1e-10
"""Damping relative to the mean diagonal: makes singular systems solvable, and costs fidelity no more than itself."""

CHUNK = 1 << 22
"""Many subsets are looked at together, as long as their systems have no more numbers than this."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """How much of the output of one layer, or of several that read the same components, any set of components reconstructs.

    Attributes
    ----------
    weight : maps ``y = W x``, one for every output channel of :meth:`of`, shape (G, o, p), float64.
    covariance : of ``x``, shape (G, p, p), float64.
    blocks : the inputs that each component owns in every map, shape (components, block).
    """

    weight: torch.Tensor
    covariance: torch.Tensor
    blocks: torch.Tensor

    @classmethod
    def of(cls, weight: Any, covariance: Any, blocks: Any = None) -> Self:
        """The paper's: every component has a scale of its own in every output channel. Memory: O(o components^2).

        Parameters
        ----------
        weight : array or tensor (o, p), or (G, o, p) for the parts of a grouped convolution
        covariance : array or tensor (p, p) or (G, p, p)
            Of the inputs: centred, as where biases or a batch norm take up means, or plain second moments.
        blocks : array of int (components, block), optional
            Which inputs each component owns; one input each by default.
        """
        w, c, b = _checked(weight, covariance, blocks)
        own = w[:, :, b]  # G, o, components, block
        inner = c[:, b[:, :, None, None], b[None, None]]  # G, components, block, components, block
        grams = torch.einsum("gcia,giajb,gcjb->gcij", own, inner, own).flatten(0, 1)
        return cls._of_grams(grams)

    @classmethod
    def shared(cls, weight: Any, covariance: Any, blocks: Any = None) -> Self:
        """One scale for every component in all output channels together: ``Q = sum_c Q_c``. At most :meth:`of`; O(p^2)."""
        w, c, b = _checked(weight, covariance, blocks)
        return cls._of_grams(shared_gram(w, c, b)[None])

    @classmethod
    def least_squares(cls, weight: Any, covariance: Any, blocks: Any = None) -> Self:
        """Every weight of the components that stay is refitted, as the repair of a pruned layer does. At least :meth:`of`."""
        return cls(*_checked(weight, covariance, blocks))._scaled()

    @classmethod
    def together(cls, layers: Sequence[Reconstruction]) -> Self:
        """Several layers that read the same components; each counts as much as any other, whatever its energy."""
        weights = [layer.weight / layer._total.sum().clamp_min(1e-300).sqrt() for layer in layers]
        return cls(torch.cat(weights), torch.cat([layer.covariance for layer in layers]), layers[0].blocks)

    @classmethod
    def _of_grams(cls, grams: torch.Tensor) -> Self:
        """Contributions are the inputs, and the output is their sum. Shape (channels, components, components)."""
        count = grams.shape[-1]
        return cls(
            grams.new_ones(len(grams), 1, count), grams, torch.arange(count, device=grams.device)[:, None]
        )._scaled()

    def _scaled(self) -> Self:
        """The same with inputs of mean variance one, so that damping means the same everywhere."""
        scale = self.covariance.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-300)[:, None, None]
        return type(self)(self.weight * scale.sqrt(), self.covariance / scale, self.blocks)

    @property
    def components(self) -> int:
        return len(self.blocks)

    @cached_property
    def scores(self) -> Contributions:
        """The paper's four scores of every component: alpha (its text), rowsum (its appendix), singleton (its Algorithm 1)
        and energy (its language models). Shapes (G, components, o)."""
        return Contributions.of(self.weight, self.covariance, self.blocks)

    @cached_property
    def singletons(self) -> np.ndarray:
        """The Subset Fidelity of every component alone, shape (components,)."""
        return self.fidelities(np.arange(self.components)[:, None])

    def fidelity(self, subset: Iterable[int]) -> float:
        """FS of a subset, in [0, 1], over all output channels: ``sum_c E||y_c||^2 FS_c / sum_c E||y_c||^2``."""
        return float(self.fidelities([self._members(subset)])[0])

    def per_channel(self, subset: Iterable[int]) -> np.ndarray:
        """FS of a subset for every output channel, shape (channels,); 1 where a channel never varies."""
        explained = self._explained(torch.tensor([self._members(subset)], device=self.blocks.device))[:, 0]
        return _share(explained, self._total).flatten().cpu().numpy()

    def fidelities(self, subsets: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
        """FS of many subsets of the same size k, shape (subsets, k): O(G k^3) each, for blocks of one."""
        every = torch.as_tensor(np.asarray(subsets, dtype=np.int64), device=self.blocks.device)
        size = self.weight.shape[0] * max(1, every.shape[1] * self.blocks.shape[1]) ** 2
        parts = [self._explained(chunk).sum((0, 2)) for chunk in torch.split(every, max(1, CHUNK // size))]
        return _share(torch.cat(parts), self._total.sum()).cpu().numpy()

    def curve(self, order: Sequence[int]) -> np.ndarray:
        """FS of the first 1, 2, ... components of ``order``, shape (len(order),), by one factorisation. O(G p^3)."""
        inputs = self.blocks[torch.tensor(self._members(order), device=self.blocks.device)].flatten()
        steps = self._half(inputs[None])[:, 0].square().sum((0, 2))  # what each input adds to those before it
        gained = steps.reshape(-1, self.blocks.shape[1]).sum(1).cumsum(0)
        return _share(gained, self._total.sum()).cpu().numpy()

    def _members(self, subset: Iterable[int]) -> list[int]:
        members = [int(i) for i in subset]
        if len(set(members)) < len(members) or not all(0 <= i < self.components for i in members):
            raise InputError(f"subset {members}: expected different components from 0 to {self.components - 1}")
        return members

    @cached_property
    def _target(self) -> torch.Tensor:
        """``W C``, shape (G, o, p)."""
        return self.weight @ self.covariance

    @cached_property
    def _total(self) -> torch.Tensor:
        """``E||y_c||^2``, shape (G, o)."""
        return (self._target * self.weight).sum(-1).clamp_min(0)

    @cached_property
    def _damped(self) -> torch.Tensor:
        return damped(self.covariance, NEGLIGIBLE)

    def _explained(self, subsets: torch.Tensor) -> torch.Tensor:
        """What subsets of shape (subsets, k) reconstruct of ``E||y_c||^2``, shape (G, subsets, o)."""
        return self._half(self.blocks[subsets].flatten(1)).square().sum(2)

    def _half(self, inputs: torch.Tensor) -> torch.Tensor:
        """``L^-1 (C W^T)[K]`` with ``L L^T = C[K, K]`` for inputs (subsets, size): shape (G, subsets, size, o)."""
        inner = self._damped[:, inputs[:, :, None], inputs[:, None]]
        against = self._target[:, :, inputs].permute(0, 2, 3, 1)
        half: torch.Tensor = torch.linalg.solve_triangular(torch.linalg.cholesky(inner), against, upper=False)
        return half


def shared_gram(weight: torch.Tensor, covariance: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
    """``Q[i, j] = sum_c E<A_ci, A_cj> = sum over P_i, P_j of (W^T W) * C``, shape (components, components). O(G o p^2)."""
    every = blocks.flatten()
    each = (weight.transpose(1, 2) @ weight * covariance).sum(0)[every[:, None], every]
    summed: torch.Tensor = each.reshape(*blocks.shape, *blocks.shape).sum((1, 3))
    return summed


def smallest(curve: np.ndarray, eta: float) -> int:
    """How many components the first set of a rising curve that reaches ``eta`` has; all where none does."""
    return min(len(curve), int(np.searchsorted(curve, eta)) + 1)


def _share(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    return torch.where(whole > 0, part / whole.clamp_min(1e-300), torch.ones_like(part)).clamp(0, 1)


def _checked(weight: Any, covariance: Any, blocks: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Float64 tensors of three axes, and blocks."""
    w, c = (_parts(torch.as_tensor(array).to(torch.float64)) for array in (weight, covariance))
    p = w.shape[-1]
    if w.dim() != 3 or c.shape != (len(w), p, p):
        raise InputError(f"weight {tuple(w.shape)} and covariance {tuple(c.shape)}: expected (o, p) and (p, p)")
    b = torch.arange(p)[:, None] if blocks is None else torch.as_tensor(np.asarray(blocks), dtype=torch.long)
    if b.dim() != 2 or len(set(b.flatten().tolist())) != b.numel() or not 0 <= int(b.min()) <= int(b.max()) < p:
        raise InputError(f"blocks {tuple(b.shape)}: expected (components, block), different inputs from 0 to {p - 1}")
    return w, c, b.to(w.device)


def _parts(array: torch.Tensor) -> torch.Tensor:
    return array[None] if array.dim() == 2 else array
