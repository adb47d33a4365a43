"""``modhifi-graph bench``: time one model, or two in turns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modhifi_graph.cli.common import ENGINES, SAMPLE, Batch, Device, Json, Threads, print_json
from modhifi_graph.cli.parameters import completes
from modhifi_graph.exporters import BACKENDS

MODELS = "An .onnx file, sample:digits-cnn or sample:digits-vit, for inductor a .pt2; or what `compile` made of it."

EXAMPLES = "Example:  modhifi-graph bench model.onnx slim.onnx --threads 1"


def bench(
    a: Annotated[str, typer.Argument(help=MODELS)],
    b: Annotated[str | None, typer.Argument(help="Another model with the same inputs.")] = None,
    threads: Threads = 0,
    backend: Annotated[
        str, typer.Option(help=f"What runs them: {ENGINES}.", autocompletion=completes(*BACKENDS))
    ] = "onnxruntime",
    device: Device = None,
    provider: Annotated[
        str | None, typer.Option(help="An onnxruntime execution provider, where not the device's own.")
    ] = None,
    batch: Batch = 1,
    seconds: Annotated[float, typer.Option(min=0, help="Time to spend on the timed runs.")] = 2.0,
    pin: Annotated[bool, typer.Option("--pin", help="Keep all threads on as many cores as --threads.")] = False,
    isolate: Annotated[bool, typer.Option("--isolate", help="Give each engine a process of its own.")] = False,
    as_json: Json = False,
) -> None:
    """Time one model, or two in turns, on random inputs."""
    from modhifi_graph.latency.benchmark import bench as run
    from modhifi_graph.models.opening import sample_path
    from modhifi_graph.report import terminal

    paths = [sample_path(name) if name.startswith(SAMPLE) else Path(name) for name in (a, b) if name is not None]
    found = run(
        *paths,
        backend=backend,
        device=device,
        provider=provider,
        threads=threads,
        batch=batch,
        seconds=seconds,
        pin=pin,
        isolate=isolate,
    )
    if as_json:
        print_json(found.to_json())
    else:
        terminal.show(terminal.comparison(found, [name for name in (a, b) if name is not None]))
