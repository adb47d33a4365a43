"""Folders of images as inputs."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modhifi_graph.errors import InputError
from modhifi_graph.interface import InputSpec, describe

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes numbers: (pixel / 255 - mean) / std.

    The image is resized (bilinear) until it just covers `size`, its shorter side first, and its centre is cut out.
    For an integer input pixels stay 0 to 255 and `mean` and `std` must be left alone.

    Attributes
    ----------
    mean, std : tuple of float, default 0 and 1
        One value, or one a channel, on pixels in [0, 1]; std > 0.
    size : (int, int) or None, default None
        Height and width; None takes the graph's.
    layout : str, default "NCHW"
        "NCHW" or "NHWC".
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    size: tuple[int, int] | None = None
    layout: str = "NCHW"

    def __post_init__(self) -> None:
        if self.layout not in ("NCHW", "NHWC"):
            raise InputError(f"preprocess: layout is {self.layout!r}; expected NCHW or NHWC")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.std).all() and min(self.std, default=0) > 0):
            raise InputError(f"preprocess: mean={self.mean}, std={self.std}; expected finite numbers, std above 0")
        if self.size is not None and min(self.size) < 1:
            raise InputError(f"preprocess: size is {self.size}; expected at least 1 pixel")

    @classmethod
    def parse(cls, text: str) -> Preprocess:
        """Read "mean=0.485,0.456,0.406;std=0.229,0.224,0.225;size=224;layout=NCHW"; size may be 224x320 (height first).

        Every part may be left out. Raises `InputError` for an unknown part or a value that is not a number.
        """
        given: dict[str, Any] = {}
        for part in filter(None, (part.strip() for part in text.split(";"))):
            key, _, value = (piece.strip() for piece in part.partition("="))
            try:
                if key in ("mean", "std"):
                    given[key] = tuple(float(number) for number in value.split(","))
                elif key == "size":
                    height, _, width = value.partition("x")
                    given[key] = (int(height), int(width or height))
                elif key == "layout":
                    given[key] = value.upper()
                else:
                    raise InputError(f"preprocess: unknown part {part!r}; expected mean=, std=, size= or layout=")
            except ValueError:
                raise InputError(f"preprocess: {part!r} is not numeric, as mean=0.5,0.5,0.5 or size=224 are") from None
        return cls(**given)

    def read(self, path: Path, spec: InputSpec) -> NDArray[Any]:
        """One image, (c, h, w) or (h, w, c) by layout: float32, or uint8 where the graph wants integers."""
        from PIL import Image

        channels, size, raw = self._target(path.parent, spec)
        try:
            with Image.open(path) as opened:
                image = opened.convert("L" if channels == 1 else "RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(f"{path}: cannot be read as an image: {error}; repair or remove it") from error
        height, width = size
        scale = max(height / image.height, width / image.width)
        covering = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
        image = image.resize(covering, Image.Resampling.BILINEAR)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        pixels = np.asarray(image.crop((left, top, left + width, top + height))).reshape(height, width, channels)
        if not raw:
            pixels = (pixels / np.float32(255) - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return pixels.transpose(2, 0, 1) if self.layout == "NCHW" else pixels

    def _target(self, folder: Path, spec: InputSpec) -> tuple[int, tuple[int, int], bool]:
        """Channels, (height, width), and whether pixels stay as they are; refuses what no image can become."""
        if len(spec.shape) != 4:
            raise InputError(f"{folder}: images need an input of rank 4, the graph wants {spec}; give a .npz instead")
        _, *inner = spec.shape
        channels, height, width = inner if self.layout == "NCHW" else (inner[2], inner[0], inner[1])
        channels = channels if isinstance(channels, int) else 3
        if channels not in (1, 3):
            raise InputError(
                f"{folder}: by {self.layout}, {spec} has {channels} channels; expected 1 or 3, try the other layout"
            )
        if {len(self.mean), len(self.std)} - {1, channels}:
            raise InputError(f"{folder}: mean and std need 1 or {channels} values, as the channels of {spec}")
        raw = spec.dtype.kind in "iu"
        if raw and (set(self.mean), set(self.std)) != ({0.0}, {1.0}):
            raise InputError(f"{folder}: the graph wants {spec}, pixels as they are; leave out mean and std")
        if self.size is not None:
            return channels, self.size, raw
        if not (isinstance(height, int) and isinstance(width, int)):
            raise InputError(f"{folder}: the graph wants {spec} and leaves the size open; add size=, as in size=224")
        return channels, (height, width), raw


def read_folder(
    folder: Path, specs: Sequence[InputSpec], samples: int | None, seed: int, preprocess: Preprocess | None
) -> dict[str, NDArray[Any]]:
    if importlib.util.find_spec("PIL") is None:
        raise InputError(f"{folder}: reading images needs Pillow: pip install pillow")
    if preprocess is None:
        raise InputError(
            f"{folder}: images need preprocess, as the model was trained: "
            "'mean=0.485,0.456,0.406;std=0.229,0.224,0.225;size=224' for most ImageNet models, "
            "'mean=0;std=1' for pixels in [0, 1]"
        )
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES and path.is_file())
    if not paths:
        raise InputError(f"{folder}: holds no images; expected {', '.join(IMAGES)} files right inside it")
    if samples is not None and samples < len(paths):
        paths = [paths[i] for i in subset(len(paths), samples, seed)]
    if len(specs) != 1:
        raise InputError(f"{folder}: the graph has {len(specs)} inputs; give a .npz with {describe(specs)}")
    return {specs[0].name: np.stack([preprocess.read(path, specs[0]) for path in paths])}


def subset(total: int, samples: int, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).choice(total, samples, replace=False))
