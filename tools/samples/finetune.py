"""Fine-tunes a pruned sample with plain torch: a few epochs bring back what pruning alone has lost.

    python -m tools.samples.finetune                                      digits-vit, half a minute on one core
    python -m tools.samples.finetune digits-cnn --macs 0.02 --epochs 3
    python -m tools.samples.finetune --distil 0.9 -o slim.onnx            taught by the dense model, and written

Nothing here is special to pruned models: what `modhifi_graph.optimize` hands back goes through the loop that any module
goes through. The dense module has the weights of the embedded sample; the labelled images are those that it was trained
on, so this needs scikit-learn. Seed and threads are fixed: the same versions on the same kind of machine give the same
weights.

Prints a Markdown table of the accuracy on the 600 test images, one of which is 0.17 points.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

from modhifi_graph import InputError, Macs, ModhifiError, OptimizedModule, optimize, samples
from modhifi_graph.report import terminal
from tools.samples.train import RECIPES, fit, smoothed, split

BUDGETS = {"digits-cnn": 0.016, "digits-vit": 0.035}
"""Fractions of the multiply-accumulates at which pruning alone visibly loses accuracy: about the least that can be had."""

DECAY = 0.01
SUFFIXES = (".onnx", ".pt2")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """One run.

    Attributes
    ----------
    sample : "digits-cnn" or "digits-vit".
    macs : the fraction of multiply-accumulates that stays.
    samples : how many of the 500 calibration images to prune with; all by default.
    epochs : over the 1197 training images.
    rate : the highest learning rate; it is warmed up to and then follows a cosine down. What starts at its full height
        first undoes the repair.
    distil : weight of the dense model's answers in the loss, 0 (labels only) to 1 (no labels).
    temperature : what logits are divided by where they are compared with the dense model's.
    """

    sample: str = "digits-vit"
    macs: float = BUDGETS["digits-vit"]
    samples: int | None = None
    epochs: int = 10
    rate: float = 2e-3
    seed: int = 0
    distil: float = 0.0
    temperature: float = 4.0


@dataclass(frozen=True)
class Row:
    """One model of the table: its accuracy in percent, its fraction of the MACs, and how long it took to make."""

    model: str
    accuracy: float
    macs: float
    seconds: float | None = None


def dense_module(sample: samples.Sample) -> nn.Module:
    """The module that a sample was exported from, with the weights that are in its file, in evaluation mode."""
    module = RECIPES[sample.name].build()
    found = weights(onnx.load(sample.path).graph)
    # Scalars are batch norms' counters of batches, which the file does not have and nothing here reads.
    state = {name: found[name] if old.ndim else old for name, old in module.state_dict().items()}
    module.load_state_dict(state)
    return module.eval()


def weights(graph: onnx.GraphProto) -> dict[str, torch.Tensor]:
    """A sample's weights by their names in the module.

    Most are initializers of that name. Of two that are equal the TorchScript exporter keeps one and an Identity; the
    dynamo exporter transposes the weights of linear layers, and only the bias that is added next has its name.
    """
    found = {stored.name: torch.from_numpy(numpy_helper.to_array(stored).copy()) for stored in graph.initializer}
    products: dict[str, torch.Tensor] = {}
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
        elif node.op_type == "MatMul" and node.input[1] in found:
            products[node.output[0]] = found[node.input[1]].T
        elif node.op_type == "Add":
            for product, bias in (node.input, node.input[::-1]):
                if product in products and bias in found:
                    found[bias.removesuffix("bias") + "weight"] = products[product]
    return found


@dataclass(frozen=True)
class Distillation:
    """``(1 - w) CE(y, softmax(z)) + w T^2 KL(softmax(v / T) || softmax(z / T))`` for logits z and the teacher's v.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531, section 2. The
    gradients of the second term shrink as 1 / T^2, hence the factor; the KL divergence differs from the paper's cross
    entropy by what does not depend on z.

    Attributes
    ----------
    teacher : (b, ...) to logits (b, classes); in evaluation mode.
    weight : w, 0 (labels only) to 1 (no labels).
    temperature : T, above 0; the higher, the more the classes count that the teacher did not choose.
    """

    teacher: nn.Module
    weight: float
    temperature: float

    def __call__(self, images: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            target = (self.teacher(images) / self.temperature).log_softmax(dim=1)
        soft = (logits / self.temperature).log_softmax(dim=1)
        divergence = functional.kl_div(soft, target, reduction="batchmean", log_target=True)
        hard = functional.cross_entropy(logits, labels)
        return (1 - self.weight) * hard + self.weight * self.temperature**2 * divergence


def fine_tune(
    module: nn.Module, settings: Settings, teacher: nn.Module | None = None, say: Say = lambda line: None
) -> nn.Module:
    """Train a module, in place, by the loop that trained the samples; from a teacher where there is one."""
    digits = split()
    images, labels = torch.from_numpy(samples.upscale(digits.train)), torch.from_numpy(digits.train_labels).long()
    loss = smoothed if teacher is None else Distillation(teacher, settings.distil, settings.temperature)
    torch.manual_seed(settings.seed)
    return fit(module, images, labels, settings.epochs, settings.rate, DECAY, loss, say)


def accuracy(module: nn.Module, sample: samples.Sample) -> float:
    """On the sample's test images, in percent."""

    def predict(batch: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(batch)).numpy()

    return samples.accuracy(predict, sample)


