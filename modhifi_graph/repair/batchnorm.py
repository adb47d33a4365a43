"""Batch-norm statistics taken anew from calibration inputs, as a pruned network now has them.

In the order in which they run, every batch norm gets the mean and the variance of what it reads, over the samples and all
positions; those that follow see what the new statistics make of it. The variance is the unbiased one, as PyTorch's running
variance is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from modhifi_graph.dialects.program import Program
from modhifi_graph.graph import Op
from modhifi_graph.interface import Feeds

MEAN, VARIANCE = 3, 4
"""The inputs of a batch norm that hold its statistics."""


@dataclass
class Statistics:
    """The mean and the sum of squared deviations of each channel over ``count`` positions, float64."""

    count: int
    mean: torch.Tensor
    deviations: torch.Tensor

    @classmethod
    def of(cls, x: torch.Tensor) -> Statistics:
        """Of one batch, with channels on axis 1."""
        rows = x.transpose(0, 1).flatten(1).double()
        return cls(rows.shape[1], rows.mean(1), rows.var(1, correction=0) * rows.shape[1])

    def merge(self, other: Statistics) -> Statistics:
        """Of both, exactly (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        apart = other.mean - self.mean
        between = apart.square() * (self.count * other.count / count)
        return Statistics(
            count, self.mean + apart * (other.count / count), self.deviations + other.deviations + between
        )

    @property
    def variance(self) -> torch.Tensor:
        return self.deviations / max(1, self.count - 1)


def reestimate(
    program: Program,
    batches: Sequence[Feeds],
    *,
    threads: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Re-estimate every batch norm of a model, in place; returns how many. Time: one forward pass.

    One that normalises by the batch, or reads its statistics from elsewhere than constants, is left alone.
    """
    norms = [op for op in program.graph.ops if op.kind == "BatchNormalization" and _has_statistics(op)]
    names = [op.inputs[0].name for op in norms if op.inputs[0] is not None]
    stepper = program.stepper(batches, names, threads)
    for number, (op, name) in enumerate(zip(norms, names, strict=True)):
        found: Statistics | None = None
        for (x,) in stepper.visit([name]):
            here = Statistics.of(x)
            found = here if found is None else found.merge(here)
        if found is not None:
            for slot, new in ((MEAN, found.mean), (VARIANCE, found.variance)):
                old = op.inputs[slot]
                assert old is not None
                program.assign(op, slot, new.cpu().numpy().astype(old.array().dtype), stepper)
        progress(number + 1, len(norms))
    return len(norms)


def _has_statistics(op: Op) -> bool:
    statistics = [op.input(slot) for slot in (MEAN, VARIANCE)]
    trains = bool(op.attributes.get("training_mode", 0)) or any(value.name for value in op.outputs[1:])
    return not trains and all(value is not None and value.is_constant for value in statistics)
