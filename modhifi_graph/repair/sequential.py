"""Sequential compensation: walk the dense and the slim model in step, and refit one consumer after the other.

Every consumer of the slim model is regressed onto what the dense model computes there, reading what the slim model really
feeds it, so that errors made upstream are repaired downstream. Where its output is added to a stream, the target is the
dense stream minus the slim one: the branch also makes up for what the stream has lost. Where a clipping activation is all
that follows, only what passes it counts. Where queries or keys lose dimensions, their projections are fitted to what makes up
for them (:mod:`modhifi_graph.scoring.bilinear`) instead of to the dimensions that are left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from modhifi_graph.axes.branches import Branch
from modhifi_graph.axes.groups import Groups
from modhifi_graph.axes.layout import Layout, kept
from modhifi_graph.dialects.program import Mark, Program, Stepper
from modhifi_graph.interface import Feeds
from modhifi_graph.observe.chains import Chain, chains
from modhifi_graph.observe.consumers import Consumer, weight_of
from modhifi_graph.observe.meeting_moments import encounter
from modhifi_graph.observe.meetings import Meeting, meetings_of
from modhifi_graph.observe.moments import second_moment
from modhifi_graph.observe.observe import sample_rows
from modhifi_graph.observe.ridge import RIDGE, damped
from modhifi_graph.observe.routes import Projection
from modhifi_graph.observe.sites import Editor, Site, sites
from modhifi_graph.observe.windows import with_taps
from modhifi_graph.plan import Plan
from modhifi_graph.repair import methods
from modhifi_graph.repair.clipped import Sample, refine
from modhifi_graph.repair.joint import Batch, Reading, Refit, held_out
from modhifi_graph.repair.regression import Regression
from modhifi_graph.scoring.bilinear import folded, mixed

METHODS = methods.SEQUENTIAL

JOINT_ROWS = 1 << 18
"""A chain is refitted on about this many positions of its output."""

JOINT_BYTES, HELD_BYTES = 1 << 30, 16
"""Or on fewer, so that what is held for it takes at most so much: four numbers for each one that a map of the chain gives."""


def compensate(
    dense: Program,
    groups: Groups,
    slim: Program,
    plan: Plan,
    batches: Sequence[Feeds],
    method: str = "joint",
    *,
    seed: int = 0,
    threads: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Refit the consumers of ``slim`` in place, in the order in which they run; returns how many were refitted.

    ``groups`` are those of ``dense``. With "joint", every chain is refitted as a whole once its last consumer has been.
    Time: two forward passes plus O(rows p (p + o)) a consumer. Memory: what both models still need, for all batches.
    """
    joint = method == "joint"
    keep = plan.resolve(groups)
    folds = _folds(dense, groups, keep, batches, threads)
    matrices = {projection.consumer.y.name: matrix for projection, matrix in folds.items()}
    starts = {projection.consumer.y.name: _start(projection.consumer, keep) for projection in folds}
    found = _downstream(list(sites(groups, slim.graph, keep, matrices)), groups, plan.removed(groups), joint)
    walk = _Walk(dense, slim, batches, found, chains(slim.graph, found) if joint else (), starts, seed, threads)
    for number, site in enumerate(found):
        walk.refit(site)
        progress(number + 1, len(found))
    return len(found)


