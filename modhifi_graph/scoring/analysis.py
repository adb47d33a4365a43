"""Observe and score: from a model and calibration inputs to a ranking of every group that can be scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from modhifi_graph.axes.branches import Branch
from modhifi_graph.axes.cost import Cost
from modhifi_graph.axes.groups import Contraction, Group, Groups
from modhifi_graph.axes.layout import leaves
from modhifi_graph.dialects.program import Program
from modhifi_graph.inputs.batches import first_samples
from modhifi_graph.interface import Feeds
from modhifi_graph.observe import residual_streams
from modhifi_graph.observe.consumers import Consumer, consumers_of
from modhifi_graph.observe.meeting_moments import Encounter
from modhifi_graph.observe.meetings import Meeting, meetings_of
from modhifi_graph.observe.moments import Moments
from modhifi_graph.observe.observe import Observation, observe
from modhifi_graph.observe.sites import channel_axis, takes_bias
from modhifi_graph.progress import Progress, silent
from modhifi_graph.scoring import criteria
from modhifi_graph.scoring.scores import Ranking, output_energy, rank
from modhifi_graph.scoring.sensitivity import REPAIRED, calibrated, measure, measure_branches

STOPS = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4)
"""At these fractions of every group the effect of removal on the outputs is measured."""

MEASURING_MACS = 1.5e12
MOST_SAMPLES, FEWEST_SAMPLES = 128, 8
"""Sensitivity is measured on as many samples as this many multiply-accumulates allow (so that the same model always gets
the same number), within these limits."""

ROWS_PER_INPUT_WANTED = 4
"""A consumer whose moments rest on fewer rows than this times its inputs is rank-poor: worth a warning."""

LARGEST_INPUT = 16384
"""A consumer with more inputs than this is not scored: its covariance alone would take 2 GiB and more."""

PRICES = criteria.PRICES

UNMET = "two activations meet there: only mode default scores them, on calibration inputs"


@dataclass(frozen=True, eq=False)
class Analysis:
    """What is known about a model before anything is removed.

    Attributes
    ----------
    rankings : one for every group that was scored.
    branches : the price of every residual branch that may go, where they were asked for.
    moments : of the consumers of those groups.
    unscored : why each other group was not, by its name.
    warnings : what the user should know about the calibration set.
    """

    rankings: tuple[Ranking, ...]
    moments: Mapping[Consumer, Moments]
    unscored: Mapping[str, str]
    warnings: tuple[str, ...]
    branches: Mapping[Branch, float] = field(default_factory=dict)


def scorable(
    groups: Groups, meetings: Mapping[tuple[Contraction, Group], Meeting | str] | None = None
) -> tuple[dict[Group, list[Consumer]], dict[str, str]]:
    """The groups that can be scored, with those of their consumers that have a weight; and why the others cannot.

    Every consumer must be a linear map with a weight, or one of the ``meetings`` of two activations that are known.
    """
    consumers = consumers_of(groups)
    found: dict[Group, list[Consumer]] = {}
    unscored: dict[str, str] = {}
    for group in groups.groups:
        members: list[Consumer] = []
        for contraction in group.consumers:
            if not contraction.weighted:
                met = (meetings or {}).get((contraction, group), UNMET)
                if isinstance(met, str):
                    unscored.setdefault(group.name, f"consumed by {contraction.op}: {met}")
                continue
            consumer = consumers[contraction]
            if isinstance(consumer, Consumer) and consumer.inputs <= LARGEST_INPUT:
                members.append(consumer)
            else:
                why = consumer if isinstance(consumer, str) else f"it has more than {LARGEST_INPUT} inputs"
                unscored.setdefault(group.name, f"consumed by {contraction.op}: {why}")
        if group.name not in unscored and any(_ragged(consumer, group) for consumer in members):
            unscored[group.name] = "its components are nested in themselves"
        if group.name not in unscored:
            found[group] = members
    return found, unscored


def _ragged(consumer: Consumer, group: Group) -> bool:
    columns = consumer.columns(group.factor)
    return len(set(np.bincount(columns[columns >= 0], minlength=group.size).tolist())) != 1


@dataclass(frozen=True, eq=False)
class Survey:
    """What was observed, and what every consumer's output counts.

    Attributes
    ----------
    consumers : all that have a weight and not too many inputs, in the order in which they run.
    scale : by what a squared error of a consumer's output is multiplied, to be a share of the streams that it reaches.
    shares : what a consumer's whole output makes up of those streams, in (0, 1].
    """

    consumers: Sequence[Consumer]
    observation: Observation
    scale: Mapping[Consumer, float]
    shares: Mapping[Consumer, float]


def survey(
    program: Program,
    groups: Groups,
    batches: Sequence[Feeds],
    axes: Mapping[str, int | None] | None = None,
    encounters: Sequence[Encounter] = (),
    *,
    seed: int = 0,
    threads: int = 0,
    progress: Progress = silent,
) -> Survey:
    """One pass over the batches; for ``axes`` and ``encounters`` see :func:`modhifi_graph.observe.observe.observe`."""
    graph = groups.coupling.graph
    order = {op: i for i, op in enumerate(graph.ops)}
    every = [c for c in consumers_of(groups).values() if isinstance(c, Consumer) and c.inputs <= LARGEST_INPUT]
    every.sort(key=lambda c: order[c.op])
    where = residual_streams.destinations(graph, every)
    sums = {value.name: channel_axis(c) for c in every for value in where[c].joins}
    seen = observe(
        program,
        batches,
        every,
        {**(axes or {}), **sums},
        encounters,
        seed=seed,
        threads=threads,
        progress=lambda a, b: progress("observe", a, b),
    )
    own = {c: output_energy(c, seen.moments[c]) for c in every}
    scale = residual_streams.worth(every, where, own, seen.energy)
    return Survey(every, seen, scale, {c: scale[c] * own[c] for c in every})


def analyse(
    program: Program,
    groups: Groups,
    batches: Sequence[Feeds],
    *,
    criterion: str = "obs",
    wanted: Callable[[Group], bool] = lambda group: True,
    branches: Sequence[Branch] = (),
    prices: str = "output",
    seed: int = 0,
    threads: int = 0,
    progress: Progress = silent,
) -> Analysis:
    """Observe ``program`` on ``batches``, rank the components of every wanted group, and price them on the outputs.

    ``branches`` are priced too. With ``prices`` "local" groups keep the local costs of their components.

    Time: the forward passes, O(rows p^2) a consumer for its moments, O(components p (p + o) block) a group and consumer
    for greedy OBS, and four partial forward passes a group on a few samples.
    """
    meetings = meetings_of(program, groups, [group for group in groups.groups if wanted(group)], batches, threads)
    members, unscored = scorable(groups, meetings)
    members = {group: consumers for group, consumers in members.items() if wanted(group)}
    met = {key: each for key, each in meetings.items() if isinstance(each, Meeting) and key[1] in members}
    axes = {branch.value.name: _channels(groups, branch) for branch in branches}
    encounters = {meeting: Encounter(meeting) for meeting in met.values()}
    seen = survey(
        program, groups, batches, axes, list(encounters.values()), seed=seed, threads=threads, progress=progress
    )
    moments = seen.observation.moments
    reads = residual_streams.read_by(
        groups.coupling.graph, [meeting.op.outputs[0] for meeting in encounters], seen.consumers
    )
    shares = {m: max([seen.shares[c] for c in fed], default=1.0) for m, fed in zip(encounters, reads, strict=True)}
    measuring = prices == "output"
    rankings: dict[Ranking, list[Consumer]] = {}
    by_contraction = {c.contraction: c for c in seen.consumers}
    for number, (group, consumers) in enumerate(members.items()):
        mine = [by_contraction[c.contraction] for c in consumers]
        stops = sorted({min(group.size - 1, max(1, round(group.size * part))) for part in STOPS}) if measuring else []
        here = [meeting for (_, cut), meeting in met.items() if cut is group]
        ranking = rank(
            group,
            mine,
            [moments[c] for c in mine],
            [seen.scale[c] for c in mine],
            criterion,
            seed=seed,
            stops=stops,
            encounters={encounters[m]: encounters[m].worth(shares[m]) for m in here},
        )
        rankings[ranking] = mine
        progress("score", number + 1, len(members))
    few = first_samples(batches, _samples(groups, len(rankings)))
    measured = measure(
        program,
        list(rankings) if measuring else [],
        rankings,
        moments,
        few,
        threads=threads,
        progress=lambda a, b: progress("measure", a, b),
    )
    shifted = {branch: _takes_bias(groups, branch) for branch in branches}
    means = {b: _along(seen.observation.mean[b.value.name] * shifted[b], axes[b.value.name], b) for b in branches}
    depth = measure_branches(
        program, means, few, threads=threads, progress=lambda a, b: progress("measure branches", a, b)
    )
    ranked = {c: moments[c] for consumers in rankings.values() for c in consumers}
    return Analysis(
        tuple(calibrated(r, measured[r]) if r in measured else r for r in rankings),
        ranked,
        unscored,
        tuple(poor(ranked)),
        {branch: price * (REPAIRED if shifted[branch] else 1.0) for branch, price in depth.items()},
    )


def _takes_bias(groups: Groups, branch: Branch) -> bool:
    """Whether its layers have biases: where they have none, nor have those that could take up its mean in its place."""
    last = consumers_of(groups).get(branch.contraction)
    return isinstance(last, Consumer) and takes_bias(last, groups.coupling.graph)


def _channels(groups: Groups, branch: Branch) -> int | None:
    """The axis of a branch's value that holds the channels of its last layer; None where there is no one such axis."""
    coupling, last = groups.coupling, consumers_of(groups).get(branch.contraction)
    if not isinstance(last, Consumer):
        return None
    made = coupling.axes(last.y)
    factors = list(leaves(made[channel_axis(last)])) if made else []
    found = [i for i, axis in enumerate(coupling.axes(branch.value) or ()) if factors and list(leaves(axis)) == factors]
    return found[0] if len(found) == 1 else None


