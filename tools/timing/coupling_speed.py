"""Time how long grouping takes once a model is loaded: the best of several runs, in milliseconds.

python -m tools.timing.coupling_speed MODEL.onnx...
"""

from __future__ import annotations

import argparse
import time

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.models.opening import open_model
from modhifi_graph.passes.normal_form import normalise

RUNS = 5


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="+")
    for path in parser.parse_args(arguments).model:
        graph = lift(normalise(open_model(path).model, path)).graph
        times = []
        for _ in range(RUNS):
            start = time.perf_counter()
            groups = find_groups(couple(graph))
            times.append(time.perf_counter() - start)
        print(f"{path}: {len(groups.groups)} groups, {1000 * min(times):.1f} ms")


if __name__ == "__main__":
    main()
