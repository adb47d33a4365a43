"""Running the dense model over the calibration inputs once, and keeping only moments."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from modhifi_graph.dialects.program import Program
from modhifi_graph.inputs.batches import samples_in
from modhifi_graph.interface import Feeds
from modhifi_graph.observe.consumers import Consumer
from modhifi_graph.observe.meeting_moments import Encounter
from modhifi_graph.observe.moments import Moments

Progress = Callable[[int, int], None]

ROWS = 65536
FEWEST_ROWS_PER_INPUT, MOST_ROWS_PER_INPUT = 16, 1024
"""A consumer with p inputs is observed on ROWS rows, spread over all samples, within these limits times p. A quarter of them
costs a quarter of a point on ResNet-56 at half the multiply-accumulates, and doubles the spread over seeds. Few inputs need
fewer rows (a depthwise convolution has nine, for every channel), and many make each row expensive."""

ROWS_A_VISIT = 128
"""Looking at fewer rows of a batch costs as much as looking at these: where few are wanted, not every batch is looked at."""


def rows_wanted(inputs: int) -> int:
    """How many rows the statistics of a consumer with so many inputs are taken from."""
    return min(MOST_ROWS_PER_INPUT * inputs, max(ROWS, FEWEST_ROWS_PER_INPUT * inputs))


@dataclass(frozen=True, eq=False)
class Observation:
    """What one pass over the calibration inputs leaves behind.

    Attributes
    ----------
    moments : for each consumer, the moments of its unfolded input.
    energy : for each named activation, its variance summed over channels, averaged over positions.
    mean : for each named activation, the mean of every channel.
    samples : how many calibration samples were seen.
    """

    moments: Mapping[Consumer, Moments]
    energy: Mapping[str, float]
    mean: Mapping[str, torch.Tensor]
    samples: int


def observe(
    program: Program,
    batches: Sequence[Feeds],
    consumers: Sequence[Consumer],
    streams: Mapping[str, int | None] | None = None,
    encounters: Sequence[Encounter] = (),
    *,
    wanted_rows: Callable[[int], int] = rows_wanted,
    seed: int = 0,
    threads: int = 0,
    progress: Progress = lambda done, total: None,
) -> Observation:
    """Run ``program`` over ``batches``; accumulate the moments of every consumer and the energy of every stream.

    ``streams`` maps the name of an activation to its channel axis (one without counts as one channel); the ``encounters`` are
    added to in place; ``wanted_rows`` says how many rows a consumer with so many inputs is observed on. Consumers that read the
    same windows of the same input share one observation.

    Time: the forward passes plus O(rows * p^2) a consumer; memory: O(p^2) a consumer and one batch of activations.
    """
    streams = streams or {}
    met = (value.name for encounter in encounters for value in encounter.meeting.operands)
    wanted = list(dict.fromkeys([*(c.x.name for c in consumers), *streams, *met]))
    readers: dict[Hashable, list[Consumer]] = {}
    for consumer in consumers:
        readers.setdefault(consumer.reading, []).append(consumer)
    found: dict[Hashable, Moments] = {}
    visits: dict[Hashable, int] = {}
    energies = {name: RunningVariance(axis) for name, axis in streams.items()}
    random = np.random.default_rng(seed)
    for number, results in enumerate(program.results(batches, wanted, threads)):
        for place, (reading, (consumer, *_)) in enumerate(readers.items()):
            x = results[consumer.x.name]
            if number == 0:
                visits[reading] = _visits(consumer, x, len(batches), wanted_rows(consumer.inputs))
            if not _is_due(number + place, visits[reading], len(batches)):
                continue
            rows = sample_rows(consumer, x, visits[reading], random, wanted_rows)[0]
            if reading in found:
                found[reading].add(rows)
            else:
                found[reading] = Moments.of(rows)
        for name, energy in energies.items():
            energy.add(results[name])
        for encounter in encounters:
            encounter.add(*(results[value.name] for value in encounter.meeting.operands))
        progress(number + 1, len(batches))
    samples = sum(map(samples_in, batches))
    moments = {consumer: found[consumer.reading] for consumer in consumers}
    variances = {name: energy.total for name, energy in energies.items()}
    return Observation(moments, variances, {name: energy.mean for name, energy in energies.items()}, samples)


def _visits(consumer: Consumer, x: torch.Tensor, batches: int, wanted: int) -> int:
    """How many batches like ``x`` it takes to see the wanted rows, ROWS_A_VISIT at least where a batch has as many."""
    positions, rows_each = consumer.positions(x.shape)
    return min(batches, -(-wanted // max(1, min(ROWS_A_VISIT, positions * rows_each))))


def _is_due(number: int, visits: int, batches: int) -> bool:
    """Whether the batch is one of ``visits`` evenly spaced ones; any ``batches`` numbers in a row hold just as many."""
    return number * visits // batches != (number + 1) * visits // batches


def sample_rows(
    consumer: Consumer,
    x: torch.Tensor,
    batches: int,
    random: np.random.Generator,
    wanted_rows: Callable[[int], int] = rows_wanted,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (x, picks) of one of ``batches`` equal batches, at random positions where there are more than are needed."""
    positions, rows_each = consumer.positions(x.shape)
    enough = wanted_rows(consumer.inputs) // batches + 1
    count = min(positions, max(1, -(-enough // rows_each)))
    chosen = np.arange(positions) if count == positions else np.sort(random.choice(positions, count, replace=False))
    picks = torch.from_numpy(chosen).to(x.device)
    return consumer.input_rows(x.float(), picks), picks


class RunningVariance:
    """The variance of an activation summed over its channels: what a residual stream carries."""

    def __init__(self, axis: int | None) -> None:
        self._axis, self._count = axis, 0
        self._first: torch.Tensor | float = 0.0
        self._second: torch.Tensor | float = 0.0

    def add(self, value: torch.Tensor) -> None:
        split = value.reshape(-1, 1) if self._axis is None else value.movedim(self._axis, -1).flatten(0, -2)
        rows = split.float()
        self._count += len(rows)
        self._first = self._first + rows.sum(0, dtype=torch.float64)
        self._second = self._second + rows.square().sum(0, dtype=torch.float64)

    @property
    def mean(self) -> torch.Tensor:
        """The mean of every channel, shape (channels,), float64."""
        return torch.as_tensor(self._first / max(1, self._count))

    @property
    def total(self) -> float:
        variance = torch.as_tensor(self._second / max(1, self._count) - self.mean**2)
        return float(variance.clamp_min(0).sum())
