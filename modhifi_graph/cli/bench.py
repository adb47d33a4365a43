"""``modhifi-graph bench``: time one model, or two in turns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modhifi_graph.cli.common import BACKENDS, MODEL_HELP, SAMPLE, Batch, Json, Threads, completes, print_json

EXAMPLES = "Example:  modhifi-graph bench model.onnx slim.onnx --threads 1"


def bench(
    a: Annotated[str, typer.Argument(help=MODEL_HELP)],
    b: Annotated[str | None, typer.Argument(help="Another model with the same inputs.")] = None,
    threads: Threads = 0,
    backend: Annotated[
        str, typer.Option(help="What runs them: onnxruntime or openvino.", autocompletion=completes(*BACKENDS))
    ] = "onnxruntime",
    device: Annotated[str, typer.Option(help="cpu or cuda:0.")] = "cpu",
    provider: Annotated[
        str | None, typer.Option(help="An onnxruntime execution provider, where not the device's own.")
    ] = None,
    batch: Batch = 1,
    seconds: Annotated[float, typer.Option(min=0, help="Time to spend on the timed runs.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Time one model, or two in turns, on random inputs."""
    from modhifi_graph import terminal
    from modhifi_graph.models import sample_path
    from modhifi_graph.timing import bench as run

    paths = [sample_path(name) if name.startswith(SAMPLE) else Path(name) for name in (a, b) if name is not None]
    found = run(
        *paths, backend=backend, device=device, provider=provider, threads=threads, batch=batch, seconds=seconds
    )
    if as_json:
        print_json(found.to_json())
    else:
        terminal.show(terminal.comparison(found, [name for name in (a, b) if name is not None]))
