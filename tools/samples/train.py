"""Trains the models in modhifi_graph/samples and writes them there, with the data they are judged on.

    python -m tools.samples.train                 both models and digits.npz, ten to fifteen minutes on one core
    python -m tools.samples.train digits-vit      only that model

Needs torch, onnx, onnxscript, onnxruntime and scikit-learn. Seed and split are fixed and one thread is used, so the
same versions on the same kind of machine write the same bytes.
"""

import argparse
import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

from modhifi_graph import samples

FOLDER = Path(samples.__file__).parent
SEED = 0
TRAIN, CALIB = 1197, 500
OPSET = 18

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Images, their logits and their labels to a number."""


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, which is a strided projection where the shape changes."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, width_in, h, w) -> (b, width, h / stride, w / stride)."""
        inner = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(inner + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network whose compute is nearly all in 3 x 3 convolutions at full resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        self.stage1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.stage2 = BasicBlock(64, 64, 2)
        self.stage3 = BasicBlock(64, 96, 2)
        self.head = nn.Linear(96, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(b, 1, 32, 32) -> logits (b, 10)."""
        features = self.stage3(self.stage2(self.stage1(self.stem(image))))
        return self.head(functional.adaptive_avg_pool2d(features, 1).flatten(1))


class Attention(nn.Module):
    """Self-attention whose queries, keys and values come from one fused projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, t, width) -> (b, t, width)."""
        batch, tokens, width = x.shape
        packed = self.qkv(x).reshape(batch, tokens, 3, self.heads, self.head_width).permute(2, 0, 3, 1, 4)
        query, key, value = packed.unbind(0)
        weights = (query @ key.transpose(-2, -1) / math.sqrt(self.head_width)).softmax(dim=-1)
        return self.out((weights @ value).transpose(1, 2).reshape(batch, tokens, width))


class Encoder(nn.Module):
    """A pre-norm transformer block: attention, then an MLP four times as wide."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, t, width) -> (b, t, width)."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """64 patches of 4 x 4 and a class token, learned positions, three encoder blocks."""

    def __init__(self, width: int = 80, depth: int = 3, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, 65, width))
        self.blocks = nn.Sequential(*(Encoder(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(b, 1, 32, 32) -> logits (b, 10)."""
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(image.shape[0], -1, -1), tokens], dim=1) + self.position
        return self.head(self.norm(self.blocks(tokens)[:, 0]))


@dataclass(frozen=True)
class Recipe:
    """How one sample is trained and by which of torch's two exporters it is written."""

    build: type[nn.Module]
    epochs: int
    rate: float
    decay: float
    dynamo: bool


RECIPES = {
    "digits-cnn": Recipe(build=ResNet, epochs=12, rate=4e-3, decay=0.02, dynamo=False),
    "digits-vit": Recipe(build=VisionTransformer, epochs=100, rate=2e-3, decay=0.05, dynamo=True),
}


@dataclass(frozen=True)
class Digits:
    """The split: images (n, 8, 8) uint8 in 0 to 16, labels (n,) uint8 in 0 to 9."""

    train: np.ndarray
    train_labels: np.ndarray
    calib: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def split() -> Digits:
    """1197 images to train on, 500 of them to calibrate with, 600 to test on; each part has all classes alike."""
    bundle = load_digits()
    pixels, labels = bundle.images.astype(np.uint8), bundle.target.astype(np.uint8)
    train, test, train_labels, test_labels = train_test_split(
        pixels, labels, train_size=TRAIN, stratify=labels, random_state=SEED
    )
    calib, _ = train_test_split(train, train_size=CALIB, stratify=train_labels, random_state=SEED)
    return Digits(train, train_labels, calib, test, test_labels)


def augment(images: torch.Tensor) -> torch.Tensor:
    """Each image shifted by up to 2 pixels, turned by up to 10 degrees and scaled by up to 10 percent."""
    count = len(images)
    angle = math.radians(10) * (2 * torch.rand(count) - 1)
    scale = 1 + 0.1 * (2 * torch.rand(count) - 1)
    shift = 2 / 16 * (2 * torch.rand(count, 2) - 1)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = functional.affine_grid(rows, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def train(recipe: Recipe, images: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    """A sample trained from scratch, in evaluation mode."""
    torch.manual_seed(SEED)
    return fit(recipe.build(), images, labels, recipe.epochs, recipe.rate, recipe.decay)


def smoothed(images: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy with labels that are not quite sure."""
    return functional.cross_entropy(logits, labels, label_smoothing=0.05)


def fit(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    epochs: int,
    rate: float,
    decay: float,
    loss_of: Loss = smoothed,
    say: Callable[[str], None] = lambda line: print(f"  {line}", flush=True),
    batch: int = 63,
) -> nn.Module:
    """AdamW under a one-cycle rate, in place; returns the model in evaluation mode. The batch divides 1197."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
    steps = epochs * math.ceil(len(images) / batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    model.train()
    for epoch in range(epochs):
        started, total = time.perf_counter(), 0.0
        for chosen in torch.randperm(len(images)).split(batch):
            seen = augment(images[chosen])
            loss = loss_of(seen, model(seen), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        say(f"epoch {epoch + 1}: loss {total / len(images):.4f}, {time.perf_counter() - started:.1f} s")
    return model.eval()


def export(model: nn.Module, dynamo: bool) -> onnx.ModelProto:
    """The model as ONNX with a dynamic batch; the TorchScript exporter is told to keep batch norms unfolded."""
    example = torch.zeros(2, 1, 32, 32)
    common = {"input_names": [samples.INPUT], "output_names": ["logits"], "opset_version": OPSET}
    if dynamo:
        batch = ({0: torch.export.Dim("batch")},)
        graph = torch.onnx.export(model, (example,), dynamo=True, dynamic_shapes=batch, **common).model_proto
    else:
        written = io.BytesIO()
        torch.onnx.export(
            model,
            (example,),
            written,
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            dynamic_axes={samples.INPUT: {0: "batch"}, "logits": {0: "batch"}},
            **common,
        )
        graph = onnx.load_from_string(written.getvalue())
    return without_notes(graph)


def without_notes(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the exporters' notes (doc strings, metadata, inferred shapes); changed in place."""
    inner = graph.graph
    for part in (graph, inner, *inner.input, *inner.output, *inner.node, *inner.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    del inner.value_info[:]
    onnx.checker.check_model(graph, full_check=True)
    return graph


def main() -> None:
    """Writes the data and the models asked for, and prints the accuracy of each file that was written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"which to train: {', '.join(RECIPES)} (default: all)")
    wanted = parser.parse_args().names or list(RECIPES)
    if unknown := [name for name in wanted if name not in RECIPES]:
        parser.error(f"no sample is named {unknown[0]!r}; there are: {', '.join(RECIPES)}")

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    digits = split()
    np.savez_compressed(FOLDER / "digits.npz", calib=digits.calib, test=digits.test, labels=digits.test_labels)
    images = torch.from_numpy(samples.upscale(digits.train))
    labels = torch.from_numpy(digits.train_labels).long()
    for name in wanted:
        print(name, flush=True)
        recipe = RECIPES[name]
        model = train(recipe, images, labels)
        sample = samples.load(name)
        onnx.save(export(model, recipe.dynamo), sample.path)
        session = onnxruntime.InferenceSession(sample.path, providers=["CPUExecutionProvider"])
        percent = samples.accuracy(lambda batch, run=session.run: run(None, {samples.INPUT: batch})[0], sample)
        parameters = sum(weight.numel() for weight in model.parameters())
        print(f"  {percent:.2f} % right, {parameters} parameters, {sample.path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
