"""From pixels in [0, 1] to what a network was trained on: conventions, and which of them it answers to best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Normalisation:
    """(pixel - mean) / std by channel, on pixels in [0, 1]; ``name`` is for the report."""

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pictures: Floats) -> Floats:
        """Of shape (n, channels, height, width)."""
        mean, std = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (self.mean, self.std))
        return np.asarray((pictures - mean) / std, np.float32)


IMAGENET = Normalisation("ImageNet's mean and deviation", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SIGNED = Normalisation("[-1, 1]", (0.5,), (0.5,))
UNIT = Normalisation("[0, 1]", (0.0,), (1.0,))
BYTES = Normalisation("[0, 255]", (0.0,), (1 / 255,))
MNIST = Normalisation("MNIST's mean and deviation", (0.1307,), (0.3081,))


def conventions(channels: int) -> tuple[Normalisation, ...]:
    """What is tried, the most common first: that one is taken where nothing tells them apart."""
    return {3: (IMAGENET, SIGNED, UNIT, BYTES), 1: (UNIT, SIGNED, MNIST, BYTES)}.get(channels, (UNIT, SIGNED, BYTES))
