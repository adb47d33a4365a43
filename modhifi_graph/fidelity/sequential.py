"""Sequential compensation: walk the dense and the slim model in step, and refit one consumer after the other.

Every consumer of the slim model is regressed onto what the dense model computes there, reading what the slim model really
feeds it, so that errors made upstream are repaired downstream. Where its output is added to a stream, the target is the
dense stream minus the slim one: the branch also makes up for what the stream has lost. Where a clipping activation is all
that follows, only what passes it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from modhifi_graph.axes.groups import Groups
from modhifi_graph.dialects.program import Feeds, Program, Stepper
from modhifi_graph.fidelity.clipped import Sample, refine
from modhifi_graph.fidelity.consumers import weight_of
from modhifi_graph.fidelity.observe import sample_rows
from modhifi_graph.fidelity.regression import Regression
from modhifi_graph.fidelity.ridge import RIDGE
from modhifi_graph.fidelity.sites import Editor, Site, sites
from modhifi_graph.plan import Plan


def compensate(
    dense: Program,
    groups: Groups,
    slim: Program,
    plan: Plan,
    batches: Sequence[Feeds],
    *,
    seed: int = 0,
    threads: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Refit the consumers of ``slim`` in place, in the order in which they run; returns how many were refitted.

    ``groups`` are those of ``dense``. Time: two forward passes plus O(rows p (p + o)) a consumer. Memory: what both models
    still need, for all batches.
    """
    found = _downstream(list(sites(groups, slim.graph, plan.resolve(groups))), groups, plan)
    reference = dense.stepper(batches, [site.target.name for site in found], threads)
    needed = [s.consumer.x.name for s in found] + [s.stream[1].name for s in found if s.stream]
    stepper = slim.stepper(batches, needed, threads)
    editor = Editor(slim, stepper)
    random = np.random.default_rng(seed)
    for number, site in enumerate(found):
        weight, bias = _fit(site, reference, stepper, random)
        editor.weight(site, weight.cpu().numpy())
        editor.bias(site, bias.cpu().numpy())
        progress(number + 1, len(found))
    return len(found)


def _downstream(found: list[Site], groups: Groups, plan: Plan) -> list[Site]:
    """From the first consumer that lost inputs on; what runs before it computes what it always did."""
    dense = {op.outputs[0].name: op for op in groups.coupling.graph.ops if op.outputs}

    def lost(site: Site) -> bool:
        before = dense[site.consumer.y.name].inputs[site.consumer.contraction.other]
        after = site.consumer.op.inputs[site.consumer.contraction.other]
        axis = site.consumer.contraction.other_axis
        return before is None or after is None or before.shape[axis] != after.shape[axis]  # type: ignore[index]

    first = next((i for i, site in enumerate(found) if lost(site)), len(found))
    return found[first:]


def _fit(
    site: Site, reference: Stepper, stepper: Stepper, random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight and bias with which the site comes nearest to its target."""
    consumer = site.consumer
    names = [consumer.x.name, *([site.stream[1].name] if site.stream else [])]
    channels = torch.from_numpy(site.channels)
    fitted: Regression | None = None
    sample = Sample(*site.clip, stepper.batches) if site.clip else None
    for (target,), seen in zip(reference.visit([site.target.name]), stepper.visit(names), strict=True):
        wanted = target.float().index_select(site.channel_axis, channels.to(target.device))
        rows, picks = sample_rows(consumer, seen[0], wanted, stepper.batches, random)
        aim = consumer.output_rows(wanted, picks)
        stream = consumer.output_rows(seen[1].float(), picks) if site.stream else None
        residual = aim if stream is None else aim - stream
        fitted = fitted.add(rows, residual) if fitted else Regression.of(rows, residual)
        if sample:
            sample.add(rows, aim, stream)
    assert fitted is not None
    old = weight_of(consumer, fitted.first)
    ridge, intercept = fitted.ridge(RIDGE), site.bias is not None
    weight, bias = fitted.solve(old, ridge, intercept)
    if sample:
        return refine(sample, fitted, old, weight, bias, ridge, intercept)
    return weight, bias
