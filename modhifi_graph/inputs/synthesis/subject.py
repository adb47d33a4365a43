"""A model that inputs are made for: what it answers to them, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from modhifi_graph.axes.cost import Cost
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects.program import Program
from modhifi_graph.errors import InputError
from modhifi_graph.inputs.calibration import Calibration, batch_size
from modhifi_graph.inputs.input_kinds import Reading, read
from modhifi_graph.inputs.synthesis import matching

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Subject:
    """A program, run on the device where it is.

    Attributes
    ----------
    program : its batch norms not folded, where it has any.
    label : what messages call it.
    threads : within an operator; 0 is the runtime's default.
    device : where inputs must be.
    """

    program: Program
    label: str
    threads: int
    device: torch.device

    @cached_property
    def readings(self) -> tuple[Reading, ...]:
        return read(self.program.graph)

    @cached_property
    def norms(self) -> tuple[matching.Remembered, ...]:
        return matching.remembered(self.program.graph)

    @cached_property
    def work(self) -> int:
        """Multiply-accumulates of one sample, or of one token."""
        return max(1, Cost(find_groups(couple(self.program.graph))).macs())

    @cached_property
    def scores(self) -> str | None:
        """The output with one number for each of several classes, (samples, classes); None where there is none."""
        for value in self.program.graph.outputs:
            if value.rank == 2 and value.shape is not None and value.is_float:
                classes = value.shape[1]
                if isinstance(classes, int) and classes >= 2:
                    return value.name
        return None

    @cached_property
    def step(self) -> int:
        return batch_size(self.program.graph)

    @cached_property
    def outputs(self) -> Callable[[Arrays], dict[str, torch.Tensor]]:
        """Gives all outputs for one batch; InputError where the model does not take it."""
        return self._runner([value.name for value in self.program.graph.outputs])

    def probabilities(self, data: Calibration) -> NDArray[np.float32]:
        """What :attr:`scores` says of every sample, (samples, classes), rows that sum to 1."""
        assert self.scores is not None
        run = self._runner([self.scores])
        parts = [_probabilities(run(part)[self.scores]) for part in data.batches(self.step)]
        return np.asarray(torch.cat(parts).cpu().numpy())

    def moments(self, data: Calibration) -> NDArray[np.float32]:
        """What norms compare, for every sample; see :func:`modhifi_graph.inputs.synthesis.matching.moments`."""
        run = self._runner(list(dict.fromkeys(norm.value for norm in self.norms)))
        return np.concatenate([matching.moments(self.norms, run(part)) for part in data.batches(self.step)])

    def _runner(self, names: Sequence[str]) -> Callable[[Arrays], dict[str, torch.Tensor]]:
        run = self.program.runner(names, self.threads)

        def guarded(arrays: Arrays) -> dict[str, torch.Tensor]:
            feeds = {k: torch.from_numpy(np.ascontiguousarray(v)).to(self.device) for k, v in arrays.items()}
            try:
                return run(feeds)
            except (RuntimeError, IndexError, TypeError, ValueError) as error:  # by dialect and operator
                raise InputError(f"does not run on inputs made for it: {error}") from error

        return guarded


def _probabilities(scores: torch.Tensor) -> torch.Tensor:
    scores = scores.float()
    sums = scores.sum(1)
    if bool((scores >= 0).all()) and bool((sums - 1).abs().max() < 1e-3):
        return scores
    return torch.softmax(scores, 1)
