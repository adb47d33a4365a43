"""The figures of a run: what shrank, what it cost in fidelity, how fast the result is, and what the user should know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from modhifi_graph import samples
from modhifi_graph.accounting import Cost
from modhifi_graph.axes.groups import Groups
from modhifi_graph.axes.layout import Layout
from modhifi_graph.dialects.onnx_stepper import Feeds
from modhifi_graph.errors import InputError
from modhifi_graph.exporters import onnxruntime as backend
from modhifi_graph.fidelity.analysis import Analysis
from modhifi_graph.fidelity.selection import Budget
from modhifi_graph.fidelity.sensitivity import relative_error
from modhifi_graph.plan import Plan
from modhifi_graph.timing import bench

FIDELITY_SAMPLES = 256
"""The fidelity of the outputs is measured on this many calibration samples."""


def sizes(
    groups: Groups, plan: Plan, cost: Cost, counts: Mapping[Layout, int], analysis: Analysis | None
) -> dict[str, Any]:
    """Multiply-accumulates, parameters and components before and after, group by group, and what is pinned."""
    return {
        "macs": {"before": cost.macs(), "after": cost.macs(counts)},
        "params": {"before": cost.params(), "after": cost.params(counts)},
        "components": {
            "before": sum(group.size for group in groups.groups),
            "after": sum(counts.get(group.factor, group.size) for group in groups.groups),
        },
        "groups": _group_rows(groups, plan, analysis),
        "pinned": [
            {"name": p.name, "size": p.size, "reasons": [str(reason) for reason in p.reasons]} for p in groups.pinned
        ],
    }


def _group_rows(groups: Groups, plan: Plan, analysis: Analysis | None) -> list[dict[str, Any]]:
    left = {entry.name: len(entry.keep) for entry in plan.groups}
    unscored = analysis.unscored if analysis is not None else {}
    return [
        {
            "name": group.name,
            "kind": group.kind,
            "before": group.size,
            "after": left.get(group.name, group.size),
            **({"not_scored": unscored[group.name]} if group.name in unscored else {}),
        }
        for group in groups.groups
    ]


def output_fidelity(
    dense: onnx.ModelProto, slim: onnx.ModelProto, batches: Sequence[Feeds], threads: int
) -> float | None:
    """1 - (squared error of the outputs over their variance), on the first calibration samples; at most 1."""
    if not batches:
        return None
    before, after = (backend.Engine.compile(m, threads=threads) for m in (dense, slim))
    size = max((len(array) for array in batches[0].values() if array.ndim), default=1)
    few = batches[: max(1, FIDELITY_SAMPLES // size)]
    results = [(before.run(feeds), after.run(feeds)) for feeds in few]
    floats = [name for name, a in results[0][0].items() if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    if not floats:
        return None
    error = relative_error(
        [{name: a[name] for name in floats} for a, _ in results],
        [{name: b[name] for name in floats} for _, b in results],
    )
    if not np.isfinite(error):
        raise InputError(
            "the repaired model gives values that are not finite on the calibration inputs; nothing written"
        )
    return 1 - error


def latency(
    dense: onnx.ModelProto,
    slim: onnx.ModelProto,
    batches: Sequence[Feeds],
    *,
    seconds: float,
    batch: int,
    threads: int,
    seed: int,
) -> dict[str, Any]:
    """Both models timed side by side, on calibration inputs where a batch of this size can be cut from them."""
    if seconds <= 0:
        return {}
    inputs = None
    if batches and any(array.ndim for array in batches[0].values()):
        size = max(len(array) for array in batches[0].values() if array.ndim)
        single = all(array.ndim and len(array) == size for array in batches[0].values())
        inputs = {name: array[:batch] for name, array in batches[0].items()} if single and size >= batch else None
    found = bench(dense, slim, inputs=inputs, seed=seed, threads=threads, batch=batch, seconds=seconds).to_json()
    return {
        "latency_ms": {"before": found["a"], "after": found["b"]},
        "speedup": found["speedup"],
        "interval": found["interval"],
        "timing": {"batch": batch, "threads": found["threads"], "provider": found["provider"]},
    }


def warnings(
    groups: Groups,
    plan: Plan,
    budget: Budget | None,
    cost: Cost,
    counts: Mapping[Layout, int],
    analysis: Analysis | None,
) -> list[str]:
    """What is worth a line of its own, in order."""
    found = list(analysis.warnings) if analysis is not None else []
    if not groups.groups:
        found.append(
            "nothing can be pruned here: no factor is produced by a weight, consumed by a contraction and free"
        )
    elif not plan.groups and (budget is None or budget.fraction < 1):
        found.append("nothing was removed: every group was left out or is already as small as it may be")
    if budget is not None and budget.kind in ("macs", "params"):
        measure = cost.macs if budget.kind == "macs" else cost.params
        reached = measure(counts) / max(1, measure())
        if reached > budget.fraction:
            found.append(
                f"the budget {budget.kind} {budget.fraction:g} was out of reach; {reached:.4f} is what is left"
            )
    return found


def sample_accuracy(name: str, model: onnx.ModelProto, threads: int = 0) -> float:
    """Top-1 accuracy of a model on the test images of a sample, in percent."""
    engine = backend.Engine.compile(model, threads=threads)
    return samples.accuracy(lambda x: engine.run({engine.inputs[0].name: x})[engine.outputs[0]], samples.load(name))
