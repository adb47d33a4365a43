"""What each part of the default is worth: the whole, and the whole with one part less or other, at equal multiply-accumulates.

    python -m tools.evidence.parts --model sample:digits-cnn
    python -m tools.evidence.parts --model resnet56.onnx --calib calib.npz \\
        --score 'python evaluate.py score cifar10 {}' --key top1

Prints a Markdown table. What a row shows is what :mod:`tools.evidence.ablation` shows: what ``--score`` says of the file, the
accuracy of a sample, or the fidelity of the outputs on the calibration inputs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.errors import InputError
from modhifi_graph.frontends.onnx import sample_accuracy
from modhifi_graph.jobs.optimize import Optimized, optimize
from modhifi_graph.models.opening import SAMPLE, open_model
from tools.command import listed, status_of
from tools.experiments.rating import Score, command_score

PARTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "default": ("all of it", {}),
    "prices": ("groups compete by what their streams lose, not by what the outputs lose", {"prices": "local"}),
    "criterion": (
        "components go by their own fidelity, not by what the others cannot make up for",
        {"criterion": "fidelity"},
    ),
    "mirrors": ("no mirror images", {"mirror": False}),
    "joint": ("layers are refitted one by one", {"compensation": "sequential"}),
    "sequential": ("only layers that lost inputs are refitted, each for itself", {"compensation": "lstsq"}),
    "depth": ("besides, whole branches may go", {"depth": True}),
    "batchnorm": ("batch norms stay", {"fold_batchnorm": False}),
    "reestimated": ("batch norms stay and are estimated anew", {"fold_batchnorm": False, "reestimate_batchnorm": True}),
}
"""What every row changes."""


def measured(
    model: str, calib: str | None, options: Mapping[str, Any], names: Sequence[str]
) -> Iterator[tuple[str, Optimized]]:
    """Every part with the model that comes of it."""
    normed = any(node.op_type == "BatchNormalization" for node in to_proto(open_model(model).model).graph.node)
    for name in names:
        if normed or name not in ("batchnorm", "reestimated"):
            yield name, optimize(model, calib, bench_seconds=0, **options, **PARTS[name][1])


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return status_of("parts", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    names = listed(options.only, tuple(PARTS), "--only")
    sample = options.model.startswith(SAMPLE)
    if options.calib is None and not sample:
        raise InputError(f"{options.model}: needs calibration inputs: give --calib")
    rate: Score | None = (lambda proto: sample_accuracy(options.model, proto, options.threads)) if sample else None
    if options.score is not None:
        rate = command_score(options.score, options.key)
    print("| | score | fidelity | MACs |\n|---|---:|---:|---:|", flush=True)
    common = {"macs": options.macs, "seed": options.seed, "threads": options.threads}
    for name, found in measured(options.model, options.calib, common, names):
        report = found.report
        score = report["fidelity"] if rate is None else rate(found.model)
        macs = report["macs"]["after"] / report["macs"]["before"]
        print(f"| {PARTS[name][0]} | {score:.4f} | {report['fidelity']:.4f} | {macs:.4f} |", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="an .onnx file, or a sample")
    parser.add_argument("--calib", help="calibration inputs: .npz, .npy; samples have theirs")
    parser.add_argument("--macs", type=float, default=0.5, help="fraction of multiply-accumulates that stays")
    parser.add_argument("--score", help="a command that rates the model whose path replaces {}")
    parser.add_argument("--key", help="the number to read where --score prints JSON")
    parser.add_argument("--only", default=",".join(PARTS), help="comma-separated rows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    return parser


if __name__ == "__main__":
    sys.exit(main())
