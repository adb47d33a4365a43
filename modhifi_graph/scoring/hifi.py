"""HiFi sets: which components no consumer needs, as ModHiFi-P has it (arXiv 2511.19566).

A component goes only if it is in nobody's HiFi set: the union is kept. So it goes as soon as the p that HiFi sets give up
reaches its *claim*. Whose sets these are, and what p counts, can be read in two ways (:data:`SETS`).

``channel`` is the text to the letter. At percentile p every output channel c of every consumer gives up the lowest p of its
contributions, by a score; the others are its HiFi set:

    claim_i = max over consumers and their output channels c of (1 + number of components that score lower in c) / components

``layer`` takes the definition, a set with at least eta of the fidelity, for a whole layer, and is the default: it is what all
layers have in common, while a count of components is worth more in one layer than in another. A consumer's HiFi set is the
smallest set of its highest scores that holds more than a share eta of their sum. What the others hold may make up p of the
stream that the output joins, of which it is the share w (:func:`modhifi_graph.observe.residual_streams.worth`, in (0, 1]; 1
where there is no stream): eta = 1 - p / w. Over output channels scores are added up by the energy of these; those below zero
count as zero:

    claim_i = max over consumers of w (sum over components j that score no higher than i of score_j) / sum over all of score_j

As fidelities of uncorrelated contributions add up, that share is then the Subset Fidelity itself. The paper knows no w: it
bounds the error of the network by those of its layers, whatever they join.

What a consumer does not feed on at all is in no HiFi set of it, whatever p. At p = 1 the HiFi sets are empty: every component
that is left is somebody's first. Among equal claims those go first that score lowest in the whole layer (in the output
channel where they score highest).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from modhifi_graph.axes.groups import Group
from modhifi_graph.axes.layout import Layout
from modhifi_graph.observe.moments import Moments, second_moment
from modhifi_graph.observe.windows import Window
from modhifi_graph.scoring import criteria
from modhifi_graph.scoring.scores import Contributions

CRITERIA, SETS = criteria.READINGS, criteria.SETS

NOTHING = 1e-12
"""An energy below this share of the largest is rounding."""


def score(found: Contributions, criterion: str) -> torch.Tensor:
    """One of :data:`CRITERIA` for every contribution. Shape (G, components, o)."""
    readings = {
        "fidelity": lambda: found.singleton,
        "alpha": lambda: found.alpha,
        "rowsum": lambda: found.rowsum,
        "energy": lambda: found.energy,
    }
    return readings[criterion]()


def standings(found: Contributions, criterion: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The share of components that score no higher, in (0, 1], within the output channel and within the layer.

    It is 0 where the channel does not feed on the component. Ties go by position. Shapes (G, components, o).
    """
    scores = score(found, criterion)
    lives = (found.total > NOTHING * found.total.max()) & (found.energy > NOTHING * found.total)
    within = (_ranks(scores, 1) + 1) / scores.shape[1]
    overall = (_ranks(scores.flatten(), 0) + 1) / scores.numel()
    return torch.where(lives, within, 0.0), torch.where(lives, overall.reshape(scores.shape), 0.0)


