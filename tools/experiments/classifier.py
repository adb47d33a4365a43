"""A classifier that is looked into: labelled images, what its last layer reads, and what it says of every class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects.program import Stepper, Weights
from modhifi_graph.forget.head import Head, find_head
from modhifi_graph.frontends.onnx import OnnxFrontEnd
from modhifi_graph.observe.sites import Editor, Site, channel_axis, sites
from modhifi_graph.options.request import Options
from modhifi_graph.plan import Plan

BATCH = 100


@dataclass(frozen=True)
class Data:
    """Labelled images, shapes (n, ...) and (n,)."""

    x: np.ndarray
    y: np.ndarray

    def of(self, label: int) -> np.ndarray:
        """The positions of a class."""
        return np.flatnonzero(self.y == label)


class Model:
    """An opened model and what it says: features that its last layer reads, and class scores."""

    def __init__(self, source: Any, threads: int) -> None:
        self.front = OnnxFrontEnd(source, Options(budget=None, plan=Plan(), threads=threads))
        self.threads = threads
        graph = self.front.program.graph
        self.input = graph.inputs[0].name
        self.sites = list(sites(find_groups(couple(graph)), graph, {}))
        self.head: Head = find_head(graph, self.sites)

    @property
    def wanted(self) -> list[str]:
        return [self.head.site.consumer.x.name, self.head.output.name]

    def batches(self, x: np.ndarray) -> list[dict[str, np.ndarray]]:
        return [{self.input: x[i : i + BATCH]} for i in range(0, len(x), BATCH)]

    def says(self, x: np.ndarray) -> Said:
        return self.gathered(self.front.program.results(self.batches(x), self.wanted, self.threads))

    def gathered(self, results: Iterator[Mapping[str, torch.Tensor]] | Sequence[Mapping[str, torch.Tensor]]) -> Said:
        found = [[result[name] for name in self.wanted] for result in results]
        features = torch.cat([f.flatten(2).mean(2) if f.dim() > 2 else f for f, _ in found])
        return Said(features.double(), torch.cat([self.head.scores(scores) for _, scores in found]))

    def ahead(self, x: np.ndarray, site: Site) -> Stepper:
        """A run of the model on ``x`` that stands before a layer."""
        stepper = self.front.program.stepper(self.batches(x), threads=self.threads)
        stepper.advance(site.consumer.y.name)
        return stepper

    def changes(self, other: Model, layers: Sequence[str]) -> dict[str, Weights]:
        """The weights that another model has in some layers."""
        mine = {site.output.name: site for site in self.sites}
        theirs = {site.output.name: site for site in other.sites}
        return {mine[name].consumer.y.name: _change(self, mine[name], other, theirs[name]) for name in layers}


@dataclass(frozen=True)
class Said:
    """Features (n, p), float64, and class scores (n, classes)."""

    features: torch.Tensor
    scores: torch.Tensor

    def __getitem__(self, places: np.ndarray) -> Said:
        picks = torch.from_numpy(places)
        return Said(self.features[picks], self.scores[picks])

    @property
    def answers(self) -> np.ndarray:
        return self.scores.argmax(1).numpy()


def _change(dense: Model, before: Site, edited: Model, after: Site) -> Weights:
    consumer, like = after.consumer, after.consumer.op.inputs[after.consumer.contraction.other]
    assert like is not None
    bias = Editor(edited.front.program).current_bias(after) - Editor(dense.front.program).current_bias(before)
    rank = consumer.y.rank or 2
    shape = [-1 if axis == channel_axis(consumer) % rank else 1 for axis in range(rank)]
    return consumer.contraction.other, like.array(), bias.reshape(shape).astype(np.float32)
