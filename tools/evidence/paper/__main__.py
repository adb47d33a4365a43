"""Regenerate the counterparts of the paper's tables and figures, and fill REPRODUCTION.md from them.

    python -m tools.evidence.paper                                        the samples, and ../shared where it is
    python -m tools.evidence.paper --only existence,noise --models digits-cnn
    python -m tools.evidence.paper --model m.onnx --calib c.npz --score 'python evaluate.py score cifar10 {}' --key top1
    python -m tools.evidence.paper --render                               only the pictures and the document, from the CSVs

Writes NAME.csv and NAME.svg below ``--out``. What stands in a CSV already, for the same model, inputs and seed, is not
measured again, so that a run may be stopped at any time; ``--minutes`` stops it by itself.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from modhifi_graph.errors import InputError
from modhifi_graph.files import atomic_write
from tools.command import ROOT, listed, say, status_of
from tools.evidence.paper import ablation, bounds, data, existence, language, noise, pruning, unlearning
from tools.experiments import subjects
from tools.experiments.document import filled
from tools.experiments.drawing import draw
from tools.experiments.experiment import Ledger
from tools.experiments.running import measure
from tools.experiments.subjects import SHARED, Subject

EXPERIMENTS = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (existence, noise, bounds, pruning, ablation, data, language, unlearning)
}
SAMPLES = ("digits-cnn", "digits-vit")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return status_of("paper", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    chosen = [EXPERIMENTS[name] for name in listed(options.only, tuple(EXPERIMENTS), "--only")]
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.render:
        end = time.monotonic() + 60 * options.minutes
        for subject in _subjects(options):
            for experiment in chosen:
                if time.monotonic() < end:
                    measure(experiment, subject, options.out, end)
    for experiment in chosen:
        rows = Ledger(options.out, experiment).rows
        if rows:
            draw(experiment.name, experiment.panels(rows), experiment.labels, options.out / f"{experiment.name}.svg")
    if options.document.exists():
        write(options.document, options.out)


def rendered(document: str, out: Path) -> str:
    """The document with the tables of the samples and of the shared models, read or not."""
    known = [subjects.sample(name, None, 0, 1) for name in SAMPLES]
    known += [subjects.shared(model, Path(), None, 0, 1) for model in SHARED]
    return filled(document, {name: e.table(Ledger(out, e).rows, known) for name, e in EXPERIMENTS.items()})


def write(document: Path, out: Path) -> None:
    text = rendered(document.read_text(encoding="utf-8"), out)
    with atomic_write(document) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _subjects(options: argparse.Namespace) -> list[Subject]:
    settings = (options.samples, options.seed, options.threads)
    if options.model is not None:
        if options.calib is None or options.score is None:
            raise InputError(f"{options.model}: give --calib and --score with a model of your own")
        return [subjects.given(options.model, options.calib, options.score, options.key, options.lowest, *settings)]
    found = [subjects.sample(name, *settings) for name in SAMPLES]
    if (options.shared / "eval" / "evaluate.py").is_file():
        found += [subjects.shared(model, options.shared, *settings) for model in SHARED]
    else:
        say(f"{options.shared}: has no eval/evaluate.py, so only the samples are measured; give --shared")
    by_name = {subject.name: subject for subject in found}
    return [by_name[name] for name in listed(options.models, tuple(by_name), "--models")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.evidence.paper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "reproduction", help="folder for CSVs and pictures")
    parser.add_argument(
        "--document", type=Path, default=ROOT / "REPRODUCTION.md", help="filled from the CSVs where it exists"
    )
    parser.add_argument("--only", help=f"comma-separated, from {','.join(EXPERIMENTS)}")
    parser.add_argument("--models", help="comma-separated names; all by default")
    parser.add_argument(
        "--shared", type=Path, default=ROOT.parent / "shared", help="folder with models/, data/ and eval/"
    )
    parser.add_argument("--model", help="a model of your own, in place of those")
    parser.add_argument("--calib", help="its calibration inputs")
    parser.add_argument("--score", help="a command that rates the model whose path replaces {}")
    parser.add_argument("--key", help="the number to read where --score prints JSON")
    parser.add_argument("--lowest", action="store_true", help="the score is a perplexity")
    parser.add_argument(
        "--samples", type=int, help="calibrate on so many; 500 for samples, fewer for large models, by default"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell after this time")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
