"""How far off predicted latency is: plans of random widths, predicted, then compiled and timed.

    python -m tools.timing.latency_error sample:digits-vit --backend openvino
    python -m tools.timing.latency_error model.onnx --plans 20 --threads 1

The latency model is made as `optimize --speedup` makes it (:mod:`modhifi_graph.latency.model`), at the step that is measured;
none of the plans is among those that it was made from. The error is the predicted time over the measured one, less one. Whole
engines are timed in turns with the dense one; how far that one is off itself tells how steady the machine is.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from modhifi_graph.axes.cost import Cost
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Groups, find_groups
from modhifi_graph.axes.layout import Layout
from modhifi_graph.exporters import BACKENDS
from modhifi_graph.frontends.onnx import OnnxFrontEnd
from modhifi_graph.interface import random_inputs, specs_of
from modhifi_graph.latency.model import at_widths, measured
from modhifi_graph.latency.steps import best_step
from modhifi_graph.latency.timer import Pieces, Timer
from modhifi_graph.latency.widths import plan_of, width
from modhifi_graph.options.request import made

NARROWEST = 0.3
BUILDS = 3
"""Every plan is compiled so often; the middle time counts."""


def errors(model: str, backend: str, plans: int, threads: int, seed: int) -> tuple[list[float], float]:
    """Predicted over measured, less one, for every plan; and the dense engine's time beside itself, last over first."""
    front = OnnxFrontEnd(model, made(keep=1.0, backend=backend, threads=threads, seed=seed))
    dense, groups = front.program, find_groups(couple(front.program.graph))
    feeds = random_inputs(specs_of(ir.to_proto(dense.model)), seed, 1)
    timer, cost = Timer(backend, threads=threads), Cost(groups)

    time = timer.beside(ir.to_proto(dense.model), feeds)

    def whole(counts: Mapping[Layout, int]) -> float:
        slim = ir.to_proto(front.slimmed(plan_of(groups.groups, counts)).model)
        return statistics.median(time(slim) for _ in range(BUILDS))

    step = best_step(
        groups.groups,
        lambda counts: sum(Pieces(at_widths(dense, groups, counts), feeds).times(timer).values()),
        cost.macs,
    )
    start = whole({})
    law = measured(dense, groups, feeds, timer, time, step, seed=seed)
    chosen = _random_widths(groups, step, plans, seed)
    found = [law.total(counts)[0] / whole(counts) - 1 for counts in chosen]
    return found, whole({}) / start


def _random_widths(groups: Groups, step: int, plans: int, seed: int) -> list[dict[Layout, int]]:
    """Every group for itself, and in every fourth plan all alike."""
    random = np.random.default_rng(seed + 1)
    found = []
    for number in range(plans):
        alike = random.uniform(NARROWEST, 1)
        levels = [alike if number % 4 == 3 else random.uniform(NARROWEST, 1) for _ in groups.groups]
        found.append({g.factor: width(g.size, level, step) for g, level in zip(groups.groups, levels, strict=True)})
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("--backend", default=BACKENDS[0])
    parser.add_argument("--plans", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    found, drift = errors(given.model, given.backend, given.plans, given.threads, given.seed)
    sizes = sorted(abs(error) for error in found)
    print(" ".join(f"{error:+.3f}" for error in found))
    print(
        f"{given.model} on {given.backend}: {len(found)} plans, error {statistics.median(sizes):.1%} in the middle, "
        f"{sizes[-1]:.1%} at most; the dense engine took {drift:.3f} times as long as itself"
    )


if __name__ == "__main__":
    main()
