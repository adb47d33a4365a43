"""Scoring without pruning: the Subset Fidelity of every group of a model, the paper's scores, and the sets they make."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Group, find_groups
from modhifi_graph.errors import InputError
from modhifi_graph.files import atomic_write
from modhifi_graph.frontends.frontend import Batches, FrontEnd
from modhifi_graph.inputs.images import Preprocess
from modhifi_graph.jobs.optimize import is_module, opened
from modhifi_graph.models.opening import Source
from modhifi_graph.observe.consumers import Consumer, weight_of
from modhifi_graph.observe.moments import Moments
from modhifi_graph.observe.observe import observe
from modhifi_graph.options.options import Options
from modhifi_graph.progress import Progress, silent
from modhifi_graph.scoring import criteria
from modhifi_graph.scoring.analysis import scorable
from modhifi_graph.scoring.bounds import Bounds, bounds_of
from modhifi_graph.scoring.scores import Contributions, component_inputs, contributions
from modhifi_graph.scoring.subset import SubsetFidelity, smallest
from modhifi_graph.select.allocation import Keep, Limits

if TYPE_CHECKING:
    from modhifi_graph.frontends.torch import Module

CRITERIA = criteria.READINGS

ROWS = 2048
"""Rows that a layer is scored on by default. On ResNet-56 with 1,000 images, singleton fidelities are then 5 to 11 per cent of
their mean from those of all rows (3 to 7 with 4096 rows), the curve of a group at most 1.5 points, and its smallest sets one
component. Refitting weights, as `optimize` does, takes many more rows."""

FEW_ROWS = 1000
"""A layer that has fewer rows than this is worth a warning."""

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
        """The same with every weight refitted. From many rows only: see ``rows`` of :func:`score`."""
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
        return {c: np.mean([layer.summed(c) for layer in self.layers], axis=0) for c in CRITERIA}

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
        from modhifi_graph.report.plots import draw_scores

        draw_scores(self, path)

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


def score(
    model: Source | Module,
    calib: Any = None,
    *,
    inputs: Any = None,
    bounds: bool = False,
    rows: int = ROWS,
    samples: int | None = None,
    seed: int = 0,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    fold_batchnorm: bool = True,
    preprocess: Preprocess | None = None,
    threads: int = 0,
    device: str | None = None,
    dynamic_shapes: Any = None,
    progress: Progress | None = None,
) -> Scores:
    """Measure how much of every layer's output each component and set of components reconstructs. Nothing is pruned.

    Parameters
    ----------
    model : path, "sample:NAME", onnx.ModelProto, onnx_ir.Model or onnx_graphsurgeon.Graph; nn.Module or ExportedProgram
    calib : path, array or dict of arrays; for modules also tensors, or a loader of them
        Unlabelled inputs, as for :func:`modhifi_graph.optimize`. A sample brings its own.
    inputs : of a module its example inputs, which also serve where ``calib`` is missing.
    bounds : bool, default False
        Measure too how errors travel to the outputs (:mod:`modhifi_graph.scoring.bounds`).
    rows : int, default 2048
        Rows of input that every layer is observed on; the scores' relative error falls with its root.
    samples, seed, only, skip, fold_batchnorm, preprocess, threads, device, dynamic_shapes, progress
        As for :func:`modhifi_graph.optimize`.

    Raises
    ------
    InputError
        The model or the calibration inputs cannot be used.

    Examples
    --------
    >>> import modhifi_graph
    >>> found = modhifi_graph.score("sample:digits-cnn")            # doctest: +SKIP
    >>> found.groups[0].fidelity.search(4, "exhaustive").components  # doctest: +SKIP
    """
    if rows < 1:
        raise InputError(f"rows is {rows}; expected 1 or more")
    options = Options(
        budget=Keep(1.0),  # nothing goes
        plan=None,
        samples=samples,
        seed=seed,
        limits=Limits(tuple(only), tuple(skip)),
        fold_batchnorm=fold_batchnorm,
        preprocess=preprocess,
        threads=threads,
        device=device,
    )
    say: Progress = progress or silent
    front = opened(model, inputs, options, dynamic_shapes)
    data = front.calibration(inputs if calib is None and not is_module(model) else calib, options, say)
    assert data is not None
    return scored(front, data, options, rows=rows, bounds=bounds, progress=progress)


def scored(
    front: FrontEnd,
    data: Batches,
    options: Options,
    *,
    rows: int = ROWS,
    bounds: bool = False,
    progress: Progress | None = None,
) -> Scores:
    """The scores of a model that has been opened. Time: the forward passes, and O(rows p^2) a layer with p inputs."""
    say: Progress = progress or silent
    start = time.perf_counter()
    groups = find_groups(couple(front.program.graph))
    members, unscored = scorable(groups)
    members = {group: layers for group, layers in members.items() if options.limits.allows(group)}
    # A layer that reads two groups is one consumer, in the order of the graph.
    by_place = {layer.contraction: layer for layers in members.values() for layer in layers}
    moments = observe(
        front.program,
        data.feeds,
        list(by_place.values()),
        wanted_rows=lambda inputs: rows,
        seed=options.seed,
        threads=options.threads,
        progress=lambda done, total: say("observe", done, total),
    ).moments
    observed = time.perf_counter()
    found = []
    for number, (group, layers) in enumerate(members.items()):
        seen = [by_place[layer.contraction] for layer in layers]
        parts = tuple(_layer(group, layer, moments[layer]) for layer in seen)
        found.append(GroupScores(group.name, group.kind, group.size, parts))
        say("score", number + 1, len(members))
    done = time.perf_counter()
    seconds = {"observe": observed - start, "score": done - observed}
    measured = None
    if bounds:
        every = list(by_place.values())
        measured = bounds_of(
            front.program, every, moments, data.feeds, seed=options.seed, threads=options.threads, progress=say
        )
        seconds["bounds"] = time.perf_counter() - done
    return Scores(front.label, data.samples, tuple(found), unscored, tuple(_few(found)), seconds, measured)


def _layer(group: Group, layer: Consumer, moments: Moments) -> LayerScores:
    weight = layer.op.inputs[layer.contraction.other]
    assert weight is not None
    return LayerScores(
        weight.name, str(layer.op), moments.count, contributions(layer, moments, group), layer, moments, group
    )


def _few(groups: list[GroupScores]) -> Iterator[str]:
    for layer in {layer.name: layer for group in groups for layer in group.layers}.values():
        if layer.rows < FEW_ROWS:
            error = 1 / np.sqrt(layer.rows)
            yield f"{layer.op}: scored on {layer.rows} rows only, an error of about {error:.0%}; give more samples"


def _by_channel(array: Any) -> np.ndarray:
    """(G, components, o) as (components, G o), in single precision."""
    return np.asarray(array.permute(1, 0, 2).flatten(1).float().cpu())
