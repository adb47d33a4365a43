"""What removing each component costs, by every criterion.

For one consumer with weight ``W`` and input covariance ``C``, component i owns the inputs ``P_i`` and contributes
``A_ci = W[c, P_i] x[P_i]`` to output channel c. With ``T = W C``:

- row sum ``R_ci = E<y_c, A_ci> = sum over a in P_i of W[c, a] T[c, a]``;
- energy ``Q_ci = E||A_ci||^2 = W[c, P_i] C[P_i, P_i] W[c, P_i]^T``;
- singleton fidelity ``s_ci = R_ci^2 / (Q_ci E||y_c||^2)``; ``alpha_ci = R_ci / Q_ci``.

ModHiFi (arXiv 2511.19566) uses alpha in its text, the row sum in its appendix, s in its Algorithm 1 and the energy for
language models. ``obs`` is greedy block OBS (see :mod:`modhifi_graph.scoring.optimal_brain_surgeon`): the only one that
knows what the other components can make up for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from modhifi_graph.axes.groups import Group
from modhifi_graph.dialects.program import Weights
from modhifi_graph.observe.consumers import Consumer, weight_of
from modhifi_graph.observe.meeting_moments import Encounter
from modhifi_graph.observe.moments import Moments
from modhifi_graph.observe.ridge import RIDGE, refit
from modhifi_graph.scoring import criteria
from modhifi_graph.scoring.bilinear import changes, eliminator, folded
from modhifi_graph.scoring.optimal_brain_surgeon import Eliminator, removal_order

CRITERIA = criteria.CRITERIA


@dataclass(frozen=True, eq=False)
class Ranking:
    """The order in which a group's components go, and what each removal costs.

    Attributes
    ----------
    order : components, first to go first; the last one never goes.
    costs : the share of its streams' energy that each removal costs on top of those before it, shape (len(order),).
    snapshots : after some numbers of removals, the weights of every consumer, refitted.
    upstream : after the same numbers, what changes before the components are consumed: the projections that a repair of
        queries and keys is folded into, by the names of their outputs.
    """

    group: Group
    order: tuple[int, ...]
    costs: np.ndarray
    snapshots: Mapping[int, Sequence[torch.Tensor]] = field(default_factory=dict)
    upstream: Mapping[int, Mapping[str, Weights]] = field(default_factory=dict)


def rank(
    group: Group,
    consumers: Sequence[Consumer],
    moments: Sequence[Moments],
    scales: Sequence[float],
    criterion: str = "obs",
    seed: int = 0,
    stops: Collection[int] = (),
    encounters: Mapping[Encounter, float] | None = None,
) -> Ranking:
    """Rank the components of one group over all its consumers, and over the meetings of activations that contract them.

    ``scales`` turns a consumer's squared error into a share of a stream (:func:`modhifi_graph.observe.residual_streams.worth`),
    and so does the number beside each of the ``encounters``.
    ``random`` needs no statistics; its costs only say that every component is worth the same.
    """
    encounters = encounters or {}

    def upstream(order: Sequence[int]) -> dict[int, Mapping[str, Weights]]:
        left = {stop: np.setdiff1d(np.arange(group.size), order[:stop]) for stop in stops if encounters}
        return {stop: changes(folded([(e, stays) for e in encounters])) for stop, stays in left.items()}

    if criterion == "obs":
        eliminators = [
            Eliminator(weight_of(c, m.mean), m.covariance, component_inputs(c, group).to(m.mean.device), scale, RIDGE)
            for c, m, scale in zip(consumers, moments, scales, strict=True)
        ]
        eliminators += [eliminator(encounter, scale) for encounter, scale in encounters.items()]
        order, paid, snapshots = removal_order(eliminators, group.size, stops)
        weights = {stop: found[: len(consumers)] for stop, found in snapshots.items()}
        return Ranking(group, tuple(order), np.asarray(paid), weights, upstream(order))
    scores = np.zeros(group.size)
    for consumer, moment, scale in zip(consumers, moments, scales, strict=True):
        scores += component_scores(consumer, moment, group, criterion) * scale
    for encounter, scale in encounters.items():
        scores += meeting_scores(encounter, group, criterion) * scale
    if criterion == "random":
        scores = np.random.default_rng([seed, group.size]).permutation(group.size).astype(float)
    ordered = tuple(int(i) for i in np.argsort(scores, kind="stable")[:-1])
    costs = np.ones(len(ordered)) / group.size if criterion == "random" else np.sort(scores)[:-1]
    refits = {
        stop: [refitted(c, m, group, ordered[:stop]) for c, m in zip(consumers, moments, strict=True)] for stop in stops
    }
    return Ranking(group, ordered, np.maximum(costs, 1e-12), refits, upstream(ordered))


def refitted(consumer: Consumer, moments: Moments, group: Group, gone: Sequence[int]) -> torch.Tensor:
    """W with the inputs of some components zeroed and the others refitted."""
    stays = np.flatnonzero(~np.isin(consumer.columns(group.factor), list(gone)))
    weight = weight_of(consumer, moments.mean)
    return refit(weight, moments.covariance, torch.from_numpy(stays).to(weight.device), RIDGE)


def component_inputs(consumer: Consumer, group: Group) -> torch.Tensor:
    """The input positions each component owns, shape (components, positions)."""
    columns = consumer.columns(group.factor)
    return torch.from_numpy(np.stack([np.flatnonzero(columns == i) for i in range(group.size)]))


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each component of a group contributes to each output channel of one consumer.

    Attributes
    ----------
    rowsum : ``R_ci = E<y_c, A_ci>``, shape (G, components, o).
    energy : ``Q_ci = E||A_ci||^2``, shape (G, components, o), above zero.
    total : ``E||y_c||^2``, shape (G, 1, o), above zero.
    """

    rowsum: torch.Tensor
    energy: torch.Tensor
    total: torch.Tensor

    @classmethod
    def of(cls, weight: torch.Tensor, covariance: torch.Tensor, blocks: torch.Tensor) -> Contributions:
        """Of maps (G, o, p) with inputs of covariance (G, p, p), where component i owns the inputs ``blocks[i]``."""
        target = weight @ covariance
        own = weight[:, :, blocks].permute(0, 2, 1, 3)  # G, components, o, block
        rowsum = (own * target[:, :, blocks].permute(0, 2, 1, 3)).sum(-1)
        inner = covariance[:, blocks[:, :, None], blocks[:, None, :]]
        energy = ((own @ inner) * own).sum(-1).clamp_min(1e-30)
        return cls(rowsum, energy, (target * weight).sum(-1)[:, None].clamp_min(1e-30))

    @property
    def alpha(self) -> torch.Tensor:
        """``alpha_ci = R_ci / Q_ci``, the best scale for the contribution alone. Shape (G, components, o)."""
        return self.rowsum / self.energy

    @property
    def singleton(self) -> torch.Tensor:
        """``s_ci = R_ci^2 / (Q_ci E||y_c||^2)``, the Subset Fidelity of {i}, in [0, 1]. Shape (G, components, o)."""
        return self.rowsum.square() / (self.energy * self.total)

    def summed(self, criterion: str) -> torch.Tensor:
        """One of the four scores over all output channels, in units of their energy, shape (components,)."""
        scores = {
            "energy": lambda: self.energy,
            "rowsum": lambda: self.rowsum,
            "fidelity": lambda: self.singleton * self.total,
            "alpha": lambda: self.alpha * self.total / self.alpha.shape[1],
        }
        return scores[criterion]().sum((0, 2))


