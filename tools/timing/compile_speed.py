"""Times `torch.compile(module, backend="modhifi")` against `torch.compile(module)`, in turns, and what slimming costs.

    python -m tools.timing.compile_speed digits-cnn digits-vit timm:resnet18 timm:vit_tiny_patch16_224
    python -m tools.timing.compile_speed timm:resnet50 --device cuda --dtype bfloat16 --batch 64 --images 1024 \\
        --mode max-autotune

The samples have their own weights and images (and need scikit-learn); of timm's models, with random weights and images,
only speed is worth looking at. Mode "reduce-overhead" replays CUDA graphs. Prints a Markdown table: medians of one call,
their ratio with its 95 % interval, the plain forward passes over the calibration images, observing them, slimming and
compiling as a whole, and the most memory that a GPU held.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from modhifi_graph import samples
from modhifi_graph.latency.turns import Comparison, compare
from tools.zoo import import_torch

SIZE = 224
HEADER = """| model | torch.compile, ms | modhifi, ms | speedup | forward, s | observe, s | whole, s | GPU memory, GB |
|---|---:|---:|---:|---:|---:|---:|---:|"""


@dataclass
class Stages:
    """When each stage of the job was first and last heard of, in seconds."""

    heard: dict[str, list[float]] = field(default_factory=dict)

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.heard.setdefault(stage, []).append(time.perf_counter())
        if done == total:
            print(f"  {stage}: {total} done", file=sys.stderr, flush=True)

    def seconds(self, stage: str) -> float | None:
        """From the first report to the last, and as much again as a part took on average; None of a single part."""
        times = self.heard.get(stage, [])
        return (times[-1] - times[0]) * len(times) / (len(times) - 1) if len(times) > 1 else None


@dataclass(frozen=True)
class Row:
    """One line of the table; times of a call in milliseconds."""

    model: str
    calls: Comparison
    forward: float
    observe: float | None
    whole: float
    memory: int | None

    def __str__(self) -> str:
        found = self.calls.to_json()
        low, high = found["interval"]
        observe = "" if self.observe is None else f"{self.observe:.1f}"
        memory = "" if self.memory is None else f"{self.memory / 1e9:.1f}"
        return (
            f"| {self.model} | {found['a']['median']:.2f} | {found['b']['median']:.2f} "
            f"| {found['speedup']:.2f} ({low:.2f} to {high:.2f}) "
            f"| {self.forward:.1f} | {observe} | {self.whole:.1f} | {memory} |"
        )


def load(name: str, images: int) -> tuple[nn.Module, torch.Tensor]:
    """A module in evaluation mode, and images for it."""
    if name.startswith("timm:"):
        import_torch()  # timm needs torchvision, whose wheel may be broken
        torch.manual_seed(0)
        module = importlib.import_module("timm").create_model(name.removeprefix("timm:"), pretrained=False)
        return module.eval(), torch.randn(images, 3, SIZE, SIZE)
    from tools.samples.finetune import dense_module  # needs scikit-learn, which timm's models do without

    sample = samples.load(name)
    module = dense_module(sample)
    return module, torch.from_numpy(sample.calib[samples.INPUT][:images])


def measure(name: str, options: argparse.Namespace) -> Row:
    """Slim and compile one model, and time it beside the one that is only compiled."""
    torch._dynamo.reset()
    module, images = load(name, options.images)
    place = {"device": options.device, "dtype": getattr(torch, options.dtype)}
    module, images = module.to(**place), images.to(**place)
    stages, x = Stages(), images[: options.batch]
    settings: dict[str, Any] = {"macs": options.macs, "calib": images, "progress": stages}
    if options.mode:
        settings["mode"] = options.mode
    dense = torch.compile(module, mode=options.mode)
    slim = torch.compile(module, backend="modhifi", options=settings)
    with torch.no_grad():
        forward = _timed(lambda: [module(part) for part in images.split(64)], options.device)
        if options.device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        whole = _timed(lambda: slim(x), options.device)
        memory = None if options.device == "cpu" else torch.cuda.max_memory_allocated()
        dense(x)
        calls = compare(
            lambda: _done(dense(x), options.device), lambda: _done(slim(x), options.device), seconds=options.seconds
        )
    return Row(name, calls, forward, stages.seconds("observe"), whole, memory)


def _done(result: object, device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _timed(run: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    _done(run(), device)
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="digits-cnn, digits-vit, or timm:NAME")
    parser.add_argument("--macs", type=float, default=0.5, help="fraction that stays (default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--batch", type=int, default=1, help="of the calls that are timed (default: %(default)s)")
    parser.add_argument("--images", type=int, default=64, help="to calibrate with (default: %(default)s)")
    parser.add_argument("--mode", help="Inductor's: reduce-overhead, max-autotune, ...")
    parser.add_argument("--seconds", type=float, default=10.0, help="of timing for each model (default: %(default)s)")
    options = parser.parse_args(arguments)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    rows = []
    for name in options.models:
        print(name, file=sys.stderr, flush=True)
        rows.append(measure(name, options))
    print("\n".join([HEADER, *map(str, rows)]))


if __name__ == "__main__":
    main()
