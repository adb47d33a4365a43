"""What commands share: the application, options by name, and what is checked before any work.

Commands import what they need themselves: help must not wait for onnx and onnxruntime to load.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from modhifi_graph.cli.parameters import described
from modhifi_graph.errors import InputError
from modhifi_graph.exporters import BACKENDS
from modhifi_graph.options.option import either

NAME = "modhifi-graph"
SAMPLE = "sample:"

app = typer.Typer(
    name=NAME,
    help="Make a trained ONNX model smaller and faster: no labels, no gradients, no training.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no table.")]
Seed = Annotated[int, described("seed")]
Preprocessing = Annotated[str | None, described("preprocess")]
Threads = Annotated[int, described("threads")]
ENGINES = either(BACKENDS)
Device = Annotated[
    str | None, typer.Option(help="cpu or cuda:0; by default the backend's own, which is cuda:0 for tensorrt alone.")
]
Batch = Annotated[int, described("batch")]
KeepBatchNorm = Annotated[bool, described("fold_batchnorm")]
MODEL_HELP = "An .onnx file, sample:digits-cnn or sample:digits-vit; `optimize` and `score` also take a .pt2."


def check_outputs(
    model: str, output: Path, other: Path | None, second: str = "--plan-out", report: Path | None = None
) -> None:
    """Refuse, before any work, what could not be written or would overwrite the input."""
    seen = {os.path.realpath(model): f"the model {model}"}
    for name, path in (("--output", output), (second, other), ("--report", report)):
        if path is None:
            continue
        real = os.path.realpath(path)
        if real in seen:
            raise InputError(f"{name} is {path}, which would overwrite {seen[real]}; choose another name")
        seen[real] = f"what {name} writes"
        folder = os.path.dirname(real)
        if not os.path.isdir(folder):
            raise InputError(f"{path}: the folder {folder} does not exist; create it first")
        if os.path.isdir(real):
            raise InputError(f"{path}: is a folder; give the name of a file")
        if not os.access(folder, os.W_OK):
            raise InputError(f"{path}: the folder {folder} cannot be written to")


def calibration(model: str, calib: str | None) -> Any:
    """A sample brings its own calibration arrays."""
    if calib is not None or not model.startswith(SAMPLE):
        return calib
    from modhifi_graph import samples
    from modhifi_graph.models import opening as models

    models.sample_path(model)
    return samples.load(model).calib


def write_json(data: Any, path: Path) -> None:
    from modhifi_graph.files import atomic_write

    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    """What JSON does not know: numpy's numbers and arrays, and paths."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