class _Walk:
    """Both models, run in step."""

    def __init__(
        self,
        dense: Program,
        slim: Program,
        batches: Sequence[Feeds],
        found: Sequence[Site],
        linked: Sequence[Chain],
        starts: Mapping[str, np.ndarray],
        seed: int,
        threads: int,
    ) -> None:
        self._random = np.random.default_rng(seed)
        self._chains, self._starts = linked, starts
        self._marks: dict[Chain, Mark] = {}
        self._fits: dict[Site, Fit] = {}
        targets = [site.target.name for site in (*found, *(chain.sites[-1] for chain in linked))]
        needed = [name for site in found for name in site.reads] + [name for chain in linked for name in _feeds(chain)]
        self._reference = dense.stepper(batches, targets, threads)
        self._stepper = slim.stepper(batches, needed, threads)
        self._editor = Editor(slim, self._stepper)

    def refit(self, site: Site) -> None:
        """Refit one site, and the chain that ends there."""
        fit = _fit(site, self._starts.get(site.consumer.y.name), self._reference, self._stepper, self._random)
        self._write(site, fit.weight, fit.bias)
        for chain in self._chains:
            if chain.sites[0] is site:
                self._marks[chain] = self._stepper.mark()
            if site in chain.sites:
                self._fits[site] = fit
            if chain.sites[-1] is site:
                self._refit_chain(chain)

    def _refit_chain(self, chain: Chain) -> None:
        mark = self._marks.pop(chain)
        self._stepper.rewind(mark)
        fits = [self._fits[site] for site in chain.sites]
        batches, held = held_out(chain, joint_batches(chain, self._reference, self._stepper))
        refit = Refit(chain, [fit.reading() for fit in fits], batches, chain.sites[-1].clip, held)
        found, _ = refit.run([(fit.weight, fit.bias) for fit in fits])
        self._stepper.rewind(mark)
        # A later mark holds what the chain's old weights gave.
        self._marks = {c: mark if m.position > mark.position else m for c, m in self._marks.items()}
        for site, (weight, bias) in zip(chain.sites, found, strict=True):
            self._fits[site] = replace(self._fits[site], weight=weight, bias=bias)
            self._write(site, weight, bias)

    def _write(self, site: Site, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._editor.weight(site, weight.cpu().numpy())
        self._editor.bias(site, bias.cpu().numpy())


def _feeds(chain: Chain) -> list[str]:
    """What is looked at to refit a chain."""
    return [chain.sites[0].consumer.x.name, *chain.sites[-1].reads[1:], *(v.name for v in chain.others)]


def joint_batches(chain: Chain, reference: Stepper, stepper: Stepper) -> list[Batch]:
    """What a chain is refitted on: evenly spaced batches."""
    last = chain.sites[-1]
    names = _feeds(chain)
    taken: list[Batch] = []
    every = 1
    for number, ((target,), seen) in enumerate(
        zip(reference.visit([last.target.name]), stepper.visit(names), strict=True)
    ):
        if number == 0:
            every = _every(chain, target, stepper.batches)
        if number % every:
            continue
        x, *rest = (value.float() for value in seen)
        stream = rest.pop(0) if last.stream else None
        taken.append(Batch(x, dict(zip(chain.others, rest, strict=True)), stream, _wanted(last, target)))
    return taken


def _every(chain: Chain, target: torch.Tensor, batches: int) -> int:
    """Every how manieth batch is enough, or all that fits."""
    last = chain.sites[-1]
    matrices = last.consumer.parts if last.consumer.stacked else 1
    rows = target.numel() // max(1, target.shape[last.channel_axis] * matrices)
    numbers = 0
    for site in chain.sites:
        known = math.prod(dim for dim in (site.output.shape or ())[1:] if isinstance(dim, int))
        numbers += max(rows * site.consumer.parts * site.consumer.outputs, len(target) * known)
    return max(1, batches * rows // JOINT_ROWS, math.ceil(batches * HELD_BYTES * numbers / JOINT_BYTES))


def _downstream(found: list[Site], groups: Groups, removed: Collection[Branch], joint: bool) -> list[Site]:
    """From the first consumer on that lost inputs (to be refitted with others: or outputs), is folded into, or comes after a
    removed branch.

    What runs before it computes what it always did.
    """
    dense = {op.outputs[0].name: op for op in groups.coupling.graph.ops if op.outputs}
    place = {op: i for i, op in enumerate(groups.coupling.graph.ops)}
    bypassed = min((place[branch.addition] for branch in removed), default=len(place))

    def lost(site: Site) -> bool:
        if place[dense[site.consumer.y.name]] > bypassed or site.mixing is not None:
            return True
        before = dense[site.consumer.y.name].inputs[site.consumer.contraction.other]
        after = site.consumer.op.inputs[site.consumer.contraction.other]
        assert before is not None and before.shape is not None
        assert after is not None and after.shape is not None
        axis = site.consumer.contraction.other_axis
        return before.shape != after.shape if joint else before.shape[axis] != after.shape[axis]

    first = next((i for i, site in enumerate(found) if lost(site)), len(found))
    return found[first:]


def _folds(
    dense: Program, groups: Groups, keep: Mapping[Layout, np.ndarray], batches: Sequence[Feeds], threads: int
) -> dict[Projection, np.ndarray]:
    """What the projections of queries and keys that lose dimensions are to give: a matrix over their channels each."""
    cut = [group for group in groups.groups if group.factor in keep and any(not c.weighted for c in group.consumers)]
    found = meetings_of(dense, groups, cut, batches, threads) if cut else {}
    meetings = [meeting for meeting in found.values() if isinstance(meeting, Meeting)]
    encounters = encounter(dense, meetings, batches, threads)
    return folded([(each, keep[meeting.group.factor]) for meeting, each in encounters.items()])


def _start(consumer: Consumer, keep: Mapping[Layout, np.ndarray]) -> np.ndarray:
    """The dense weight of a projection over the inputs that are left, shape (1, o, p)."""
    return consumer.weight()[:, :, with_taps(kept(consumer.contraction.layout, keep), consumer.taps)]


@dataclass(frozen=True, eq=False)
class Fit:
    """A site's refitted weight (G, o, p) and bias (G, o), and the regression that they come from."""

    weight: torch.Tensor
    bias: torch.Tensor
    regression: Regression
    ridge: float
    intercept: bool

    def reading(self) -> Reading:
        """What the site reads, for the joint refit."""
        covariance = second_moment(self.regression.moments, self.intercept)
        return Reading(
            torch.linalg.cholesky(damped(covariance, self.ridge)), self.regression.moments.mean, self.intercept
        )


def _fit(
    site: Site, start: np.ndarray | None, reference: Stepper, stepper: Stepper, random: np.random.Generator
) -> Fit:
    """The weight and bias with which the site comes nearest to its target.

    ``start`` is, where something is folded into it, the dense weight over the inputs that are left.
    """
    consumer = site.consumer
    fitted: Regression | None = None
    sample = Sample(*site.clip, stepper.batches) if site.clip else None
    for (target,), seen in zip(
        reference.visit([site.target.name]), stepper.visit(site.reads, stay=site.late), strict=True
    ):
        wanted = _wanted(site, target)
        rows, picks = sample_rows(consumer, seen[0], stepper.batches, random)
        aim = consumer.output_rows(wanted, picks)
        stream = consumer.output_rows(seen[1].float(), picks) if site.stream else None
        residual = aim if stream is None else aim - stream
        fitted = fitted.add(rows, residual) if fitted else Regression.of(rows, residual)
        if sample:
            sample.add(rows, aim, stream)
    assert fitted is not None
    old = weight_of(consumer, fitted.first)
    if start is not None and site.mixing is not None:
        old = torch.from_numpy(mixed(start, site.mixing)).to(old)
    ridge, intercept = fitted.ridge(RIDGE), site.bias is not None
    weight, bias = fitted.solve(old, ridge, intercept)
    if sample:
        weight, bias = refine(sample, fitted, old, weight, bias, ridge, intercept)
    return Fit(weight, bias if intercept else torch.zeros_like(bias), fitted, ridge, intercept)


def _wanted(site: Site, target: torch.Tensor) -> torch.Tensor:
    """What the slim output is to be: some of the dense target's channels, or what the site's matrix makes of them."""
    axis = site.channel_axis
    if site.mixing is None:
        return target.float().index_select(axis, torch.from_numpy(site.channels).to(target.device))
    matrix = torch.from_numpy(site.mixing).to(target.device, torch.float32)
    return (target.float().movedim(axis, -1) @ matrix).movedim(-1, axis)
