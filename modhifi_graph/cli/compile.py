"""``modhifi-graph compile``: a model to an engine of a backend."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modhifi_graph.cli.common import ENGINES, Device, Json, Preprocessing, Threads, check_outputs, print_json
from modhifi_graph.cli.parameters import completes
from modhifi_graph.exporters import BACKENDS

EXAMPLES = """\b
Examples:
  modhifi-graph compile slim.onnx --backend openvino -o slim.blob
  modhifi-graph compile slim.onnx --precision int8 --calib calib.npz -o slim-int8.onnx
  modhifi-graph compile slim.onnx --backend tensorrt --precision fp16 -o slim.engine
  modhifi-graph compile slim.pt2 --backend inductor -o slim.aoti.pt2"""


def compile(
    model: Annotated[
        str, typer.Argument(help="An .onnx file, sample:digits-cnn or sample:digits-vit; for inductor a .pt2.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the engine.")],
    backend: Annotated[str, typer.Option(help=f"{ENGINES}.", autocompletion=completes(*BACKENDS))] = "onnxruntime",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8: what the graph is written in.")] = "fp32",
    calib: Annotated[
        str | None, typer.Option(help="For int8: inputs to take ranges from, .npz, .npy or a folder of images.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Take ranges from a random subset of this size.")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of that choice.")] = 0,
    preprocess: Preprocessing = None,
    device: Device = None,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Compile a model for this machine; `bench` times what comes of it."""
    check_outputs(model, output, None)
    from modhifi_graph.inputs.image_folders import Preprocess
    from modhifi_graph.jobs.compile import compile_model

    engine = compile_model(
        model,
        calib,
        backend=backend,
        precision=precision,
        samples=samples,
        seed=seed,
        preprocess=None if preprocess is None else Preprocess.parse(preprocess),
        threads=threads,
        device=device,
    )
    engine.save(output)
    made = engine.describe()
    if as_json:
        print_json({**made, "bytes": output.stat().st_size})
    else:
        print(f"{output}: {made['backend']} {made['version']} on {made['device']}, {made['precision']}")
