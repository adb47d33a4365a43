"""The models that the figures are measured on: what each is called, its inputs, and how it is scored."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx

from modhifi_graph import samples
from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.errors import InputError
from modhifi_graph.frontends.onnx import sample_accuracy
from modhifi_graph.inputs import calibration
from modhifi_graph.interface import specs_of
from modhifi_graph.models.opening import open_model, sample_path
from tools.experiments.classifier import Data, Model
from tools.experiments.rating import command_score

Arrays = dict[str, np.ndarray]
Labelled = tuple[Data, Data]


@dataclass(frozen=True, eq=False)
class Subject:
    """A model; nothing of it is read before it is asked for.

    Attributes
    ----------
    name : what tables call it.
    source : a path or "sample:NAME".
    kind : "image" or "language".
    metric : what ``rate`` gives: "top1" in percent, or "perplexity".
    load : all unlabelled inputs there are, by graph input.
    rate : the score of a model.
    labels : training and test inputs with labels, for unlearning; None where there are none.
    samples : so many of the inputs calibrate; all where there are no more.
    """

    name: str
    source: str
    kind: str
    metric: str
    load: Callable[[], Arrays]
    rate: Callable[[onnx.ModelProto], float]
    labels: Callable[[], Labelled] | None = None
    samples: int = 1000
    seed: int = 0
    threads: int = 1

    @property
    def path(self) -> Path:
        return sample_path(self.source) if self.source.startswith("sample:") else Path(self.source)

    @cached_property
    def inputs(self) -> Arrays:
        """All inputs, in the order in which fewer of them are taken."""
        found = self.load()
        count = min(map(len, found.values()))
        order = np.random.default_rng(self.seed).permutation(count)
        return {name: array[order] for name, array in found.items()}

    @property
    def calib(self) -> Arrays:
        return self.first(self.samples)

    def first(self, count: int) -> Arrays:
        return {name: array[:count] for name, array in self.inputs.items()}

    @cached_property
    def digest(self) -> str:
        """Of the model and its inputs: figures of other ones are not these."""
        found = hashlib.sha256(self.path.read_bytes())
        for name, array in self.calib.items():
            found.update(f"{name} {array.dtype} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()[:12]

    @cached_property
    def dense(self) -> float:
        """The score of the model as it is."""
        return self.rate(to_proto(open_model(self.source).model))


def sample(name: str, count: int | None, seed: int, threads: int) -> Subject:
    """An embedded sample with its test images; its training images have no labels, so its own answers stand for them."""
    source = f"sample:{name}"

    def labels() -> Labelled:
        known = samples.load(name)
        images = known.calib[samples.INPUT]
        return Data(images, Model(source, threads).says(images).answers), Data(known.test, known.labels)

    return Subject(
        name, source, "image", "top1", lambda: dict(samples.load(name).calib),
        lambda proto: sample_accuracy(source, proto, threads), labels, count or 500, seed, threads,
    )  # fmt: skip


@dataclass(frozen=True)
class Shared:
    """A model below ``--shared``: its file, what evaluate.py calls its task, and how many inputs calibrate it."""

    name: str
    file: str
    task: str
    samples: int

    @property
    def kind(self) -> str:
        return "language" if self.task == "stories" else "image"

    @property
    def metric(self) -> str:
        return "perplexity" if self.task == "stories" else "top1"


SHARED = (
    Shared("resnet20", "resnet20_cifar10_bn.onnx", "cifar10", 300),
    Shared("resnet56", "resnet56_cifar10_bn.onnx", "cifar10", 300),
    Shared("mobilenet_v2", "mobilenet_v2_1.0_224_float.onnx", "imagenet", 100),
    Shared("stories260K", "stories260K.onnx", "stories", 48),
)
MOST_INPUTS = {"cifar10": 1000, "imagenet": 300, "stories": 48}
MOST_TESTS = 1000
"""Test images that unlearning is scored on: every class and mode runs all of them."""


def shared(known: Shared, root: Path, count: int | None, seed: int, threads: int) -> Subject:
    """A model of a folder with models/, data/ and eval/evaluate.py, which makes its inputs and scores it."""
    evaluate, path = root / "eval" / "evaluate.py", root / "models" / known.file

    def load() -> Arrays:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "calib.npz"
            most = max(MOST_INPUTS[known.task], count or known.samples)
            found = _evaluated(evaluate, ["calib", known.task, "-n", str(most), "-o", str(target)])
            with np.load(target) as stored:
                arrays = {name: stored[name] for name in stored.files}
            assert found["samples"] == len(next(iter(arrays.values())))
            return arrays

    def labels() -> Labelled:
        module = _module(evaluate)
        train, test = module.inputs(known.task, "calib", 0), module.inputs(known.task, "test", MOST_TESTS)
        return Data(*train), Data(*test)

    rate = command_score(f"{sys.executable} {evaluate} score {known.task} {{}}", known.metric)
    return Subject(
        known.name, str(path), known.kind, known.metric, load, rate, labels if known.task == "cifar10" else None,
        count or known.samples, seed, threads,
    )  # fmt: skip


def given(
    model: str, calib: str, score: str, key: str | None, lowest: bool, count: int | None, seed: int, threads: int
) -> Subject:
    """A model of the user's own, rated by a command; ``lowest`` says that its score is a perplexity."""

    def load() -> Arrays:
        return calibration.load(calib, specs_of(to_proto(open_model(model).model))).arrays

    kind, metric = ("language", "perplexity") if lowest else ("image", "top1")
    return Subject(
        Path(model).stem, model, kind, metric, load, command_score(score, key), None, count or 1000, seed, threads
    )


def _evaluated(evaluate: Path, arguments: list[str]) -> dict[str, float]:
    done = subprocess.run([sys.executable, str(evaluate), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"{evaluate} {' '.join(arguments)}: {done.stderr.strip()[-500:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("evaluate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
