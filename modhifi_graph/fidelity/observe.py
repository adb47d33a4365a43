"""Running the dense model over the calibration inputs once, and keeping only moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import torch

from modhifi_graph.dialects.onnx_stepper import Feeds
from modhifi_graph.exporters.onnxruntime import Engine
from modhifi_graph.fidelity.consumers import Consumer
from modhifi_graph.fidelity.moments import Moments
from modhifi_graph.models import to_proto

Progress = Callable[[int, int], None]

ROWS_PER_INPUT = 96
FEWEST_ROWS = 65536
"""Rows observed for a consumer with p inputs: max(FEWEST_ROWS, ROWS_PER_INPUT * p), spread over all samples. A quarter of
them costs a quarter of a point on ResNet-56 at half the multiply-accumulates, and doubles the spread over seeds."""


@dataclass(frozen=True, eq=False)
class Observation:
    """What one pass over the calibration inputs leaves behind.

    Attributes
    ----------
    moments : for each consumer, the moments of its unfolded input.
    energy : for each named activation, its variance summed over channels, averaged over positions.
    samples : how many calibration samples were seen.
    """

    moments: Mapping[Consumer, Moments]
    energy: Mapping[str, float]
    samples: int


def observe(
    model: ir.Model,
    batches: Sequence[Feeds],
    consumers: Sequence[Consumer],
    streams: Mapping[str, int] | None = None,
    *,
    seed: int = 0,
    threads: int = 0,
    progress: Progress = lambda done, total: None,
) -> Observation:
    """Run ``model`` over ``batches``; accumulate the moments of every consumer and the energy of every stream.

    ``streams`` maps the name of an activation to its channel axis.

    Time: the forward passes plus O(rows * p^2) a consumer; memory: O(p^2) a consumer and one batch of activations.
    """
    streams = streams or {}
    wanted = list(dict.fromkeys([*(c.x.name for c in consumers), *(c.y.name for c in consumers), *streams]))
    proto = to_proto(model)
    present = {value.name for value in [*proto.graph.input, *proto.graph.output]}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in present)
    engine = Engine.compile(proto, threads=threads)
    fed = {value.name for value in proto.graph.input}
    moments: dict[Consumer, Moments] = {}
    energies = {name: RunningVariance(axis) for name, axis in streams.items()}
    random = np.random.default_rng(seed)
    for number, batch in enumerate(batches):
        results = {**batch, **engine.run(batch, [name for name in wanted if name not in fed])}
        for consumer in consumers:
            rows = sample_rows(consumer, results[consumer.x.name], results[consumer.y.name], len(batches), random)[0]
            if consumer in moments:
                moments[consumer].add(rows)
            else:
                moments[consumer] = Moments.of(rows)
        for name, energy in energies.items():
            energy.add(results[name])
        progress(number + 1, len(batches))
    samples = sum(max((len(array) for array in batch.values() if array.ndim), default=1) for batch in batches)
    return Observation(moments, {name: energy.total for name, energy in energies.items()}, samples)


def sample_rows(
    consumer: Consumer,
    x: np.ndarray,
    y: np.ndarray,
    batches: int,
    random: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (x, picks) of one of ``batches`` equal batches, at random positions where there are more than are needed."""
    positions, rows_each = consumer.positions(y.shape)
    enough = max(FEWEST_ROWS, ROWS_PER_INPUT * consumer.inputs) // batches + 1
    count = min(positions, max(1, -(-enough // rows_each)))
    chosen = np.arange(positions) if count == positions else np.sort(random.choice(positions, count, replace=False))
    picks = torch.from_numpy(chosen)
    return consumer.input_rows(torch.from_numpy(x).float(), picks), picks


class RunningVariance:
    """The variance of an activation summed over its channels: what a residual stream carries."""

    def __init__(self, axis: int) -> None:
        self._axis, self._count, self._first, self._second = axis, 0, np.zeros(1), np.zeros(1)

    def add(self, array: np.ndarray) -> None:
        rows = np.moveaxis(array, self._axis, -1).reshape(-1, array.shape[self._axis]).astype(np.float32)
        self._count += len(rows)
        self._first = self._first + rows.sum(0, dtype=np.float64)
        self._second = self._second + np.einsum("ij,ij->j", rows, rows).astype(np.float64)

    @property
    def total(self) -> float:
        mean = self._first / max(1, self._count)
        return float(np.maximum(self._second / max(1, self._count) - mean**2, 0).sum())
