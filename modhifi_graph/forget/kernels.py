"""ModHiFi-U as published: the kernels that matter most for a class are zeroed, or negated.

A kernel (c, i) is what one consumer's output channel c does with its input component i. Statistics come from samples of the
class alone; of every consumer the same fraction of kernels goes, those with the greatest score (arXiv 2511.19566; by one of its
readings, see :mod:`modhifi_graph.scoring.scores`). Zeroing is what the paper does to networks with batch norms,
negation to those with a residual stream and layer norms. Nothing is repaired afterwards: that brings the class back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from modhifi_graph.axes.groups import Group, Groups
from modhifi_graph.dialects.program import Program, Weights
from modhifi_graph.forget.head import Head, predicted_class, rate
from modhifi_graph.forget.modes import FACTORS
from modhifi_graph.interface import Feeds
from modhifi_graph.observe.consumers import Consumer, weight_of
from modhifi_graph.observe.moments import Moments
from modhifi_graph.observe.observe import observe
from modhifi_graph.scoring.analysis import scorable
from modhifi_graph.scoring.scores import component_inputs, contributions

SCORES = ("singleton", "alpha", "rowsum", "energy")

FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
"""Where no fraction is asked for, the least of these that is enough."""

ENOUGH = 0.01
"""The forget set is forgotten when at most this share of it is still taken for the class."""


def flip(
    program: Program,
    groups: Groups,
    head: Head,
    batches: Sequence[Feeds],
    mode: str,
    *,
    score: str = "singleton",
    fraction: float | None = None,
    label: int | None = None,
    seed: int = 0,
    threads: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> float:
    """Zero or negate the top kernels of every consumer, in place; returns the fraction.

    Parameters
    ----------
    batches : samples of the class.
    mode : a key of :data:`modhifi_graph.forget.modes.FACTORS`.
    score : one of :data:`SCORES`.
    fraction : of every consumer's kernels, in (0, 1]; by default the least of :data:`FRACTIONS` after which the forget set is
        forgotten, found by bisection (the last of them, where none is enough).
    label : the class; what the model sees in the batches by default.

    Time: two forward passes and one for every fraction tried.
    """
    members: dict[Consumer, list[Group]] = {}
    by_contraction: dict[object, Consumer] = {}
    for group, consumers in scorable(groups)[0].items():
        for consumer in consumers:
            members.setdefault(by_contraction.setdefault(consumer.contraction, consumer), []).append(group)
    moments = observe(program, batches, list(members), seed=seed, threads=threads, progress=progress).moments
    scores = {c: kernel_scores(c, moments[c], mine, score) for c, mine in members.items()}
    stepper, output = program.stepper(batches, threads=threads), head.output.name

    def answers(weights: Mapping[str, Weights]) -> torch.Tensor:
        return torch.cat([head.scores(found[output]) for found in stepper.outcome([output], weights)])

    if fraction is None:
        seen = predicted_class(answers({})) if label is None else label
        low, high = 0, len(FRACTIONS) - 1
        while low < high:
            middle = (low + high) // 2
            trial = {c.y.name: _trial(c, scores[c], FRACTIONS[middle], mode) for c in members}
            low, high = (low, middle) if rate(answers(trial), seen) <= ENOUGH else (middle + 1, high)
        fraction = FRACTIONS[low]
    for consumer in members:
        slot, weight, _ = _trial(consumer, scores[consumer], fraction, mode)
        program.assign(consumer.op, slot, weight)
    return fraction


def kernel_scores(consumer: Consumer, moments: Moments, groups: Sequence[Group], score: str) -> torch.Tensor:
    """The score of the kernel that every weight belongs to, shape (G, o, p); -inf where an input is in no group.

    An input that is a component of several groups (a head, and a place in it) counts by the last of them.
    """
    scores = torch.full((consumer.parts, consumer.outputs, consumer.inputs), -torch.inf, dtype=torch.float64)
    for group in groups:
        found = contributions(consumer, moments, group)
        values: torch.Tensor = getattr(found, score)
        blocks = component_inputs(consumer, group)
        scores[:, :, blocks.reshape(-1)] = values.transpose(1, 2).repeat_interleave(blocks.shape[1], 2).cpu()
    return scores


def flipped(weight: torch.Tensor, scores: torch.Tensor, fraction: float, factor: float) -> torch.Tensor:
    """W with the top fraction of its entries by score, whole kernels, times ``factor``. Shapes (G, o, p)."""
    known = scores[torch.isfinite(scores)]
    count = min(len(known), max(1, round(fraction * len(known))))
    least = known.sort(descending=True).values[count - 1]
    return torch.where(scores.to(weight.device) >= least.to(weight.device), factor * weight, weight)


def _trial(consumer: Consumer, scores: torch.Tensor, fraction: float, mode: str) -> Weights:
    value = consumer.op.inputs[consumer.contraction.other]
    assert value is not None
    like = value.array()
    weight = flipped(weight_of(consumer, scores), scores, fraction, FACTORS[mode])
    return consumer.contraction.other, consumer.parameter(weight.numpy(), like), np.zeros((), like.dtype)
