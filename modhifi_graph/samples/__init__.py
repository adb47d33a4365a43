"""Two small classifiers with their data, for a first run without a download, for demonstrations and for tests.

>>> from modhifi_graph import samples
>>> samples.names()
('digits-cnn', 'digits-vit')
>>> sample = samples.load("digits-cnn")
>>> sample.calib["image"].shape, sample.test.shape
((500, 1, 32, 32), (600, 1, 32, 32))

README.md beside this file says where the images come from and how the models were trained.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["INPUT", "Sample", "accuracy", "load", "names", "upscale"]

INPUT = "image"
"""Name of the graph input that every sample model has."""

_HERE = Path(__file__).parent
_NAMES = ("digits-cnn", "digits-vit")
_PREFIX = "sample:"
_BRIGHTEST = 16
_SCALE = 4
_BATCH = 100


@dataclass(frozen=True)
class Sample:
    """A trained model with the data to calibrate and to judge it.

    Attributes
    ----------
    name : str
        One of `names()`.
    path : pathlib.Path
        The ONNX file: input `image` (batch, 1, 32, 32) float32, output `logits` (batch, 10).
    calib : dict of str to ndarray
        500 unlabelled training images, (500, 1, 32, 32) float32 in [0, 1], by the name of the graph input.
    test : ndarray
        600 images that the model was not trained on, (600, 1, 32, 32) float32 in [0, 1].
    labels : ndarray
        The digits 0 to 9 on the test images, (600,) int64.
    """

    name: str
    path: Path
    calib: dict[str, np.ndarray]
    test: np.ndarray
    labels: np.ndarray


def names() -> tuple[str, ...]:
    """The samples there are, in alphabetical order."""
    return _NAMES


def load(name: str) -> Sample:
    """The sample of that name; `"digits-cnn"` and `"sample:digits-cnn"` mean the same.

    Raises
    ------
    ValueError
        If there is no such sample; the message lists those there are.
    """
    bare = name.removeprefix(_PREFIX)
    if bare not in _NAMES:
        raise ValueError(f"no sample is named {name!r}; there are: {', '.join(_NAMES)}")
    with np.load(_HERE / "digits.npz") as stored:
        calib, test, labels = upscale(stored["calib"]), upscale(stored["test"]), stored["labels"].astype(np.int64)
    return Sample(name=bare, path=_HERE / f"{bare}.onnx", calib={INPUT: calib}, test=test, labels=labels)


def accuracy(predict: Callable[[np.ndarray], np.ndarray], sample: Sample) -> float:
    """Top-1 accuracy on the test images, in percent: 0 to 100.

    Parameters
    ----------
    predict : callable
        Takes images (100, 1, 32, 32) and returns their logits (100, 10).
    sample : Sample
        Whose test images and labels to use.
    """
    batches = range(0, len(sample.test), _BATCH)
    found = np.concatenate([np.argmax(predict(sample.test[at : at + _BATCH]), axis=1) for at in batches])
    return 100.0 * float(np.mean(found == sample.labels))


def upscale(pixels: np.ndarray) -> np.ndarray:
    """Stored 8 x 8 images as the models take them: bilinear, four times as wide and high, scaled to [0, 1].

    Pixel centres are at half-integers and the border is repeated (`align_corners=False`). Every weight is a
    multiple of 1/8 and every pixel of 1/16, so float32 holds all sums exactly: each machine gets the same bits.

    Parameters
    ----------
    pixels : ndarray
        (n, height, width) uint8, 0 (paper) to 16 (ink).

    Returns
    -------
    ndarray
        (n, 1, 4 height, 4 width) float32 in [0, 1].
    """
    _, height, width = pixels.shape
    bright = pixels.astype(np.float32) / _BRIGHTEST
    wide: np.ndarray = _interpolation(height) @ bright @ _interpolation(width).T
    return wide[:, None]


def _interpolation(size: int) -> np.ndarray:
    """The matrix (4 size, size) that upscales one axis; each row sums to 1."""
    centres = ((np.arange(size * _SCALE) + 0.5) / _SCALE - 0.5).clip(0, size - 1)
    distance = np.abs(centres[:, None] - np.arange(size)[None, :])
    return np.maximum(0.0, 1.0 - distance).astype(np.float32)