def contributions(consumer: Consumer, moments: Moments, group: Group) -> Contributions:
    """The second-order statistics of every contribution of a group to one consumer, centred."""
    weight = weight_of(consumer, moments.mean)
    return Contributions.of(weight, moments.covariance, component_inputs(consumer, group).to(weight.device))


def component_scores(consumer: Consumer, moments: Moments, group: Group, criterion: str) -> np.ndarray:
    """The score of every component at one consumer, in units of the consumer's output energy. Shape (components,)."""
    if criterion == "random":
        return np.zeros(group.size)
    if criterion == "magnitude":
        weight = weight_of(consumer, moments.mean)
        own = weight[:, :, component_inputs(consumer, group).to(weight.device)]
        return own.square().sum((0, 1, 3)).cpu().numpy()
    return contributions(consumer, moments, group).summed(criterion).cpu().numpy()


def meeting_scores(encounter: Encounter, group: Group, criterion: str) -> np.ndarray:
    """The score of every component where two activations meet: the same, with the logit as output. Shape (components,)."""
    if criterion == "random":
        return np.zeros(group.size)
    if criterion == "magnitude":
        return encounter.meeting.magnitudes()
    gram = encounter.contributions()
    energy = gram.diagonal(dim1=1, dim2=2).clamp_min(1e-30)
    total = gram.sum((1, 2)).clamp_min(1e-30)
    found = Contributions(gram.sum(2)[..., None], energy[..., None], total[:, None, None])
    return found.summed(criterion).cpu().numpy()


def output_energy(consumer: Consumer, moments: Moments) -> float:
    """``tr(W C W^T)``: the variance of the output, summed over channels."""
    weight = weight_of(consumer, moments.mean)
    return float(((weight @ moments.covariance) * weight).sum())
