"""``modhifi-graph unlearn``: make a classifier forget a class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from modhifi_graph.cli.common import (
    MODEL_HELP,
    SAMPLE,
    Json,
    KeepBatchNorm,
    Quiet,
    Seed,
    Threads,
    check_outputs,
    print_json,
)
from modhifi_graph.cli.parameters import completes
from modhifi_graph.errors import InputError
from modhifi_graph.forget.modes import MODES

EXAMPLES = """\b
Examples:
  modhifi-graph unlearn model.onnx --forget cats.npz --remain others.npz -o nocats.onnx
  modhifi-graph unlearn model.onnx --forget cats.npz --remain others.npz --macs 0.9 -o nocats.onnx
  modhifi-graph unlearn model.onnx --forget cats.npz --mode negate -o nocats.onnx
  modhifi-graph unlearn sample:digits-cnn --class 3 -o no3.onnx"""


def unlearn(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the model.")],
    forget: Annotated[
        str | None, typer.Option(help="Samples of the class: .npz, .npy or a folder of images. Samples have theirs.")
    ] = None,
    remain: Annotated[str | None, typer.Option(help="Samples of all else; without them more is lost.")] = None,
    label: Annotated[
        int | None,
        typer.Option("--class", min=0, help="The class, from 0; by default what the model sees in --forget."),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            help="edit: refit the last layers; plain: the last one; zero, negate: as published.",
            autocompletion=completes(*MODES),
        ),
    ] = "edit",
    mu: Annotated[float, typer.Option(help="What --forget counts beside --remain; 0 changes nothing.")] = 1.0,
    depth: Annotated[int, typer.Option(min=0, help="Layers before the last that the class is erased from.")] = 1,
    score: Annotated[str, typer.Option(help="For zero and negate: singleton, alpha, rowsum or energy.")] = "singleton",
    fraction: Annotated[
        float | None, typer.Option(help="For zero and negate: of every layer's kernels; default as few as suffice.")
    ] = None,
    macs: Annotated[float | None, typer.Option(help="Prune to this fraction first, on --remain alone.")] = None,
    params: Annotated[float | None, typer.Option(help="The same by parameters.")] = None,
    unseen: Annotated[
        str | None, typer.Option(help="Samples of the class nobody trained on, to report membership inference.")
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Use a random subset of this size of each set.")] = None,
    seed: Seed = 0,
    preprocess: Annotated[
        str | None, typer.Option(help="For folders of images: 'mean=0.5;std=0.5;size=224;layout=NCHW'.")
    ] = None,
    keep_batchnorm: KeepBatchNorm = False,
    threads: Threads = 0,
    device: Annotated[str | None, typer.Option(help="Where a .pt2 is observed and edited, as cpu or cuda.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a classifier forget a class, in closed form: no labels, no training."""
    check_outputs(model, output, None)
    from modhifi_graph.inputs.image_folders import Preprocess
    from modhifi_graph.jobs import unlearn as unlearning
    from modhifi_graph.report import terminal

    given: tuple[Any, Any] = (forget, remain)
    if forget is None:
        if label is None or not model.startswith(SAMPLE):
            raise InputError("give --forget, samples of the class; only a sample needs no more than --class")
        given = unlearning.sample_sets(model, label, threads)
    with terminal.progress(quiet) as progress:
        result = unlearning.unlearn(
            model,
            *given,
            mode=mode,
            label=label,
            mu=mu,
            depth=depth,
            score=score,
            fraction=fraction,
            macs=macs,
            params=params,
            unseen=unseen,
            samples=samples,
            seed=seed,
            fold_batchnorm=not keep_batchnorm,
            preprocess=None if preprocess is None else Preprocess.parse(preprocess),
            threads=threads,
            device=device,
            progress=progress,
        )
    result.save(output)
    if as_json:
        print_json(result.report)
    elif not quiet:
        terminal.show(terminal.unlearning(result.report, output))
