"""ModHiFi-P as published (arXiv 2511.19566): rounds of observing, scoring, removing what is in nobody's HiFi set, and scaling.

Every round looks at the model as the rounds before have left it, but what stays is always said of the dense model, and so are
the weights that have been scaled (:class:`modhifi_graph.repair.dense_layout.Repairs`). So plans need no composing, and two
proofs hold after every round: what was slimmed equals the dense model masked, as ever, and it still does with the scaled
weights in both. The sparsity is whatever comes out; with a budget, rounds go on until it is met.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from modhifi_graph.axes.cost import Cost
from modhifi_graph.axes.groups import Group, Groups
from modhifi_graph.axes.layout import Layout, kept
from modhifi_graph.dialects.program import Program
from modhifi_graph.frontends.frontend import FrontEnd
from modhifi_graph.inputs.batches import Batches
from modhifi_graph.interface import Feeds
from modhifi_graph.observe.moments import Moments
from modhifi_graph.observe.observe import observe
from modhifi_graph.observe.windows import Window, windows, with_taps
from modhifi_graph.options.request import Options
from modhifi_graph.plan import GroupPlan, Plan
from modhifi_graph.progress import Progress
from modhifi_graph.prove.verification import Verification
from modhifi_graph.repair.dense_layout import Repairs
from modhifi_graph.repair.local import components, repaired_weight
from modhifi_graph.scoring.analysis import Analysis, poor, scorable, survey
from modhifi_graph.scoring.hifi import Claims, claims
from modhifi_graph.select.budget import Limits

Keep = Mapping[Layout, np.ndarray]
_HOLDERS = {"layer": "layer", "channel": "output channel"}
Seen = tuple[Window, torch.Tensor, Moments]


@dataclass(frozen=True, eq=False)
class Pruned:
    """What the rounds have come to.

    Attributes
    ----------
    plan : what stays of the dense model.
    repairs : the weights and biases that go with it.
    rounds : of every round its ``percentile`` (what HiFi sets gave up at the most), how many components were ``removed``, the
        ``macs`` and ``params`` left, and the ``error`` of the proof for the model that it began with.
    analysis : what was not scored and why, and warnings; there are no rankings.
    """

    plan: Plan
    repairs: Repairs
    rounds: list[dict[str, Any]]
    analysis: Analysis


def prune(front: FrontEnd, groups: Groups, cost: Cost, data: Batches, options: Options, progress: Progress) -> Pruned:
    """Rounds until the budget is met; without one as many as ``options.rounds`` says, at the percentile as it is.

    With a budget a round removes what claims least, no more than a share ``options.percentile`` of the components, so that
    those that follow look anew; the last one stops as soon as the budget is met. Of HiFi sets of output channels none goes
    but what all give up at the percentile, and a round that would remove nothing raises it, for those after it too, by
    ``options.percentile``. Time: what :func:`modhifi_graph.observe.observe.observe` takes, a round.
    """
    names, unscored = _members(front.program, groups, options)
    worth = _worth(front.program, groups, data, options) if options.hifi_sets == "layer" else {}
    keep: dict[Layout, np.ndarray] = {}
    repairs, rows = Repairs(), list[dict[str, Any]]()
    warned: list[str] | None = None
    percentile = options.percentile
    while _goes_on(rows, cost, _counts(keep), options):
        plan = _plan(groups, keep)
        slim = front.slimmed(plan)
        error = replay(front, groups, slim, plan, repairs, data.feeds, options).max_abs_error
        seen = _observed(slim, groups, names, keep, repairs, data, options)
        warned = poor({w.site.consumer: moments for w, _, moments in seen}) if warned is None else warned
        found = claims(seen, names, keep, options.criterion, options.hifi_sets, worth)
        percentile, gone = _chosen(found, percentile, cost, keep, options)
        for group, removed in gone.items():
            keep[group.factor] = np.setdiff1d(keep.get(group.factor, np.arange(group.size)), removed)
        _repair(seen, keep, repairs, options.compensation)
        counts = _counts(keep)
        rows.append(
            {
                "percentile": percentile,
                "removed": sum(map(len, gone.values())),
                "macs": cost.macs(counts),
                "params": cost.params(counts),
                "error": error,
            }
        )
        progress("rounds", *_progress(rows, cost, options))
        if not gone:
            break
    if not keep and rows:
        warned = [
            *(warned or ()),
            f"at percentile {percentile:g} every component is in the HiFi set of some {_HOLDERS[options.hifi_sets]}",
        ]
    analysis = Analysis((), {}, unscored, tuple(warned or ()))
    return Pruned(_plan(groups, keep, options.settings(data.samples)), repairs, rows, analysis)


def replay(
    front: FrontEnd,
    groups: Groups,
    slim: Program,
    plan: Plan,
    repairs: Repairs,
    batches: Sequence[Feeds],
    options: Options,
) -> Verification:
    """Write repairs into what ``plan`` left of the model, and prove that it is the repaired dense model masked."""
    repairs.write(groups, slim, plan.resolve(groups))
    whole = front.slimmed(Plan())
    repairs.write(groups, whole, {})
    return front.verified(slim, plan, batches, options, whole)


def _plan(groups: Groups, keep: Keep, settings: Mapping[str, Any] | None = None) -> Plan:
    entries = [
        GroupPlan(group.name, group.size, tuple(keep[group.factor].tolist()))
        for group in groups.groups
        if group.factor in keep
    ]
    return Plan(tuple(entries), settings or {})


def _counts(keep: Keep) -> dict[Layout, int]:
    return {factor: len(positions) for factor, positions in keep.items()}


def _measure(cost: Cost, options: Options) -> Callable[[Mapping[Layout, int] | None], int]:
    return cost.params if options.budget is not None and options.budget.kind == "params" else cost.macs


def _is_met(cost: Cost, counts: Mapping[Layout, int], options: Options) -> bool:
    measure = _measure(cost, options)
    return options.budget is not None and measure(counts) <= options.budget.fraction * measure(None)


def _goes_on(rows: Sequence[Any], cost: Cost, counts: Mapping[Layout, int], options: Options) -> bool:
    return len(rows) < (options.rounds or 1) if options.budget is None else not _is_met(cost, counts, options)


def _progress(rows: Sequence[Mapping[str, Any]], cost: Cost, options: Options) -> tuple[int, int]:
    """How far it is, in rounds or in what the budget counts."""
    if options.budget is None:
        return len(rows), options.rounds or 1
    whole = _measure(cost, options)(None)
    target = round(whole * (1 - options.budget.fraction))
    return min(target, whole - int(rows[-1][options.budget.kind])), target


def _members(dense: Program, groups: Groups, options: Options) -> tuple[dict[Group, list[str]], dict[str, str]]:
    """The groups that may be cut with the output names of their consumers, and why others may not."""
    members, unscored = scorable(groups)
    places = {window.dense.y.name for window in windows(groups, dense.graph, {})}
    found = {}
    for group, consumers in members.items():
        elsewhere = [c for c in consumers if c.y.name not in places]
        if elsewhere:
            unscored[group.name] = (
                f"consumed by {elsewhere[0].op}: what it adds is no constant, so it cannot be repaired"
            )
        elif options.limits.allows(group):
            found[group] = [c.y.name for c in consumers]
    return found, unscored


def _worth(dense: Program, groups: Groups, data: Batches, options: Options) -> dict[str, float]:
    """Which share of the stream that it joins every consumer's output makes up, in (0, 1], by the output's name."""
    seen = survey(dense, groups, data.feeds, seed=options.seed, threads=options.threads)
    return {consumer.y.name: share for consumer, share in seen.shares.items()}


def _observed(
    slim: Program,
    groups: Groups,
    members: Mapping[Group, Sequence[str]],
    keep: Keep,
    repairs: Repairs,
    data: Batches,
    options: Options,
) -> list[Seen]:
    """Every consumer of the current model whose inputs may go: its weight, and the moments of what it reads."""
    names = {name for each in members.values() for name in each}
    found = [window for window in windows(groups, slim.graph, keep) if window.dense.y.name in names]
    consumers = [window.site.consumer for window in found]
    moments = observe(slim, data.feeds, consumers, seed=options.seed, threads=options.threads).moments
    return [
        (w, torch.from_numpy(repairs.current(w)).to(moments[w.site.consumer].origin.device), moments[w.site.consumer])
        for w in found
    ]


def _chosen(
    found: Sequence[Claims], percentile: float, cost: Cost, keep: Keep, options: Options
) -> tuple[float, dict[Group, list[int]]]:
    """What goes in a round, and at which percentile: the given one, or with a budget the one that it takes."""
    if options.budget is None:
        return percentile, removable(found, percentile, options.limits)
    most = max(1, math.ceil(options.percentile * sum(len(c.components) for c in found)))

    def is_enough(left: Mapping[Layout, int]) -> bool:
        gone = sum(len(c.components) - left[c.group.factor] for c in found)
        return gone >= most or _is_met(cost, {**_counts(keep), **left}, options)

    if options.hifi_sets == "layer":
        gone = removable(found, 1.0, options.limits, is_enough)
        return _highest(found, gone), gone
    gone = removable(found, percentile, options.limits, is_enough)
    while not gone and percentile < 1:
        percentile = min(1.0, round(percentile + options.percentile, 9))
        gone = removable(found, percentile, options.limits, is_enough)
    return percentile, gone


def _highest(found: Sequence[Claims], gone: Mapping[Group, Sequence[int]]) -> float:
    """The highest claim of what goes; 1 where nothing does."""
    mine = [c.within[np.isin(c.components, gone[c.group])] for c in found if c.group in gone]
    return float(np.concatenate(mine).max()) if mine else 1.0


def removable(
    found: Sequence[Claims],
    percentile: float,
    limits: Limits,
    is_enough: Callable[[Mapping[Layout, int]], bool] = lambda left: False,
) -> dict[Group, list[int]]:
    """What nobody's HiFi set holds at a percentile, lowest claim first.

    Parameters
    ----------
    is_enough : asked after every removal, with the number of components that are left of each group, whether to stop.
    """
    order = sorted(
        (claim, overall, number, component)
        for number, c in enumerate(found)
        for claim, overall, component in zip(c.within.tolist(), c.overall.tolist(), c.components.tolist(), strict=True)
        if claim <= percentile
    )
    left = {c.group.factor: len(c.components) for c in found}
    waiting: dict[Group, list[int]] = defaultdict(list)
    gone: dict[Group, list[int]] = {}
    for _, _, number, component in order:
        group = found[number].group
        waiting[group].append(component)
        rest = left[group.factor] - len(waiting[group])
        if rest < limits.fewest(group) or rest % limits.step(group):
            continue
        gone[group] = [*gone.get(group, []), *waiting.pop(group)]
        left[group.factor] = rest
        if is_enough(left):
            break
    return gone


def _repair(seen: Sequence[Seen], keep: Keep, repairs: Repairs, method: str) -> None:
    """Repair every consumer that lost inputs for what it lost, from the moments that were seen."""
    for window, weight, moments in seen:
        layout = window.dense.contraction.layout
        columns = with_taps(kept(layout, keep), window.dense.taps)
        if method == "none" or len(columns) == len(window.columns):
            continue
        parts = [window.positions(part) for part in components(window.dense, keep)]
        stays, intercept = window.positions(columns), window.site.bias is not None
        new, shift = repaired_weight(weight, moments, stays, parts, method, intercept)
        repairs.replace(window, new.cpu().numpy(), shift.cpu().numpy())
