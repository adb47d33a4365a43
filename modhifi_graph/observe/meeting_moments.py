"""The statistics of a meeting of two activations, and what its components contribute.

Component i contributes ``A_i = sum over d in P_i of q_d k_d`` to a logit. Over all pairs of rows of one sample and head the
Gram of two positions is ``sum over (r, s) of q_rd k_sd q_re k_se = (Q^T Q)[d, e] (K^T K)[d, e]``: an elementwise product of two
small matrices, summed over samples. A softmax does not see what is the same for all keys, so before one the keys are
centred over their rows (masks are not looked at: a masked pair counts like any other).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from modhifi_graph.dialects.program import Program
from modhifi_graph.interface import Feeds
from modhifi_graph.observe.meetings import Meeting
from modhifi_graph.observe.moments import merged


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
        return summed(by_component, self.meeting.units)

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


def summed(matrices: torch.Tensor, units: np.ndarray) -> torch.Tensor:
    """The sums over the heads of every unit, shape (units, ...)."""
    index = torch.from_numpy(units).to(matrices.device)
    return matrices.new_zeros(int(units.max()) + 1, *matrices.shape[1:]).index_add(0, index, matrices)
