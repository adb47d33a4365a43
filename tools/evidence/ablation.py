"""Which criterion and which compensation is worth what: every pair of them, at equal multiply-accumulates.

    python -m tools.evidence.ablation --model sample:digits-cnn --csv ablation.csv
    python -m tools.evidence.ablation --model resnet56.onnx --calib calib.npz --csv resnet56.csv \\
        --score 'python evaluate.py score cifar10 {}' --key top1

Prints a Markdown table, criteria by compensations. What stands in it is, in this order: what ``--score`` prints for
the file it is given in place of ``{}`` (a number, or a line of JSON that holds ``--key``); the accuracy of a sample on
its test images; the fidelity of the outputs on the calibration inputs. The model is observed once for each criterion;
all compensations repair the same slim model.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path

from modhifi_graph import samples
from modhifi_graph.axes.cost import Cost
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.errors import InputError, ModhifiError
from modhifi_graph.frontends.onnx import FinishedOnnx, sample_accuracy
from modhifi_graph.inputs import calibration
from modhifi_graph.inputs.batches import Batches
from modhifi_graph.inputs.mirror_images import with_mirrors
from modhifi_graph.interface import specs_of
from modhifi_graph.models.opening import SAMPLE, open_model
from modhifi_graph.passes.compensate import METHODS, Compensate
from modhifi_graph.passes.normal_form import normalise
from modhifi_graph.passes.slim import Slim
from modhifi_graph.report.figures import output_fidelity
from modhifi_graph.scoring.analysis import analyse
from modhifi_graph.scoring.scores import CRITERIA
from modhifi_graph.select.allocation import plan_of, select
from modhifi_graph.select.budget import Budget, Limits
from tools.command import listed, say
from tools.experiments.rating import Score, command_score


@dataclass(frozen=True)
class Cell:
    """One slim model.

    Attributes
    ----------
    criterion, compensation : how it was made.
    macs : the fraction of multiply-accumulates that it has.
    score : what the table shows; the fidelity where nothing else was asked for.
    fidelity : 1 - relative squared error of the outputs on the calibration inputs.
    seconds : for the compensation.
    """

    criterion: str
    compensation: str
    macs: float
    score: float
    fidelity: float
    seconds: float


@dataclass(frozen=True)
class Settings:
    """What every pair has in common."""

    model: str
    calib: str | None = None
    macs: float = 0.5
    criteria: Sequence[str] = CRITERIA
    compensations: Sequence[str] = METHODS
    samples: int | None = None
    seed: int = 0
    threads: int = 0
    align: int | None = None


def ablate(
    settings: Settings, score: Score | None = None, say: Callable[[str], None] = lambda line: None
) -> Iterator[Cell]:
    """Every criterion with every compensation, in that order; ``score`` rates a finished model."""
    opened = open_model(settings.model)
    original = to_proto(opened.model)
    dense = normalise(opened.model.clone(), opened.label)
    program = lift(dense)
    groups = find_groups(couple(program.graph))
    cost = Cost(groups)
    given = samples.load(settings.model).calib if settings.calib is None else settings.calib
    data = calibration.load(given, specs_of(to_proto(dense)), samples=settings.samples, seed=settings.seed)
    feeds = Batches(list(data.batches(calibration.batch_size(program.graph))), data.samples)
    batches = list(with_mirrors(feeds, program.graph, None).feeds)
    limits = Limits(align=settings.align)
    say(f"{settings.model}: {cost.macs()} multiply-accumulates, {len(groups.groups)} groups, {data.samples} samples")
    if score is not None:
        say(f"dense: {score(original):.4f}")
    for criterion in settings.criteria:
        start = time.perf_counter()
        analysis = analyse(program, groups, batches, criterion=criterion, seed=settings.seed, threads=settings.threads)
        removed = select(analysis.rankings, cost, Budget("macs", settings.macs), limits)
        plan = plan_of(
            analysis.rankings, removed, {"macs": settings.macs, "criterion": criterion, "seed": settings.seed}
        )
        left = {factor: len(kept) for factor, kept in plan.resolve(groups).items()}
        fraction = cost.macs(left) / max(1, cost.macs())
        say(f"{criterion}: analysed in {time.perf_counter() - start:.0f} s, {fraction:.4f} of the MACs left")
        for method in settings.compensations:
            start = time.perf_counter()
            slim = dense.clone()
            Slim(plan)(slim)
            Compensate(
                dense, groups, plan, method, batches=batches, moments=analysis.moments, seed=settings.seed,
                threads=settings.threads,
            )(slim)  # fmt: skip
            seconds = time.perf_counter() - start
            proto = to_proto(slim)
            finished = FinishedOnnx(opened, slim)
            fidelity = output_fidelity(partial(finished.answers, threads=settings.threads), batches)
            fidelity = float("nan") if fidelity is None else fidelity
            rated = fidelity if score is None else score(proto)
            say(f"{criterion} + {method}: {rated:.4f} (fidelity {fidelity:.4f}, {seconds:.0f} s)")
            yield Cell(criterion, method, round(fraction, 6), rated, fidelity, round(seconds, 2))


def table(cells: Sequence[Cell], lowest: bool = False) -> str:
    """Markdown: a row for each criterion, a column for each compensation; the best is bold."""
    methods = list(dict.fromkeys(cell.compensation for cell in cells))
    best = (min if lowest else max)((cell.score for cell in cells), default=0.0)
    digits = 2 if best > 20 else 4
    rows = [["criterion", *methods], ["---", *["---:"] * len(methods)]]
    for criterion in dict.fromkeys(cell.criterion for cell in cells):
        found = {cell.compensation: cell.score for cell in cells if cell.criterion == criterion}
        shown = {method: f"{score:.{digits}f}" for method, score in found.items()}
        rows.append([criterion, *(f"**{text}**" if found[m] == best else text for m, text in shown.items())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="an .onnx file, or sample:digits-cnn")
    parser.add_argument("--calib", help="calibration inputs: .npz, .npy; samples have theirs")
    parser.add_argument("--macs", type=float, default=0.5, help="fraction of multiply-accumulates that stays")
    parser.add_argument("--score", help="a command that rates the model whose path replaces {}")
    parser.add_argument("--key", help="the number to read where --score prints JSON")
    parser.add_argument("--lowest", action="store_true", help="the lowest score is the best, as with perplexity")
    parser.add_argument("--csv", type=Path, help="write every figure there, one line a model, as they come")
    parser.add_argument("--criteria", default=",".join(CRITERIA), help="comma-separated")
    parser.add_argument("--compensations", default=",".join(METHODS), help="comma-separated")
    parser.add_argument("--samples", type=int, help="calibrate on a random subset of this size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--align", type=int)
    parser.add_argument("--threads", type=int, default=0)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        cells = _run(options)
    except ModhifiError as error:
        print(f"ablation: error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    print(table(cells, options.lowest))
    return 0


def _run(options: argparse.Namespace) -> list[Cell]:
    if not 0 < options.macs <= 1:
        raise InputError(f"--macs is {options.macs:g}; expected a fraction above 0 and at most 1")
    sample = options.model.startswith(SAMPLE)
    if options.calib is None and not sample:
        raise InputError(f"{options.model}: needs calibration inputs: give --calib")
    settings = Settings(
        options.model,
        options.calib,
        options.macs,
        listed(options.criteria, CRITERIA, "--criteria"),
        listed(options.compensations, METHODS, "--compensations"),
        options.samples,
        options.seed,
        options.threads,
        options.align,
    )
    score = (lambda proto: sample_accuracy(options.model, proto, options.threads)) if sample else None
    if options.score is not None:
        score = command_score(options.score, options.key)
    cells: list[Cell] = []
    for cell in ablate(settings, score, say):
        cells.append(cell)
        if options.csv is not None:
            _write(cells, options.csv)
    return cells


def _write(cells: Sequence[Cell], path: Path) -> None:
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(field.name for field in fields(Cell))
            writer.writerows(astuple(cell) for cell in cells)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


if __name__ == "__main__":
    sys.exit(main())
