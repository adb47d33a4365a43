"""The modules that Torch-Pruning works on: what an ONNX file computes, as an ``nn.Module`` with its weights."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.errors import InputError
from modhifi_graph.exporters.onnxruntime import Engine
from modhifi_graph.interface import random_inputs
from modhifi_graph.models.opening import open_model
from modhifi_graph.passes.normal_form import normalise
from tools.zoo import import_torch

TOLERANCE = 1e-4
"""Largest difference between what the file and the module give, relative to the largest output."""

WITH_NORMS = "_bn"
"""Beside a CIFAR ResNet whose batch norms are folded lies one, so named, in which they are not: the published form."""

STAGES = (16, 32, 64)


class Block(nn.Module):
    """Two convolutions; where the width doubles, the shortcut takes every second position and pads channels with zeros."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.stride, self.padding = (1, 0) if before == width else (2, (width - before) // 2)
        self.conv1 = nn.Conv2d(before, width, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.bn1(self.conv1(x)))
        if self.padding:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return functional.relu(self.bn2(self.conv2(inner)) + x)


class CifarResNet(nn.Module):
    """He et al., "Deep Residual Learning", 2016, section 4.2, with shortcuts of kind A; 9 n + 2 layers have 3 n blocks.

    Attributes
    ----------
    stream : the layers whose outputs the zeros are padded to; they keep their widths.
    """

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STAGES[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STAGES[0])
        before = STAGES[0]
        for number, width in enumerate(STAGES, start=1):
            widths = [before, *[width] * (blocks - 1)]
            setattr(self, f"layer{number}", nn.Sequential(*(Block(earlier, width) for earlier in widths)))
            before = width
        self.linear = nn.Linear(before, 10)

    @property
    def stream(self) -> list[nn.Module]:
        return [self.conv1, *(block.conv2 for block in self.modules() if isinstance(block, Block))]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        for number in range(1, len(STAGES) + 1):
            x = getattr(self, f"layer{number}")(x)
        return self.linear(functional.avg_pool2d(x, 8).flatten(1))  # type: ignore[no-any-return]


def module_of(path: Path) -> nn.Module:
    """What a file computes, in evaluation mode; InputError where the module gives other outputs."""
    normed = path.with_name(f"{path.stem}{WITH_NORMS}.onnx")
    module = (_cifar(normed) if normed.is_file() else _converted(path)).eval()
    engine = Engine.compile(path.read_bytes(), threads=1)
    feeds = random_inputs(engine.inputs, seed=0)
    expected = engine.run(feeds)[engine.outputs[0]]
    with torch.no_grad():
        found = module(torch.from_numpy(feeds[engine.inputs[0].name])).numpy()
    worst = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not worst <= TOLERANCE:
        raise InputError(
            f"{path}: the module made of it differs by {worst:.1g} of the largest output; it is not compared"
        )
    return module


def last_layer(module: nn.Module) -> nn.Module:
    """The classifier, whose outputs are the classes."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)][-1]


def _cifar(path: Path) -> CifarResNet:
    graph = onnx.load(path).graph
    weights = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    blocks = {name.split(".")[1] for name in weights if name.startswith("layer1.")}
    module = CifarResNet(len(blocks))
    # what training counted in the batch norms is not in the file, and nothing reads it
    state = {name: weights[name] if old.ndim else old for name, old in module.state_dict().items()}
    module.load_state_dict(state)
    return module


def _converted(path: Path) -> nn.Module:
    """By onnx2torch, with batch norms folded first: its own are none that Torch-Pruning knows."""
    import_torch()  # onnx2torch imports torchvision, whose wheel may be broken
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import onnx2torch
    opened = open_model(path)
    try:
        module: nn.Module = onnx2torch.convert(to_proto(normalise(opened.model.clone(), opened.label)))
    except NotImplementedError as error:
        raise InputError(f"{path}: onnx2torch cannot convert it: {error}") from error
    return module
