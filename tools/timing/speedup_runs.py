"""Is the speed-up that was asked for the one that is had? Optimised once, timed many times, each time in a fresh process.

    python -m tools.timing.speedup_runs                                   seven models, two backends, speed-up 1.5
    python -m tools.timing.speedup_runs --models torchvision:resnet50 --backends onnxruntime --budget macs=0.5
    python -m tools.timing.speedup_runs --render                          only the table of BENCHMARKS.md, from the CSV

A model is the path of an ONNX file, sample:NAME, or torchvision:NAME (random weights, fixed seed; its inputs are noise, so only
its speed means anything). Runs the command line: `modhifi-graph optimize` once, `modhifi-graph bench` as often as ``--runs``
says. Writes speedups.csv below ``--out``; what stands there is not measured again. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modhifi_graph.errors import InputError
from tools.command import ROOT, listed, status_of
from tools.experiments import subjects
from tools.experiments.document import refill
from tools.experiments.experiment import MISSING, Cell, Experiment, Ledger, Measured, Row, markdown
from tools.experiments.running import measure
from tools.experiments.subjects import Subject
from tools.peers.compare import DOCUMENT, OUT
from tools.peers.equal_latency import BACKENDS, here, provenance
from tools.zoo import import_torch

FILES = ROOT.parent / "shared" / "models"
MODELS = (
    "sample:digits-cnn", "sample:digits-vit", str(FILES / "mobilenet_v2_1.0_224_float.onnx"), "torchvision:resnet18",
    "torchvision:resnet50", "torchvision:vit_b_16", "torchvision:convnext_tiny",
)  # fmt: skip
UNTRAINED = ("--criterion", "magnitude", "--prices", "local", "--compensation", "none")
"""How models with random weights are optimised: what they answer is worth no observation and no repair."""
RANDOM = "torchvision:"
BUDGET = "speedup=1.5"
NEAR = (1.45, 1.6)
"""Speed-ups that count as the one that was asked for."""

VALUES = ("speedups", "within", "runs", "macs", "seconds", "engine", "machine")
SIZE, IMAGES = 224, 8


@dataclass(frozen=True)
class Choice:
    """Which cells are measured: a budget is "speedup=1.5" or "macs=0.5"."""

    backends: Sequence[str] = BACKENDS
    budget: str = BUDGET
    runs: int = 10
    seconds: float = 2.0


def experiment(choice: Choice | None = None) -> Experiment:
    choice = choice or Choice()
    return Experiment(
        "speedups", ("backend", "threads", "budget"), VALUES,
        lambda subject: [(backend, str(subject.threads), choice.budget) for backend in choice.backends],
        lambda subject, wanted: timed(subject, wanted, choice), lambda rows: {}, ("", ""), table,
    )  # fmt: skip


def timed(subject: Subject, wanted: Sequence[Cell], choice: Choice) -> Measured:
    for cell in wanted:
        backend, threads, budget = cell
        common = ["--backend", backend, "--threads", threads]
        with tempfile.TemporaryDirectory() as folder:
            slim, calib = Path(folder) / "slim.onnx", Path(folder) / "calib.npz"
            np.savez(calib, **subject.calib)  # type: ignore[arg-type]  # numpy's stub takes no arrays by name
            start = time.perf_counter()
            kind, amount = budget.split("=")
            untrained = UNTRAINED if subject.name.startswith(RANDOM) else ()
            report = run(
                "optimize", subject.source, "-o", str(slim), "--calib", str(calib), f"--{kind}", amount, *common,
                "--seed", str(subject.seed), "--bench-seconds", "0", "--quiet", *untrained,
            )  # fmt: skip
            seconds = time.perf_counter() - start
            each = ("bench", str(subject.path), str(slim), *common, "--seconds", str(choice.seconds))
            found = [run(*each) for _ in range(choice.runs)]
        ratios = [one["speedup"] for one in found]
        engine, macs = found[0]["engine"], report["macs"]
        row = {
            "speedups": " ".join(f"{ratio:.3f}" for ratio in ratios),
            "within": sum(NEAR[0] <= ratio <= NEAR[1] for ratio in ratios), "runs": len(ratios),
            "macs": macs["after"] / macs["before"], "seconds": seconds, "machine": here(),
            "engine": f"{engine['backend']} {engine['version']}, {engine['precision']}",
        }  # fmt: skip
        yield cell, [row]


def run(*arguments: str) -> Mapping[str, Any]:
    """What a command of the command line prints as JSON; InputError where it fails."""
    command = [sys.executable, "-m", "modhifi_graph", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"{' '.join(command[2:])}: {done.stderr.strip()[-500:]}")
    report: Mapping[str, Any] = json.loads(done.stdout)
    return report


def table(rows: Sequence[Row], subjects: Sequence[Subject]) -> str:
    if not rows:
        return f"{MISSING.capitalize()}."
    header = ["model, backend, budget", "lowest", "median", "highest", "within 1.45 to 1.6", "MACs left", "seconds"]
    body = []
    for row in rows:
        ratios = [float(text) for text in row["speedups"].split()]
        low, middle, high = min(ratios), float(np.median(ratios)), max(ratios)
        within = f"{row['within']} of {row['runs']}" if row["budget"] == BUDGET else ""
        name = f"{row['model']}, {row['backend']}, {row['budget'].replace('=', ' ')}"
        spent = [f"{float(row['macs']):.2f}", f"{float(row['seconds']):.0f}"]
        body.append([name, f"{low:.2f}", f"{middle:.2f}", f"{high:.2f}", within, *spent])
    done = {(row["model"], row["backend"]) for row in rows if row["budget"] == BUDGET}
    every = [(Path(name.removeprefix("sample:")).stem, backend) for name in MODELS for backend in BACKENDS]
    left = ", ".join(f"{model} on {backend}" for model, backend in every if (model, backend) not in done)
    gaps = [f"{MISSING.capitalize()} for {BUDGET.replace('=', ' ')}: {left}."] if left else []
    return "\n\n".join([markdown(header, body), *gaps, *provenance(rows)])


def subject_of(name: str, folder: Path, options: argparse.Namespace) -> Subject:
    """A model with its calibration inputs: real ones where they are at hand, and noise for what has random weights."""
    if name.startswith("sample:"):
        return subjects.sample(name.removeprefix("sample:"), options.samples, options.seed, options.threads)
    if name.startswith(RANDOM):
        return exported(name, folder, options)
    path = Path(name)
    stems = {Path(known.file).stem.removesuffix("_bn"): known for known in subjects.SHARED}
    known = stems.get(path.stem.removesuffix("_bn"))
    root = path.resolve().parents[1] if known is not None else None
    if known is None or root is None or not (root / "eval" / "evaluate.py").is_file():
        raise InputError(f"{name}: its calibration inputs are not known; give one of {', '.join(MODELS)}")
    found = subjects.Shared(path.stem, path.name, known.task, known.samples)
    return subjects.shared(found, root, options.samples, options.seed, options.threads)


def exported(name: str, folder: Path, options: argparse.Namespace) -> Subject:
    """A torchvision model with random weights, in inference mode, as an ONNX file in a folder."""
    torch = import_torch()  # torchvision's wheel may be broken
    torch.manual_seed(options.seed)
    model = importlib.import_module("torchvision.models").get_model(name.removeprefix(RANDOM), weights=None)
    path, image = folder / f"{name.removeprefix('torchvision:')}.onnx", torch.randn(1, 3, SIZE, SIZE)
    torch.onnx.export(
        model.eval(), (image,), str(path), input_names=["input"], output_names=["logits"], dynamo=False,
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}}, opset_version=17,
    )  # fmt: skip
    random = np.random.default_rng(options.seed)
    images = random.standard_normal((options.samples or IMAGES, 3, SIZE, SIZE), dtype=np.float32)
    return Subject(
        name, str(path), "image", "top1", lambda: {"input": images}, lambda proto: float("nan"), None, len(images),
        options.seed, options.threads,
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return status_of("speedup_runs", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    backends = listed(options.backends, BACKENDS, "--backends")
    kind, _, amount = options.budget.partition("=")
    if kind not in ("speedup", "macs") or not amount:
        raise InputError(f"--budget is {options.budget!r}; expected speedup=1.5 or macs=0.5, say")
    chosen = experiment(Choice(backends, options.budget, options.runs, options.seconds))
    if not options.render:
        for name in options.models.split(","):
            with tempfile.TemporaryDirectory() as folder:
                measure(chosen, subject_of(name, Path(folder), options), options.out, float("inf"))
    refill(options.document, tables(options.out))


def tables(out: Path) -> dict[str, str]:
    """What stands in the document."""
    whole = experiment()
    return {whole.name: whole.table(Ledger(out, whole).rows, [])}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.timing.speedup_runs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", default=",".join(MODELS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--backends", help=f"comma-separated, from {','.join(BACKENDS)}")
    parser.add_argument("--budget", default=BUDGET, help="speedup=S or macs=F (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=10, help="of bench, each a process (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of timing in each (default: %(default)s)")
    parser.add_argument("--samples", type=int, help="calibrate on so many; by default as the other tables do")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the CSV")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="filled from the CSV where it exists")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
