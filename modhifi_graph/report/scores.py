"""The scores of a model, as they are kept, printed and drawn."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from modhifi_graph.errors import InputError
from modhifi_graph.files import atomic_write
from modhifi_graph.report.plots import draw_scores
from modhifi_graph.scoring.bounds import Bounds
from modhifi_graph.scoring.results import GroupScores


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of a model; ``scores["group"]`` is one group's.

    Attributes
    ----------
    label : what messages call the model.
    samples : how many calibration samples were seen.
    groups : every group that could be scored, in the order of the graph.
    unscored : why each other group was not, by its name.
    warnings : what the user should know about the calibration set.
    seconds : time spent in each stage.
    bounds : how errors travel to the outputs, where that was asked for.
    """

    label: str
    samples: int
    groups: tuple[GroupScores, ...]
    unscored: Mapping[str, str]
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]
    bounds: Bounds | None = None

    def __getitem__(self, name: str) -> GroupScores:
        found = next((group for group in self.groups if group.name == name), None)
        if found is None:
            why = self.unscored.get(name, "modhifi-graph inspect lists the groups")
            raise InputError(f"{self.label}: group {name!r} has no scores: {why}")
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an ``.npz`` that appears whole or not at all.

        For every group ``NAME/fidelity``, ``/alpha``, ``/rowsum`` and ``/energy`` (components,), ``/order`` and ``/curve``; for
        every layer of it ``NAME/LAYER/rowsum`` and ``/energy`` (components, channels) and ``/total`` (channels,).
        """
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **dict(self._arrays()))

    def to_json(self) -> dict[str, Any]:
        """Plain values: every group's size, spectrum and smallest sets, and the bounds."""
        return {
            "model": self.label,
            "samples": self.samples,
            "groups": [group.to_json() for group in self.groups],
            "not_scored": dict(self.unscored),
            "warnings": list(self.warnings),
            "seconds": dict(self.seconds),
            **({} if self.bounds is None else {"bounds": self.bounds.to_json()}),
        }

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the spectrum and the curve of every group; needs matplotlib (the extra ``plot``)."""
        draw_scores(self.label, self.groups, self.samples, path)

    def _arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        for group in self.groups:
            yield from ((f"{group.name}/{name}", array) for name, array in group.scores.items())
            yield f"{group.name}/order", np.array(group.order)
            yield f"{group.name}/curve", group.curve
            seen: Counter[str] = Counter()
            for layer in group.layers:
                seen[layer.name] += 1  # layers may share a weight
                again = f"#{seen[layer.name]}" if seen[layer.name] > 1 else ""
                found, prefix = layer.contributions, f"{group.name}/{layer.name}{again}"
                yield f"{prefix}/rowsum", _by_channel(found.rowsum)
                yield f"{prefix}/energy", _by_channel(found.energy)
                yield f"{prefix}/total", _by_channel(found.total)[0]


def _by_channel(array: Any) -> np.ndarray:
    """(G, components, o) as (components, G o), in single precision."""
    return np.asarray(array.permute(1, 0, 2).flatten(1).float().cpu())
