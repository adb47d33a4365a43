"""Accuracy at equal measured latency: this project beside what a user would pick instead, and the table of BENCHMARKS.md.

    python -m tools.peers.compare                                     resnet56 and mobilenet_v2 of ../shared, both backends
    python -m tools.peers.compare --only speedup,macs --models resnet56 --backends openvino --targets 1.5
    python -m tools.peers.compare --models digits-cnn --only speedup,macs       an embedded sample needs nothing else
    python -m tools.peers.compare --render                            only the picture and the document, from the CSV

Every contender is brought to the same speed-up over the same file by its own knob, timed in turns with that file; the nearest
try is finished, timed anew and scored. Nobody is fine-tuned. Writes peers.csv and peers.svg below ``--out``. A cell that
stands in the CSV is not measured again, so that a run may be stopped at any time. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from modhifi_graph.errors import InputError
from tools.command import ROOT, listed, say, status_of
from tools.experiments import subjects
from tools.experiments.document import refill
from tools.experiments.drawing import draw
from tools.experiments.experiment import Ledger
from tools.experiments.running import measure
from tools.experiments.subjects import Shared, Subject
from tools.peers import field
from tools.peers.equal_latency import BACKENDS, TARGETS, Choice, experiment
from tools.peers.search import TRIES

SHARED = (
    Shared("resnet56", "resnet56_cifar10.onnx", "cifar10", 1000),
    Shared("mobilenet_v2", "mobilenet_v2_1.0_224_float.onnx", "imagenet", 500),
)
SAMPLE = "digits-cnn"
OUT, DOCUMENT = ROOT / "docs" / "benchmarks", ROOT / "BENCHMARKS.md"
COLUMNS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return status_of("compare", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    chosen = experiment(_choice(options))
    if not options.render:
        torch.set_num_threads(options.threads)
        end = time.monotonic() + 60 * options.minutes
        for subject in _subjects(options):
            if time.monotonic() < end:
                measure(chosen, subject, options.out, end)
    rows = Ledger(options.out, chosen).rows
    if rows:
        draw(
            "accuracy at equal measured latency", chosen.panels(rows), chosen.labels, options.out / "peers.svg", COLUMNS
        )
    refill(options.document, tables(options.out))


def _choice(options: argparse.Namespace) -> Choice:
    """What is asked for, without the contenders that are not installed."""
    absent = {} if options.render else {name: field.missing(name) for name in field.NAMES}
    wanted = listed(options.only, field.NAMES, "--only")
    for reason in dict.fromkeys(why for name in wanted if (why := absent.get(name))):
        say(f"left out: {reason}")
    names = [name for name in wanted if absent.get(name) is None]
    backends, targets = listed(options.backends, BACKENDS, "--backends"), options.targets.split(",")
    return Choice(backends, targets, names, options.tries, options.seconds / 4, options.seconds)


def _subjects(options: argparse.Namespace) -> list[Subject]:
    settings = (options.samples, options.seed, options.threads)
    names = listed(options.models, (*(known.name for known in SHARED), SAMPLE), "--models")
    found = {known.name: subjects.shared(known, options.shared, *settings) for known in SHARED}
    found[SAMPLE] = subjects.sample(SAMPLE, *settings)
    wanted = [found[name] for name in names if options.models is not None or name != SAMPLE]
    if any(one.name != SAMPLE for one in wanted) and not (options.shared / "eval" / "evaluate.py").is_file():
        raise InputError(f"{options.shared}: has no eval/evaluate.py; give --shared, or --models {SAMPLE}")
    return wanted


def tables(out: Path) -> dict[str, str]:
    """What stands in the document: the table and, where there is something to see, the picture."""
    whole = experiment()
    known = [subjects.shared(model, Path(), None, 0, 1) for model in SHARED]
    rows = [row for row in Ledger(out, whole).rows if row["model"] != SAMPLE]
    text = whole.table(rows, known)
    picture = f"\n\n![accuracy over measured speed-up]({OUT.relative_to(ROOT)}/{whole.name}.svg)" if rows else ""
    return {whole.name: text + picture}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.peers.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the CSV and the picture")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="filled from the CSV where it exists")
    parser.add_argument("--only", help=f"comma-separated, from {','.join(field.NAMES)}")
    parser.add_argument("--models", help=f"comma-separated, from {','.join(k.name for k in SHARED)},{SAMPLE}")
    parser.add_argument("--backends", help=f"comma-separated, from {','.join(BACKENDS)}")
    parser.add_argument("--targets", default=",".join(TARGETS), help="speed-ups (default: %(default)s)")
    parser.add_argument(
        "--shared", type=Path, default=ROOT.parent / "shared", help="folder with models/, data/ and eval/"
    )
    parser.add_argument("--samples", type=int, help="calibrate on so many; 1000 for resnet56, 500 for mobilenet_v2")
    parser.add_argument("--tries", type=int, default=TRIES, help="most tries of each search (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of timing a finished model; a try takes a quarter")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell after this time")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
