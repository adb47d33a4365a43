"""What a removal does to the network's own output, measured along the curve of every group.

The local cost of a removal says little about what reaches the output: layers amplify, damp and repair. So at a few widths
of each group its consumers get the weights that least squares refits for that width, the rest of the dense network runs on
a few calibration samples, and the squared error of the outputs over their variance is the price. Between the measured
widths the price follows the local cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from modhifi_graph.axes.branches import Branch
from modhifi_graph.axes.groups import Group
from modhifi_graph.dialects.program import Program, Weights
from modhifi_graph.interface import Feeds
from modhifi_graph.observe.consumers import Consumer, weight_of
from modhifi_graph.observe.moments import Moments
from modhifi_graph.observe.output_error import output_error
from modhifi_graph.observe.sites import broadcast_channels
from modhifi_graph.scoring.scores import Ranking

SHARED = 2.0
"""A group that several layers read is dearer than measured alone: their errors add up along the stream, and each layer is
repaired on the same few samples. On the CIFAR ResNets twice the price keeps the most agreement with the dense model."""


REPAIRED = 0.5
"""So much of what the outputs lose with the mean of a branch in its place is left once the layers after it have been
refitted: those are measured as they are. At this factor a ResNet-56 has the accuracy that width alone has at 0.3 to 0.5 of
its multiply-accumulates, to within 0.3 points; at 0.35 it has up to 1.7 less."""


def measure(
    program: Program,
    rankings: Sequence[Ranking],
    consumers: Mapping[Ranking, Sequence[Consumer]],
    moments: Mapping[Consumer, Moments],
    batches: Sequence[Feeds],
    *,
    threads: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Ranking, dict[int, float]]:
    """For each ranking and each of its snapshots, the error of the outputs on ``batches``."""
    outputs, error = [value.name for value in program.graph.float_outputs], output_error(program.graph)
    if not outputs or not rankings:
        return {ranking: {} for ranking in rankings}  # the local cost stands
    stepper = program.stepper(batches, threads=threads)
    reference = stepper.outcome(outputs, {})
    place = {op.outputs[0].name: i for i, op in enumerate(program.graph.ops) if op.outputs}

    def first(ranking: Ranking) -> str:
        upstream = {name for changes in ranking.upstream.values() for name in changes}
        return min([*upstream, *(c.y.name for c in consumers[ranking])], key=place.__getitem__)

    found: dict[Ranking, dict[int, float]] = {}
    for number, ranking in enumerate(sorted(rankings, key=lambda r: place[first(r)])):
        stepper.advance(first(ranking))
        found[ranking] = {}
        for count, weights in ranking.snapshots.items():
            changed = {
                c.y.name: changed_weights(c, w, moments[c]) for c, w in zip(consumers[ranking], weights, strict=True)
            }
            changed.update(ranking.upstream.get(count, {}))
            found[ranking][count] = error(reference, stepper.outcome(outputs, changed))
        progress(number + 1, len(rankings))
    return found


def measure_branches(
    program: Program,
    means: Mapping[Branch, np.ndarray],
    batches: Sequence[Feeds],
    *,
    threads: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Branch, float]:
    """For each branch the error of the outputs on ``batches`` with a constant in its place.

    ``means`` are arrays that broadcast to the value of their branch.
    """
    outputs, error = [value.name for value in program.graph.float_outputs], output_error(program.graph)
    if not outputs or not means:
        return {}
    order = {value: i for i, op in enumerate(program.graph.ops) for value in op.outputs}
    stepper = program.stepper(batches, threads=threads)
    reference = stepper.outcome(outputs, {})
    found: dict[Branch, float] = {}
    for number, branch in enumerate(sorted(means, key=lambda b: order[b.value])):
        stepper.advance(branch.value.name)
        without = stepper.outcome(outputs, {}, {branch.value.name: means[branch]})
        found[branch] = error(reference, without)
        progress(number + 1, len(means))
    return found


def changed_weights(consumer: Consumer, weight: torch.Tensor, moments: Moments) -> Weights:
    """The refitted weight as the op takes it, and the shift that keeps the output's mean."""
    value = consumer.op.inputs[consumer.contraction.other]
    assert value is not None
    old = weight_of(consumer, moments.mean)
    shift = torch.einsum("gop,gp->go", old - weight, moments.mean).reshape(-1).cpu().numpy()
    like = value.array()
    return (
        consumer.contraction.other,
        consumer.parameter(weight.cpu().numpy(), like),
        broadcast_channels(consumer, shift).astype(like.dtype),
    )


def calibrated(ranking: Ranking, measured: Mapping[int, float]) -> Ranking:
    """The ranking with its costs scaled so that their running sum passes through the measured prices.

    Between two measured counts the scale is interpolated geometrically; outside them it is the nearest one's.
    """
    local = np.cumsum(np.maximum(ranking.costs, 1e-12))
    counts = np.array(sorted(measured))
    if not len(counts):
        return ranking
    scale = np.log([max(measured[int(n)], 1e-12) / local[int(n) - 1] for n in counts])
    price = local * np.exp(np.interp(np.arange(1, len(local) + 1), counts, scale))
    if _layers(ranking.group) > 1:
        price *= SHARED
    return replace(ranking, costs=np.diff(np.maximum.accumulate(price), prepend=0.0))


def _layers(group: Group) -> int:
    """How many layers read the components: queries and keys that meet belong to the layer that reads the values."""
    weighted = sum(contraction.weighted for contraction in group.consumers)
    return max(weighted, len(group.consumers) - weighted)