def _along(mean: torch.Tensor, axis: int | None, branch: Branch) -> np.ndarray:
    """One number a channel, shaped to broadcast to the branch's value."""
    shape = [-1 if i == axis else 1 for i in range(branch.value.rank or 0)]
    return mean.cpu().numpy().reshape(shape).astype(branch.value.dtype or np.float32)


def unobserved(groups: Groups, criterion: str, wanted: Callable[[Group], bool], seed: int) -> Analysis:
    """Rankings without any data, for the criteria that need none: ``magnitude`` and ``random``."""
    members, unscored = scorable(groups)
    rankings = []
    for group, consumers in members.items():
        if wanted(group):
            blank = [Moments.of(torch.zeros(c.parts, 1, c.inputs)) for c in consumers]
            weights = [1 / max(1e-30, float(np.square(c.weight()).sum())) for c in consumers]
            rankings.append(rank(group, consumers, blank, weights, criterion, seed=seed))
    return Analysis(tuple(rankings), {}, unscored, ())


def _samples(groups: Groups, rankings: int) -> int:
    """Half of the network runs for each of the measured widths, on average."""
    each = max(1, Cost(groups).macs()) * max(1, rankings) * len(STOPS) / 2
    return int(min(MOST_SAMPLES, max(FEWEST_SAMPLES, MEASURING_MACS / each)))


def poor(moments: Mapping[Consumer, Moments]) -> list[str]:
    """A warning for every consumer whose moments rest on too few rows."""
    return [
        f"{c.op}: {seen.count} calibration rows for {c.inputs} inputs; what they do not show is kept only as far as "
        "the weights do: give more samples, of everything the model will see"
        for c, seen in moments.items()
        if seen.count < ROWS_PER_INPUT_WANTED * c.inputs
    ]
