"""How near cheap searches come to the k-MFS, on every layer small enough to try all sets.

    python tools/subset_search.py sample:digits-vit
    python tools/subset_search.py model.onnx --calib calib.npz --largest 16

For every layer and every k: the Subset Fidelity of the best set (all are tried), and what each method misses of it. Prints a
Markdown table of the worst k of every layer, for one scale a component (shared) and for one in every output channel (of).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from modhifi_graph.fidelity.subset import SubsetFidelity
from modhifi_graph.scoring import ROWS, score

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
    given = parser.parse_args(argv)
    scores = score(given.model, given.calib, rows=given.rows, samples=given.samples)
    print(f"| layer | components | scales | {' | '.join(METHODS)} |")
    print(f"|---|---:|---|{'---:|' * len(METHODS)}")
    for group in scores.groups:
        if 1 < group.size <= given.largest:
            for layer in group.layers:
                for scales, problem in (("shared", layer.shared), ("of", layer.fidelity)):
                    cells = " | ".join(f"{missed:.2%}" for missed in shortfalls(problem).values())
                    print(f"| {layer.name} | {group.size} | {scales} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