def shares(found: Contributions, criterion: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What share of the layer's scores the components hold that score no higher, in [0, 1], and how many these are, likewise.

    Both are 0 where the layer does not feed on the component. Ties go by position. Shapes (components,).
    """
    lives = found.energy.sum((0, 2)) > NOTHING * found.total.sum()
    scores = torch.where(lives, found.summed(criterion), 0.0)
    order = scores.argsort(stable=True)
    held = scores.clamp_min(0)[order].cumsum(0)
    share = torch.zeros_like(scores).scatter_(0, order, held / held[-1].clamp_min(1e-300))
    return share, torch.where(lives, (_ranks(scores, 0) + 1) / len(scores), 0.0)


def _claimed(found: Contributions, criterion: str, sets: str, worth: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The claims of one consumer and the standings in it, shapes (components,)."""
    if sets == "layer":
        share, overall = shares(found, criterion)
        return worth * share, overall
    within, overall = standings(found, criterion)
    return within.amax((0, 2)), overall.amax((0, 2))


def _ranks(scores: torch.Tensor, dim: int) -> torch.Tensor:
    return scores.argsort(dim=dim, stable=True).argsort(dim=dim).double()


@dataclass
class Claims:
    """What the consumers of one group say about its components that are left.

    Attributes
    ----------
    group : the group.
    components : those that are left, sorted.
    within : the claim of each, shape (len(components),).
    overall : its standing in the layer where that is highest, shape (len(components),).
    """

    group: Group
    components: np.ndarray
    within: np.ndarray
    overall: np.ndarray

    @classmethod
    def none(cls, group: Group, components: np.ndarray) -> Claims:
        return cls(group, components, np.zeros(len(components)), np.zeros(len(components)))

    def add(self, within: torch.Tensor, overall: torch.Tensor) -> None:
        """What one more consumer says, shapes (components,)."""
        self.within = np.maximum(self.within, within.cpu().numpy())
        self.overall = np.maximum(self.overall, overall.cpu().numpy())


def claims(
    seen: Sequence[tuple[Window, torch.Tensor, Moments]],
    members: Mapping[Group, Sequence[str]],
    keep: Mapping[Layout, np.ndarray],
    criterion: str,
    sets: str = "layer",
    worth: Mapping[str, float] | None = None,
) -> list[Claims]:
    """The claims on what is left of every group.

    Parameters
    ----------
    seen : every consumer of the current model, its weight (G, o, p) and the moments of what it reads.
    members : the groups and the output names of their consumers.
    keep : what is left of the groups that were cut.
    criterion : one of :data:`CRITERIA`.
    sets : one of :data:`SETS`.
    worth : w by the name of a consumer's output, for sets of layers; 1 where it is not there.
    """
    found = {g: Claims.none(g, keep.get(g.factor, np.arange(g.size))) for g in members}
    for window, weight, moments in seen:
        second = second_moment(moments, is_centred(window))
        mine = [group for group, names in members.items() if window.dense.y.name in names]
        for family in _families(window, mine):
            each = [Contributions.of(weight, second, _inputs(window, found[g]).to(weight.device)) for g in family]
            joint = Contributions(
                torch.cat([c.rowsum for c in each], 1), torch.cat([c.energy for c in each], 1), each[0].total
            )
            sizes = [len(found[group].components) for group in family]
            within, overall = _claimed(joint, criterion, sets, (worth or {}).get(window.dense.y.name, 1.0))
            for group, a, b in zip(family, torch.split(within, sizes), torch.split(overall, sizes), strict=True):
                found[group].add(a, b)
    return list(found.values())


def is_centred(window: Window) -> bool:
    """Whether variations about the mean are what counts: where a bias, or a batch norm that follows, takes up the mean.

    This is how the paper has it: covariances for networks with batch norms, energies for language models without biases.
    """
    bias = window.site.bias
    return window.site.normalised or (bias is not None and bias[0].input(bias[1]) is not None)


def _inputs(window: Window, claim: Claims) -> torch.Tensor:
    """The inputs of a slim consumer that each component owns, shape (components, positions)."""
    owner = window.dense.columns(claim.group.factor)[window.columns]
    return torch.from_numpy(np.stack([np.flatnonzero(owner == i) for i in claim.components]))


def _families(window: Window, groups: Sequence[Group]) -> list[list[Group]]:
    """Groups whose components share no input: those of a concatenation compete, those of a product (heads, dims) do not."""
    families: list[tuple[np.ndarray, list[Group]]] = []
    for group in groups:
        mine = window.dense.columns(group.factor) >= 0
        number = next((i for i, (taken, _) in enumerate(families) if not (taken & mine).any()), len(families))
        taken, family = families.pop(number) if number < len(families) else (np.zeros_like(mine), [])
        families.insert(number, (taken | mine, [*family, group]))
    return [family for _, family in families]
