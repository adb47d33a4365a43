"""How near cheap searches come to the k-MFS, on every layer small enough to try all sets.

    python -m tools.evidence.subset_search sample:digits-vit
    python -m tools.evidence.subset_search model.onnx --calib calib.npz --largest 16

For every layer and every k: the Subset Fidelity of the best set (all are tried), and what each method misses of it. Prints a
Markdown table of the worst k of every layer, for one scale a component (shared), for one in every output channel (of) and
for refitted weights (least_squares), and at the end the most that each method misses anywhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from modhifi_graph.jobs.score import ROWS, score
from modhifi_graph.scoring.subset import SubsetFidelity

READINGS = ("shared", "of", "least_squares")
METHODS = ("forward", "backward", "exchange", "singletons", "random")


def shortfalls(layer: SubsetFidelity) -> dict[str, float]:
    """The most that each method misses of the best fidelity, as a share of it, over all k."""
    worst = dict.fromkeys(METHODS, 0.0)
    for k in range(1, layer.components):
        best = layer.search(k, "exhaustive").fidelity
        for method in METHODS:
            missed = 1 - layer.search(k, method).fidelity / best
            worst[method] = max(worst[method], missed)
    return worst


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--calib")
    parser.add_argument("--largest", type=int, default=16, help="components of the largest layer looked at")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--readings", nargs="+", choices=READINGS, default=READINGS)
    given = parser.parse_args(argv)
    scores = score(given.model, given.calib, rows=given.rows, samples=given.samples)
    print(f"| layer | components | reading | {' | '.join(METHODS)} |")
    print(f"|---|---:|---|{'---:|' * len(METHODS)}")
    overall = dict.fromkeys(METHODS, 0.0)
    for group in scores.groups:
        for layer in group.layers if 1 < group.size <= given.largest else ():
            problems = {"shared": layer.shared, "of": layer.fidelity, "least_squares": layer.least_squares}
            for reading in given.readings:
                missed = shortfalls(problems[reading])
                overall = {method: max(overall[method], missed[method]) for method in METHODS}
                print(f"| {layer.name} | {group.size} | {reading} | {_cells(missed)} |", flush=True)
    sizes = sorted({group.size for group in scores.groups})
    if sizes[:1] <= [given.largest]:
        print(f"| worst | | | {_cells(overall)} |")
    else:
        print(f"No layer has at most {given.largest} components: they have {', '.join(map(str, sizes))}.")


def _cells(missed: Mapping[str, float]) -> str:
    return " | ".join(f"{share:.2%}" for share in missed.values())


if __name__ == "__main__":
    main()
