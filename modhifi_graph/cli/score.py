"""``modhifi-graph score``: Subset Fidelity of all components, without pruning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modhifi_graph.cli.common import (
    MODEL_HELP,
    Json,
    KeepBatchNorm,
    Preprocessing,
    Quiet,
    Seed,
    Threads,
    calibration,
    check_outputs,
    print_json,
)

EXAMPLES = """\b
Examples:
  modhifi-graph score sample:digits-cnn -o scores.npz
  modhifi-graph score model.onnx --calib calib.npz -o scores.npz --plot scores.png --bounds"""


def score(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the scores, as .npz.")],
    calib: Annotated[
        str | None, typer.Option(help="Unlabelled inputs: .npz (arrays by input name), .npy or a folder of images.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw spectra and curves of all groups: .png, .svg or .pdf.")
    ] = None,
    bounds: Annotated[bool, typer.Option("--bounds", help="Measure how errors of layers reach the outputs.")] = False,
    rows: Annotated[int, typer.Option(min=1, help="Rows of input that every layer is observed on.")] = 2048,
    samples: Annotated[int | None, typer.Option(min=1, help="Calibrate on a random subset of this size.")] = None,
    seed: Seed = 0,
    only: Annotated[list[str] | None, typer.Option(help="Score only groups or parameters that match.")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="Leave out groups or parameters that match.")] = None,
    preprocess: Preprocessing = None,
    keep_batchnorm: KeepBatchNorm = False,
    threads: Threads = 0,
    device: Annotated[str | None, typer.Option(help="Where the model is observed, as cpu or cuda.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure what share of every layer's output its components reconstruct, alone and together. Nothing is pruned."""
    check_outputs(model, output, plot, second="--plot")
    from modhifi_graph.inputs.image_folders import Preprocess
    from modhifi_graph.jobs.score import score as run
    from modhifi_graph.report import terminal
    from modhifi_graph.report.plots import check_plot

    if plot is not None:
        check_plot(plot)
    with terminal.progress(quiet) as progress:
        found = run(
            model,
            calibration(model, calib),
            bounds=bounds,
            rows=rows,
            samples=samples,
            seed=seed,
            only=only or (),
            skip=skip or (),
            fold_batchnorm=not keep_batchnorm,
            preprocess=None if preprocess is None else Preprocess.parse(preprocess),
            threads=threads,
            device=device,
            progress=progress,
        )
    found.save(output)
    if plot is not None:
        found.plot(plot)
    if as_json:
        print_json(found.to_json())
    elif not quiet:
        terminal.show(terminal.scores(found, output))
