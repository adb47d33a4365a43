"""Torch-Pruning (DepGraph, arXiv 2301.12900) on the module that an ONNX file was, exported to ONNX again.

L1 is the magnitude of a group's weights; Taylor is (weight times gradient), accumulated over the calibration inputs, of the
cross entropy to the module's own answers, since nobody here is given labels. Both come as the library has them by default,
the same share of every layer, and with one ranking for all layers together.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import onnx
import torch
from torch import nn
from torch.nn import functional

from modhifi_graph.exporters.onnxruntime import Engine
from tools.experiments.subjects import Subject
from tools.peers.contender import Contender
from tools.peers.modules import CifarResNet, last_layer, module_of

LIBRARIES = ("torch-pruning", "torch", "onnx2torch")
BATCH = 32
OPSET = 17
EXAMPLES = 2
"""A batch of one would be taken for an axis to broadcast."""


class Pruned:
    """One model as a module, and what Torch-Pruning makes of it."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def slim(
        self,
        backend: str,
        fraction: float,
        *,
        taylor: bool,
        together: bool,
        round_to: int | None,
        renormed: bool = False,
    ) -> onnx.ModelProto:
        """A share of 1 - fraction of the channels goes; the classes stay, and so do streams that zeros are padded to."""
        import torch_pruning

        module = self._copy(with_gradients=taylor)
        kept = [last_layer(module), *(module.stream if isinstance(module, CifarResNet) else ())]
        importance = (
            torch_pruning.importance.GroupTaylorImportance()
            if taylor
            else torch_pruning.importance.GroupMagnitudeImportance(p=1)
        )
        torch_pruning.pruner.BasePruner(
            module, self._images[:EXAMPLES], importance=importance, pruning_ratio=1 - fraction, global_pruning=together,
            ignored_layers=kept, round_to=round_to,
        ).step()  # fmt: skip
        if renormed:
            self._renorm(module)
        return self._exported(module)

    def _copy(self, with_gradients: bool) -> nn.Module:
        module = copy.deepcopy(self._module)
        if with_gradients:
            for parameter, gradient in zip(module.parameters(), self._gradients, strict=True):
                parameter.grad = gradient.clone()
        return module

    def _renorm(self, module: nn.Module) -> None:
        """The statistics of all batch norms, taken anew from the calibration inputs."""
        norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain average over all batches
            norm.train()
        with torch.no_grad():
            for batch in self._images.split(BATCH):
                module(batch)
        module.eval()

    def _exported(self, module: nn.Module) -> onnx.ModelProto:
        """As the file was: the same names of inputs and outputs, batches of any size."""
        buffer, (given, made) = io.BytesIO(), self._names
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module, (self._images[:EXAMPLES],), buffer, input_names=[given], output_names=[made], dynamo=False,
                dynamic_axes={given: {0: "batch"}, made: {0: "batch"}}, opset_version=OPSET,
            )  # fmt: skip
        return onnx.load_from_string(buffer.getvalue())

    @cached_property
    def _names(self) -> tuple[str, str]:
        engine = Engine.compile(self._subject.path.read_bytes(), threads=1)
        return engine.inputs[0].name, engine.outputs[0]

    @cached_property
    def _images(self) -> torch.Tensor:
        return torch.from_numpy(self._subject.calib[self._names[0]])

    @cached_property
    def _module(self) -> nn.Module:
        return module_of(self._subject.path)

    @cached_property
    def _gradients(self) -> list[torch.Tensor]:
        module = copy.deepcopy(self._module)
        for batch in self._images.split(BATCH):
            logits = module(batch)
            functional.cross_entropy(logits, logits.argmax(dim=1), reduction="sum").backward()
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in module.parameters()]


RECIPES: Mapping[str, Mapping[str, Any]] = {
    "torch-pruning-l1": {"taylor": False, "together": False},
    "torch-pruning-l1-global": {"taylor": False, "together": True},
    "torch-pruning-taylor": {"taylor": True, "together": False},
    "torch-pruning-taylor-global": {"taylor": True, "together": True},
    "torch-pruning-l1-global-bn": {"taylor": False, "together": True, "renormed": True},
    "torch-pruning-taylor-global-bn": {"taylor": True, "together": True, "renormed": True},
}
"""The last two take the statistics of batch norms anew, which only a module that still has them can."""

WIDE = 8
"""Its documentation rounds widths to multiples of 8 for speed, and MobileNetV2 at odd widths is slower than whole; of the
layers of a CIFAR ResNet, 16 to 64 wide, too little would be left."""


def contenders(subject: Subject) -> Mapping[str, Contender]:
    pruned = Pruned(subject)
    round_to = None if subject.name.startswith("resnet") else WIDE
    makes: dict[str, Callable[[str, float], onnx.ModelProto]] = {
        name: partial(pruned.slim, round_to=round_to, **recipe) for name, recipe in RECIPES.items()
    }
    return {name: Contender(make, make, LIBRARIES) for name, make in makes.items()}
