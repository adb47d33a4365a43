"""The scores of one group: what every component means to each layer that reads it, and to all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from modhifi_graph.axes.groups import Group
from modhifi_graph.observe.consumers import Consumer, weight_of
from modhifi_graph.observe.moments import Moments
from modhifi_graph.scoring import criteria
from modhifi_graph.scoring.reconstruction import smallest
from modhifi_graph.scoring.scores import Contributions, component_inputs
from modhifi_graph.scoring.subset import SubsetFidelity

LARGEST_FORWARD = 2048
"""Larger groups are put in order by their singletons instead of greedily."""


ETAS = (0.8, 0.9, 0.99)


@dataclass(frozen=True, eq=False)
class LayerScores:
    """What every component of a group means to one layer that reads it.

    Attributes
    ----------
    name : the parameter that holds the layer's weight.
    op : the op, as messages name it.
    rows : how many rows the statistics rest on.
    contributions : row sums, energies, alpha and singletons for each component and output channel.
    """

    name: str
    op: str
    rows: int
    contributions: Contributions
    _consumer: Consumer = field(repr=False)
    _moments: Moments = field(repr=False)
    _group: Group = field(repr=False)

    def summed(self, criterion: str) -> np.ndarray:
        """A score of every component over all output channels, as a share of the layer's energy, shape (components,)."""
        total = self.contributions.total.sum()
        return (self.contributions.summed(criterion) / total).cpu().numpy()

    @cached_property
    def fidelity(self) -> SubsetFidelity:
        """The paper's Subset Fidelity: a scale for every component and output channel. Memory: O(channels components^2)."""
        return SubsetFidelity.of(*self._problem)

    @cached_property
    def shared(self) -> SubsetFidelity:
        """The same with one scale for every component."""
        return SubsetFidelity.shared(*self._problem)

    @cached_property
    def least_squares(self) -> SubsetFidelity:
        """The same with every weight refitted. From many rows only: see ``rows`` of :func:`modhifi_graph.score`."""
        return SubsetFidelity.least_squares(*self._problem)

    @property
    def _problem(self) -> tuple[Any, Any, np.ndarray]:
        weight = weight_of(self._consumer, self._moments.mean)
        return weight, self._moments.covariance, component_inputs(self._consumer, self._group).numpy()


@dataclass(frozen=True, eq=False)
class GroupScores:
    """The scores of one group, over all layers that read it.

    Attributes
    ----------
    name, kind, size : as `inspect` shows them.
    layers : every layer that reads the group.
    """

    name: str
    kind: str
    size: int
    layers: tuple[LayerScores, ...]

    @cached_property
    def scores(self) -> Mapping[str, np.ndarray]:
        """The paper's scores by name, each (components,): shares of a layer's energy, averaged over layers."""
        return {c: np.mean([layer.summed(c) for layer in self.layers], axis=0) for c in criteria.READINGS}

    @cached_property
    def fidelity(self) -> SubsetFidelity:
        """Subset Fidelity with one scale for every component and layer, averaged over layers."""
        return SubsetFidelity.together([layer.shared for layer in self.layers])

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The components, best first, chosen greedily; by their singletons in groups above LARGEST_FORWARD."""
        return self.fidelity.order("forward" if self.size <= LARGEST_FORWARD else "singletons")

    @cached_property
    def curve(self) -> np.ndarray:
        """The Subset Fidelity of the first 1, 2, ... components of ``order``, shape (size,)."""
        return self.fidelity.curve(self.order)

    def smallest(self, eta: float) -> int:
        """How many components the first set of ``order`` with a Subset Fidelity of ``eta`` has."""
        return smallest(self.curve, eta)

    def to_json(self) -> dict[str, Any]:
        spectrum = np.quantile(self.fidelity.singletons, (0, 0.25, 0.5, 0.75, 1))
        return {
            "name": self.name,
            "kind": self.kind,
            "size": self.size,
            "layers": [{"name": layer.name, "op": layer.op, "rows": layer.rows} for layer in self.layers],
            "singletons": dict(zip(("min", "q25", "median", "q75", "max"), spectrum.tolist(), strict=True)),
            "smallest": {f"{eta:g}": self.smallest(eta) for eta in ETAS},
        }
