"""The figures of a run: what shrank, what it cost in fidelity, how fast the result is, and what the user should know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from modhifi_graph.axes.cost import Cost
from modhifi_graph.axes.groups import Groups
from modhifi_graph.axes.layout import Layout
from modhifi_graph.errors import InputError
from modhifi_graph.inputs.batches import samples_in
from modhifi_graph.interface import Feeds
from modhifi_graph.observe.output_error import relative_error
from modhifi_graph.plan import Plan
from modhifi_graph.scoring.analysis import Analysis
from modhifi_graph.scoring.spectrum import spectrum
from modhifi_graph.select.budget import Budget

FIDELITY_SAMPLES = 256
"""The fidelity of the outputs is measured on this many calibration samples."""


def sizes(
    groups: Groups, plan: Plan, cost: Cost, analysis: Analysis | None, *, details: bool = False
) -> dict[str, Any]:
    """Multiply-accumulates, parameters and components before and after, group by group, branches, and what is pinned.

    With ``details`` a group that was scored has its ``spectrum`` (:func:`modhifi_graph.scoring.spectrum.spectrum`).
    """
    counts, left = _counts(groups, plan), _left_of(groups, plan, cost)
    rows = _group_rows(groups, plan, analysis, left)
    if details and analysis is not None:
        rows = _with_spectra(rows, plan, analysis)
    return {
        "macs": {"before": cost.macs(), "after": left.macs(counts)},
        "params": {"before": cost.params(), "after": left.params(counts)},
        "components": {"before": sum(row["before"] for row in rows), "after": sum(row["after"] for row in rows)},
        "groups": rows,
        "branches": list(plan.branches),
        "pinned": [
            {"name": p.name, "size": p.size, "reasons": [str(reason) for reason in p.reasons]} for p in groups.pinned
        ],
    }


def _counts(groups: Groups, plan: Plan) -> dict[Layout, int]:
    """How many components of each pruned group stay."""
    return {factor: len(kept) for factor, kept in plan.resolve(groups).items()}


def _left_of(groups: Groups, plan: Plan, cost: Cost) -> Cost:
    """The cost without the branches that go."""
    return Cost(groups, plan.removed(groups)) if plan.branches else cost


def _group_rows(groups: Groups, plan: Plan, analysis: Analysis | None, cost: Cost) -> list[dict[str, Any]]:
    """One row a group; of one that went with a branch nothing is left."""
    left = {entry.name: len(entry.keep) for entry in plan.groups}
    unscored = analysis.unscored if analysis is not None else {}
    return [
        {
            "name": group.name,
            "kind": group.kind,
            "before": group.size,
            "after": left.get(group.name, group.size) if cost.uses(group.factor) else 0,
            **({"not_scored": unscored[group.name]} if group.name in unscored else {}),
        }
        for group in groups.groups
    ]


def _with_spectra(rows: list[dict[str, Any]], plan: Plan, analysis: Analysis) -> list[dict[str, Any]]:
    """The rows with what each component costs; where a group goes with its branch all of it went."""
    rankings = {ranking.group.name: ranking for ranking in analysis.rankings}
    kept = {entry.name: entry.keep for entry in plan.groups}
    stays = {row["name"]: kept.get(row["name"], range(row["before"])) if row["after"] else () for row in rows}
    return [
        {**row, "spectrum": spectrum(rankings[row["name"]], stays[row["name"]])} if row["name"] in rankings else row
        for row in rows
    ]


def output_fidelity(
    answers: Callable[[Sequence[Feeds]], Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]],
    batches: Sequence[Feeds],
) -> float | None:
    """1 - (squared error of the outputs over their variance), on the first calibration samples; at most 1.

    ``answers`` gives the floating-point outputs of the original and of the finished model for some batches; None where they
    have none.
    """
    if not batches:
        return None
    found = answers(batches[: max(1, FIDELITY_SAMPLES // samples_in(batches[0]))])
    if not found[0][0]:
        return None
    error = relative_error([before for before, _ in found], [after for _, after in found])
    if not np.isfinite(error):
        raise InputError(
            "the repaired model gives values that are not finite on the calibration inputs; nothing written"
        )
    return 1 - error


def speed_of(report: Mapping[str, Any]) -> float:
    """The speed-up of a report with a goal: as timed at the end, or else in the search."""
    return float(report.get("speedup") or report["search"]["attempts"][-1]["speedup"])


def warnings(
    groups: Groups,
    plan: Plan,
    budget: Budget | None,
    cost: Cost,
    analysis: Analysis | None,
) -> list[str]:
    """What is worth a line of its own, in order."""
    found = list(analysis.warnings) if analysis is not None else []
    if not groups.groups:
        found.append(
            "nothing can be pruned here: no factor is produced by a weight, consumed by a contraction and free"
        )
    elif not plan and (budget is None or budget.fraction < 1):
        found.append("nothing was removed: every group was left out or is already as small as it may be")
    if budget is not None and budget.kind in ("macs", "params"):
        left, which = _left_of(groups, plan, cost), 0 if budget.kind == "macs" else 1
        reached = left.total(_counts(groups, plan))[which] / max(1, cost.total()[which])
        if reached > budget.fraction:
            found.append(
                f"the budget {budget.kind} {budget.fraction:g} was out of reach; {reached:.4f} is what is left"
            )
    return found
