"""The statistics of a meeting, what its components contribute, and its repair.

Component i contributes ``A_i = sum over d in P_i of q_d k_d`` to a logit. Over all pairs of rows of one sample and head the
Gram of two positions is ``sum over (r, s) of q_rd k_sd q_re k_se = (Q^T Q)[d, e] (K^T K)[d, e]``: an elementwise product of two
small matrices, summed over samples. A softmax does not see what is the same for all keys, so before one the keys are
centred over their rows (masks are not looked at: a masked pair counts like any other).

With weights 1 this is a consumer like any other, ``logit = 1^T A``, and block OBS finds what goes and a factor for what
stays. Where any matrix can be folded into both projections the repair is larger: ``Q M K^T`` with M of rank r nearest to
``Q K^T``. With ``A = E[Q^T Q]`` and ``C = E[K^T K]`` (queries and keys taken as independent of each other) it is the truncated
singular value decomposition ``A^1/2 C^1/2 = U S V^T`` (Eckart and Young, 1936):

    M = T_q T_k^T,   T_q = A^-1/2 U_r S_r^1/2,   T_k = C^-1/2 V_r S_r^1/2,   at the cost of sum over i > r of S_i^2,

whichever components are said to stay: they only name the places where the r directions are put. CORP does the same for
DeiT with M restricted to the components that stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from modhifi_graph.dialects.program import Feeds, Program, Weights
from modhifi_graph.observe.meetings import Meeting
from modhifi_graph.observe.moments import merged
from modhifi_graph.observe.ridge import RIDGE, damped, refit
from modhifi_graph.observe.routes import Projection
from modhifi_graph.observe.sites import broadcast_channels, constant_bias
from modhifi_graph.scoring.obs import Eliminator

LEAST = 1e-6
"""A direction counts as no less than this times the largest, so that the maps stay finite where there is none left."""


@dataclass(eq=False)
class Encounter:
    """Running sums over the instances of one meeting, in float64.

    Attributes
    ----------
    pairs, rows, keys : how many pairs of rows, rows of q and rows of k were seen in every head.
    gram : the Hadamard product of (Q^T Q) and (K^T K), summed, shape (heads, positions, positions).
    queries, keyed : Q^T Q and K^T K, summed, of the same shape.
    """

    meeting: Meeting
    pairs: int = 0
    rows: int = 0
    keys: int = 0
    gram: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    queries: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    keyed: torch.Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, q: torch.Tensor, k: torch.Tensor) -> None:
        """Add a batch of operands, as the graph has them. O(instances rows positions^2) a head."""
        q, k = (x.float() for x in self.meeting.instances(q, k))
        if self.meeting.softmax is not None:
            k = k - k.mean(2, keepdim=True)
        left, right = (x.transpose(2, 3) @ x for x in (q, k))
        instances = q.shape[1]
        self.pairs += instances * q.shape[2] * k.shape[2]
        self.rows += instances * q.shape[2]
        self.keys += instances * k.shape[2]
        self.gram = self.gram.to(q.device) + (left.double() * right.double()).sum(1)
        self.queries = self.queries.to(q.device) + left.double().sum(1)
        self.keyed = self.keyed.to(q.device) + right.double().sum(1)

    def contributions(self) -> torch.Tensor:
        """``E[A_i A_j]`` of the components in every unit, summed over its heads. Shape (units, components, components)."""
        columns = torch.from_numpy(self.meeting.columns).to(self.gram.device)
        by_component = merged(self.gram / self.pairs, columns)
        return _summed(by_component, self.meeting.units)

    def worth(self, share: float) -> float:
        """What one unit of squared error counts where what the logits decide makes up ``share`` of a stream.

        Before a softmax an error e moves the weights of the keys by a divergence of about Var(e) / 2, averaged over heads, but
        all of the logits count for no more than the share. Without one they count for the share.
        """
        energy = max(float(self.contributions().sum()), 1e-30)
        if self.meeting.softmax is None:
            return share / energy
        heads = len(self.meeting.units)
        return share / max(heads / self.meeting.softmax**2, energy)

    def eliminator(self, scale: float) -> Eliminator:
        """Greedy removal of components, with a factor for each that stays."""
        gram = self.contributions()
        ones = gram.new_ones(len(gram), 1, gram.shape[-1])
        return Eliminator(ones, gram, torch.arange(gram.shape[-1], device=gram.device)[:, None], scale, RIDGE)

    def maps(self, stays: np.ndarray) -> dict[Projection, np.ndarray]:
        """The repair when the components ``stays`` (sorted) are left: for every projection a matrix over its channels.

        A projection whose output is y is to give ``matrix^T y`` instead. What goes has columns of zeros.
        """
        blocks = self._mixed(len(stays)) if self.meeting.mixes else self._scaled(stays)
        columns = self.meeting.columns
        left = np.flatnonzero(np.isin(columns, stays))
        found: dict[Projection, np.ndarray] = {}
        for side, maps in zip(self.meeting.sides, blocks, strict=True):
            size = side.projection.consumer.outputs
            matrix = found.setdefault(side.projection, np.eye(size))
            for channels, unit in zip(side.channels, self.meeting.units, strict=True):
                matrix[:, channels] = 0
                matrix[np.ix_(channels, channels[left])] = maps[unit] if self.meeting.mixes else maps[unit][:, left]
        return found

    def _mixed(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """T_q and T_k of every unit, shape (units, positions, rank)."""
        heads = np.bincount(self.meeting.units)
        counts = torch.from_numpy(heads).to(self.queries)[:, None, None]
        a = _summed(self.queries / self.rows, self.meeting.units) / counts
        c = _summed(self.keyed / self.keys, self.meeting.units) / counts
        (root_a, back_a), (root_c, back_c) = _roots(a), _roots(c)
        u, s, vh = torch.linalg.svd(root_a @ root_c)
        s = s[:, :rank].clamp_min(LEAST * s[:, :1]).sqrt()[:, None]
        left, right = back_a @ u[:, :, :rank] * s, back_c @ vh.transpose(1, 2)[:, :, :rank] * s
        return left.cpu().numpy(), right.cpu().numpy()

    def _scaled(self, stays: np.ndarray) -> tuple[np.ndarray]:
        """For every unit a diagonal matrix with the factor of each position, shape (units, positions, positions)."""
        gram = self.contributions()
        ones = gram.new_ones(len(gram), 1, gram.shape[-1])
        factors = refit(ones, gram, torch.from_numpy(stays).to(gram.device), RIDGE)[:, 0, self.meeting.columns]
        return (torch.diag_embed(factors).cpu().numpy(),)


def encounter(
    program: Program, meetings: Sequence[Meeting], batches: Sequence[Feeds], threads: int = 0
) -> dict[Meeting, Encounter]:
    """The statistics of some meetings, from one pass over the calibration inputs."""
    found = {meeting: Encounter(meeting) for meeting in meetings}
    names = list(dict.fromkeys(value.name for meeting in meetings for value in meeting.operands))
    for results in program.results(batches, names, threads) if meetings else ():
        for meeting, each in found.items():
            q, k = meeting.operands
            each.add(results[q.name], results[k.name])
    return found


def folded(encounters: Iterable[tuple[Encounter, np.ndarray]]) -> dict[Projection, np.ndarray]:
    """The matrices of several repairs together: of each encounter with the components that stay."""
    found: dict[str, tuple[Projection, np.ndarray]] = {}
    for each, stays in encounters:
        for projection, matrix in each.maps(stays).items():
            name = projection.output.name
            known = found.get(name)
            found[name] = (projection, matrix if known is None else known[1] @ matrix)
    return dict(found.values())


def _roots(matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The symmetric square root of each damped matrix, and its inverse."""
    values, vectors = torch.linalg.eigh(damped(matrices, RIDGE))
    roots = values.clamp_min(1e-30).sqrt()[:, None]
    return (vectors * roots) @ vectors.transpose(1, 2), (vectors / roots) @ vectors.transpose(1, 2)


def _summed(matrices: torch.Tensor, units: np.ndarray) -> torch.Tensor:
    index = torch.from_numpy(units).to(matrices.device)
    return matrices.new_zeros(int(units.max()) + 1, *matrices.shape[1:]).index_add(0, index, matrices)


def changes(matrices: Mapping[Projection, np.ndarray]) -> dict[str, Weights]:
    """The projections with the repair in them: by the name of each one's output, for :meth:`Stepper.outcome`."""
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
