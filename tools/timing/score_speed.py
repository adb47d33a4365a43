"""What scoring costs, in plain forward passes of the same images: both measured in turns, in one process.

    python -m tools.timing.score_speed model.onnx --calib calib.npz --threads 1

Scoring is all that `modhifi-graph score` does by default between having the model and the inputs and having all scores:
finding the groups, observing every layer that reads one, and the four scores of every component. The forward passes are
those of the model as it was given, in ONNX Runtime, with as many threads and in the same batches. Seconds are wall-clock
and, because other programs may compute beside it, the process's own.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.exporters.onnxruntime import Engine
from modhifi_graph.frontends.onnx import OnnxFrontEnd
from modhifi_graph.jobs.calibrate import calibrated
from modhifi_graph.jobs.score import ROWS, scored
from modhifi_graph.options.request import Options
from modhifi_graph.select.budget import Keep


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall and of this process."""
    start = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--calib", help="unlabelled inputs; samples have theirs")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    options = Options(budget=Keep(1.0), plan=None, samples=given.samples, threads=given.threads)
    front = OnnxFrontEnd(given.model, options)
    data = calibrated(front, given.calib, options)
    assert data is not None
    engine = Engine.compile(to_proto(front.opened.model), threads=given.threads)

    def forward() -> None:
        for batch in data.feeds:
            engine.run(batch)

    def scoring() -> None:
        for group in scored(front, data, options, rows=given.rows).groups:
            assert group.scores["fidelity"].shape == (group.size,)

    forward()
    rounds = [(timed(forward), timed(scoring)) for _ in range(given.rounds)]
    print(f"{data.samples} samples, {given.rows} rows a layer, {given.threads} threads, {given.rounds} rounds; medians")
    for title, clock in (("wall", 0), ("cpu", 1)):
        plain, full = ([turn[which][clock] for turn in rounds] for which in (0, 1))
        ratio = statistics.median(b / a for a, b in zip(plain, full, strict=True))
        print(
            f"{title:>4}: forward {statistics.median(plain):.2f} s, scoring {statistics.median(full):.2f} s, ratio {ratio:.2f}"
        )


if __name__ == "__main__":
    main()