def prune(dense: nn.Module, sample: samples.Sample, settings: Settings, quiet: bool = True) -> OptimizedModule:
    """What is left of a sample's module at the budget, repaired in closed form."""
    calib = torch.from_numpy(sample.calib[samples.INPUT])
    budget = Macs(settings.macs)
    with terminal.progress(quiet) as progress:
        return optimize(
            dense, calib[:1], calib=calib, budget=budget, samples=settings.samples, seed=settings.seed, bench_seconds=0,
            progress=progress,
        )  # fmt: skip


def recover(settings: Settings, say: Say, quiet: bool) -> tuple[OptimizedModule, list[Row]]:
    """Prune a sample and fine-tune what is left: the slim model, trained, and the rows of the table."""
    sample = samples.load(settings.sample)
    dense = dense_module(sample)
    rows = [Row("dense", accuracy(dense, sample), 1.0)]
    started = time.perf_counter()
    slim = prune(dense, sample, settings, quiet)
    seconds = time.perf_counter() - started
    for warning in slim.report["warnings"]:
        say(f"warning: {warning}")
    left = slim.report["macs"]["after"] / slim.report["macs"]["before"]
    rows.append(Row("slim", accuracy(slim.module, sample), left, seconds))
    started = time.perf_counter()
    fine_tune(slim.module, settings, dense if settings.distil else None, say)
    seconds = time.perf_counter() - started
    rows.append(Row("distilled" if settings.distil else "fine-tuned", accuracy(slim.module, sample), left, seconds))
    return slim, rows


def table(rows: Sequence[Row]) -> str:
    """Markdown, a row for each model."""
    lines = ["| model | test accuracy | MACs | seconds |", "| --- | ---: | ---: | ---: |"]
    for row in rows:
        seconds = "" if row.seconds is None else f"{row.seconds:.0f}"
        lines.append(f"| {row.model} | {row.accuracy:.2f} % | {row.macs:.4f} | {seconds} |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = Settings()
    budgets = ", ".join(f"{fraction:g} for {name}" for name, fraction in BUDGETS.items())
    parser.add_argument("sample", nargs="?", default=default.sample, choices=list(BUDGETS))
    parser.add_argument("--macs", type=float, help=f"fraction of multiply-accumulates that stays (default: {budgets})")
    parser.add_argument("--samples", type=int, help="prune with so many of the 500 calibration images (default: all)")
    parser.add_argument("--epochs", type=int, default=default.epochs, help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=default.rate, help="learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument(
        "--distil", type=float, default=default.distil, metavar="WEIGHT",
        help="weight of the dense model's answers, 0 (labels only, the default) to 1 (no labels)",
    )  # fmt: skip
    parser.add_argument(
        "--temperature", type=float, default=default.temperature, help="with --distil (default: %(default)s)"
    )
    parser.add_argument("-o", "--output", type=Path, help="write the fine-tuned model: .onnx or .pt2")
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    """What was asked for, checked before any work is done."""
    macs = BUDGETS[options.sample] if options.macs is None else options.macs
    if not 0 < macs <= 1:
        raise InputError(f"--macs is {macs:g}; expected a fraction above 0 and at most 1")
    if not 0 <= options.distil <= 1:
        raise InputError(f"--distil is {options.distil:g}; expected a weight from 0 to 1")
    for name in ("samples", "epochs", "rate", "temperature"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise InputError(f"--{name} is {value:g}; expected a number above 0")
    if options.output is not None and options.output.suffix not in SUFFIXES:
        raise InputError(f"--output is {options.output}; expected a name that ends in {' or '.join(SUFFIXES)}")
    if options.output is not None and not options.output.parent.is_dir():
        raise InputError(f"--output is {options.output}; there is no folder {options.output.parent}: create it first")
    return Settings(
        sample=options.sample,
        macs=macs,
        samples=options.samples,
        epochs=options.epochs,
        rate=options.rate,
        seed=options.seed,
        distil=options.distil,
        temperature=options.temperature,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        settings = _settings(options)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        slim, rows = recover(settings, lambda line: print(line, file=sys.stderr, flush=True), quiet=False)
        if options.output is not None:
            (slim.to_onnx if options.output.suffix == ".onnx" else slim.save)(options.output)
    except ModhifiError as error:
        print(f"finetune: error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
