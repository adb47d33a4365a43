"""What the components of a meeting are worth, and its repair.

With weights 1 a meeting (:mod:`modhifi_graph.observe.meeting_moments`) is a consumer like any other, ``logit = 1^T A``, and
block OBS finds what goes and a factor for what stays. Where any matrix can be folded into both projections the repair is
larger: ``Q M K^T`` with M of rank r nearest to ``Q K^T``. With ``A = E[Q^T Q]`` and ``C = E[K^T K]`` (queries and keys taken
as independent of each other) it is the truncated singular value decomposition ``A^1/2 C^1/2 = U S V^T`` (Eckart and Young,
1936):

    M = T_q T_k^T,   T_q = A^-1/2 U_r S_r^1/2,   T_k = C^-1/2 V_r S_r^1/2,   at the cost of sum over i > r of S_i^2,

whichever components are said to stay: they only name the places where the r directions are put. CORP does the same for
DeiT with M restricted to the components that stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch

from modhifi_graph.dialects.program import Weights
from modhifi_graph.observe.meeting_moments import Encounter, summed
from modhifi_graph.observe.ridge import RIDGE, damped, refit
from modhifi_graph.observe.routes import Projection
from modhifi_graph.observe.sites import broadcast_channels, constant_bias
from modhifi_graph.scoring.optimal_brain_surgeon import Eliminator

LEAST = 1e-6
"""A direction counts as no less than this times the largest, so that the maps stay finite where there is none left."""


def eliminator(encounter: Encounter, scale: float) -> Eliminator:
    """Greedy removal of components, with a factor for each that stays."""
    gram = encounter.contributions()
    ones = gram.new_ones(len(gram), 1, gram.shape[-1])
    return Eliminator(ones, gram, torch.arange(gram.shape[-1], device=gram.device)[:, None], scale, RIDGE)


def maps(encounter: Encounter, stays: np.ndarray) -> dict[Projection, np.ndarray]:
    """The repair when the components ``stays`` (sorted) are left: for every projection a matrix over its channels.

    A projection whose output is y is to give ``matrix^T y`` instead. What goes has columns of zeros.
    """
    blocks = _mixed(encounter, len(stays)) if encounter.meeting.mixes else _scaled(encounter, stays)
    columns = encounter.meeting.columns
    left = np.flatnonzero(np.isin(columns, stays))
    found: dict[Projection, np.ndarray] = {}
    for side, each in zip(encounter.meeting.sides, blocks, strict=True):
        size = side.projection.consumer.outputs
        matrix = found.setdefault(side.projection, np.eye(size))
        for channels, unit in zip(side.channels, encounter.meeting.units, strict=True):
            matrix[:, channels] = 0
            matrix[np.ix_(channels, channels[left])] = each[unit] if encounter.meeting.mixes else each[unit][:, left]
    return found


def _mixed(encounter: Encounter, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """T_q and T_k of every unit, shape (units, positions, rank)."""
    heads = np.bincount(encounter.meeting.units)
    counts = torch.from_numpy(heads).to(encounter.queries)[:, None, None]
    a = summed(encounter.queries / encounter.rows, encounter.meeting.units) / counts
    c = summed(encounter.keyed / encounter.keys, encounter.meeting.units) / counts
    (root_a, back_a), (root_c, back_c) = _roots(a), _roots(c)
    u, s, vh = torch.linalg.svd(root_a @ root_c)
    s = s[:, :rank].clamp_min(LEAST * s[:, :1]).sqrt()[:, None]
    left, right = back_a @ u[:, :, :rank] * s, back_c @ vh.transpose(1, 2)[:, :, :rank] * s
    return left.cpu().numpy(), right.cpu().numpy()


def _scaled(encounter: Encounter, stays: np.ndarray) -> tuple[np.ndarray]:
    """For every unit a diagonal matrix with the factor of each position, shape (units, positions, positions)."""
    gram = encounter.contributions()
    ones = gram.new_ones(len(gram), 1, gram.shape[-1])
    factors = refit(ones, gram, torch.from_numpy(stays).to(gram.device), RIDGE)[:, 0, encounter.meeting.columns]
    return (torch.diag_embed(factors).cpu().numpy(),)


def folded(encounters: Iterable[tuple[Encounter, np.ndarray]]) -> dict[Projection, np.ndarray]:
    """The matrices of several repairs together: of each encounter with the components that stay."""
    found: dict[str, tuple[Projection, np.ndarray]] = {}
    for each, stays in encounters:
        for projection, matrix in maps(each, stays).items():
            name = projection.output.name
            known = found.get(name)
            found[name] = (projection, matrix if known is None else known[1] @ matrix)
    return dict(found.values())


def _roots(matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The symmetric square root of each damped matrix, and its inverse."""
    values, vectors = torch.linalg.eigh(damped(matrices, RIDGE))
    roots = values.clamp_min(1e-30).sqrt()[:, None]
    return (vectors * roots) @ vectors.transpose(1, 2), (vectors / roots) @ vectors.transpose(1, 2)


def changes(matrices: Mapping[Projection, np.ndarray]) -> dict[str, Weights]:
    """The projections with the repair in them: by the name of each one's output, for
    :meth:`modhifi_graph.dialects.program.Stepper.outcome`.
    """
    found = {}
    for projection, matrix in matrices.items():
        consumer, bias = projection.consumer, bias_array(projection)
        value = consumer.op.inputs[consumer.contraction.other]
        assert value is not None
        like = value.array()
        weight = consumer.parameter(mixed(consumer.weight(), matrix), like)
        shift = broadcast_channels(consumer, bias @ matrix - bias)
        found[consumer.y.name] = (consumer.contraction.other, weight, shift.astype(like.dtype))
    return found


def mixed(weight: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The weight of ``matrix^T y``, shape (1, o', p), for y = W x with W of shape (1, o, p)."""
    return np.asarray(matrix.T @ weight.astype(np.float64))


def bias_array(projection: Projection) -> np.ndarray:
    """The bias of a projection, shape (o,); zeros where it has none."""
    return constant_bias(projection.bias, projection.consumer).reshape(-1)
