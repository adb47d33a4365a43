"""Where inputs come from: files, arrays, folders of images, or synthesised when there are none."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modhifi_graph.errors import InputError
from modhifi_graph.graph import Graph
from modhifi_graph.inputs.batches import BATCH_BYTES, slices, taken
from modhifi_graph.inputs.image_folders import Preprocess, read_folder, subset
from modhifi_graph.interface import InputSpec, batch_symbols, describe, is_float

LARGEST_BATCH = 100
"""Calibration runs in batches of at most this many samples, fewer where a batch's activations would take too much."""


@dataclass(frozen=True)
class Calibration:
    """Samples for every input of a graph.

    Attributes
    ----------
    arrays : dict of arrays
        By input name, in the graph's order and types.
    samples : int
        How many; >= 1.
    specs : tuple of InputSpec
        What the graph wants.
    axes : dict
        The axis along which each array holds samples; None for a constant that every batch repeats.
    """

    arrays: dict[str, NDArray[Any]]
    samples: int
    specs: tuple[InputSpec, ...]
    axes: dict[str, int | None]

    def batches(self, size: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Cut into batches of `size` (>= 1) samples, in order, without copying; the last may be smaller.

        Where the graph fixes its batch to b, batches have b samples whatever `size` is, and a remainder is dropped.
        Raises `InputError`, before the first batch, when there are fewer than b samples or two inputs fix different b.
        """
        fixed = {spec.shape[a] for spec in self.specs if (a := self.axes[spec.name]) is not None}
        sizes = sorted(b for b in fixed if isinstance(b, int))
        if size < 1:
            raise InputError(f"calibration: batch size is {size}; expected 1 or more")
        if len(sizes) > 1:
            raise InputError(f"calibration: the inputs fix different batch sizes, {sizes}; export them with one")
        step = sizes[0] if sizes else size
        if sizes and self.samples < step:
            raise InputError(f"calibration: {self.samples} samples, but the graph fixes its batch to {step}; give more")
        return (taken(self.arrays, self.axes, part) for part in slices(self.samples, step, bool(sizes)))

    def subset(self, samples: int, seed: int) -> Calibration:
        """A random subset, in the original order; all of them where there are not more."""
        if samples >= self.samples:
            return self
        chosen = taken(self.arrays, self.axes, subset(self.samples, samples, seed))
        return Calibration(chosen, samples, self.specs, self.axes)


def batch_size(graph: Graph, limit: int = BATCH_BYTES) -> int:
    """As many samples as keep one batch's activations within ``limit``, counting known lengths only; 1 to LARGEST_BATCH.

    Below that it is a power of two: which rows are sampled depends on how inputs are cut, and dialects that write the same
    model in other numbers of ops should sample the same.
    """
    elements = 0
    for op in graph.ops:
        for value in op.outputs:
            elements += math.prod(dim for dim in (value.shape or ())[1:] if isinstance(dim, int))
    most = max(1, limit // (4 * max(1, elements)))
    return LARGEST_BATCH if most >= LARGEST_BATCH else 1 << (most.bit_length() - 1)


def load(
    source: str | os.PathLike[str] | NDArray[Any] | Mapping[str, NDArray[Any]],
    specs: Sequence[InputSpec],
    *,
    samples: int | None = None,
    seed: int = 0,
    preprocess: Preprocess | None = None,
) -> Calibration:
    """Read inputs and check them against the graph.

    Samples lie along the first axis. An input without one is a constant: rank 0, or its shape is the one the graph
    fixes while other inputs hold a different number of samples (a recurrent state). Where the graph names the batch
    on a later axis of such an input, and it is as long as there are samples, samples lie along that axis.

    Parameters
    ----------
    source : path, array or dict of arrays
        A .npz or a dict (arrays named by graph input); for a graph with one input also a .npy, an array, or a folder
        of images (png, jpg, jpeg, bmp, webp; sorted by name, subfolders left out).
    specs : sequence of InputSpec
        What the graph wants: `specs_of(model)`.
    samples : int or None, default None
        Keep a random subset of this size, in the original order; all of them by default, or when there are fewer.
    seed : int, default 0
        Seed of that subset.
    preprocess : Preprocess, optional
        For a folder of images, and required there: a guess would calibrate on inputs the model never sees.

    Returns
    -------
    Calibration
        Arrays of the graph's types: float64 becomes float32, integers become floats or wider integers.

    Raises
    ------
    InputError
        The source is missing or unreadable; names, ranks, fixed sizes, types or sample counts do not fit the graph;
        there are no samples, or values that are not finite.
    """
    specs = tuple(specs)
    label = str(source) if isinstance(source, str | os.PathLike) else "calibration"
    if not specs:
        raise InputError(f"{label}: the graph has no inputs, so there is nothing to calibrate with")
    if samples is not None and samples < 1:
        raise InputError(f"{label}: samples is {samples}; expected 1 or more")
    folder = isinstance(source, str | os.PathLike) and Path(source).is_dir()
    if preprocess is not None and not folder:
        raise InputError(f"{label}: preprocess is for folders of images; store arrays as the graph wants them")
    given: Mapping[str, NDArray[Any]]
    if isinstance(source, str | os.PathLike):
        given = read_folder(Path(source), specs, samples, seed, preprocess) if folder else _file(Path(source), specs)
    else:
        given = source if isinstance(source, Mapping) else _single(np.asarray(source), specs, label)
    calibration = _checked(given, specs, label)
    # The subset of a folder was taken before reading it.
    return calibration if samples is None else calibration.subset(samples, seed)


def _single(array: NDArray[Any], specs: Sequence[InputSpec], label: str) -> dict[str, NDArray[Any]]:
    if len(specs) != 1:
        raise InputError(f"{label}: the graph has {len(specs)} inputs; give a .npz with {describe(specs)}")
    return {specs[0].name: array}


def _file(path: Path, specs: Sequence[InputSpec]) -> dict[str, NDArray[Any]]:
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder; give a .npz, a .npy or a folder of images")
    if path.suffix.lower() not in (".npz", ".npy"):
        raise InputError(f"{path}: expected a .npz, a .npy or a folder of images")
    try:
        # Pickles run code; object arrays are the only thing that needs them.
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return _single(loaded, specs, str(path))
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read: {error}; save plain arrays with numpy.savez") from error


def _checked(given: Mapping[str, NDArray[Any]], specs: tuple[InputSpec, ...], label: str) -> Calibration:
    names = {spec.name for spec in specs}
    if unknown := sorted(given.keys() - names):
        raise InputError(f"{label}: the graph has no input {', '.join(unknown)}; it wants {describe(specs)}")
    if missing := sorted(names - given.keys()):
        raise InputError(f"{label}: no array for {', '.join(missing)}; the graph wants {describe(specs)}")
    arrays = {spec.name: _cast(np.asarray(given[spec.name]), spec, label) for spec in specs}
    samples, axes = _sample_axes(arrays, specs, label)
    if samples == 0:
        raise InputError(f"{label}: holds no samples; expected at least one along the first axis")
    for spec in specs:
        for axis, (size, wanted) in enumerate(zip(arrays[spec.name].shape, spec.shape, strict=True)):
            if isinstance(wanted, int) and axis != axes[spec.name] and size != wanted:
                raise InputError(
                    f"{label}: {spec.name} has shape {arrays[spec.name].shape}, the graph wants {spec}: "
                    f"axis {axis} is {size} instead of {wanted}; reshape or transpose the array"
                )
    return Calibration(arrays, samples, specs, axes)


def _cast(array: NDArray[Any], spec: InputSpec, label: str) -> NDArray[Any]:
    """The array in the graph's type, if no value is lost but the precision of floats."""
    where = f"{label}: {spec.name} is {array.dtype} of shape {array.shape}, the graph wants {spec}"
    if array.dtype.kind == "O" or spec.dtype.kind == "O":
        raise InputError(f"{where}; only numbers can be calibrated with, save plain numeric arrays")
    if array.ndim != len(spec.shape):
        raise InputError(f"{where}; expected rank {len(spec.shape)}, the first axis counting the samples")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{where}; it holds NaN or infinite values, remove those samples")
    if array.dtype == spec.dtype:
        return array
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and not is_float(spec.dtype)):
        raise InputError(f"{where}; convert the array, if its values mean what the graph expects")
    with np.errstate(over="ignore"):
        cast = array.astype(spec.dtype)
    kept = np.isfinite(cast).all() if is_float(spec.dtype) else (cast == array).all()
    if not kept:
        raise InputError(f"{where}; some values do not fit into {spec.dtype}")
    return cast


def _sample_axes(
    arrays: Mapping[str, NDArray[Any]], specs: Sequence[InputSpec], label: str
) -> tuple[int, dict[str, int | None]]:
    """How many samples there are, and the axis along which each input holds them."""
    ranked = [spec for spec in specs if spec.shape]
    batches = batch_symbols(specs)
    # A first axis holds samples for certain when the graph leaves it open or fixes it to something else.
    certain = [s for s in ranked if s.shape[0] in (None, *batches)]
    certain += [s for s in ranked if isinstance(s.shape[0], int) and s.shape[0] != len(arrays[s.name])]
    leading = certain or ranked[:1]
    counts = {spec.name: len(arrays[spec.name]) for spec in leading}
    if len(set(counts.values())) > 1:
        raise InputError(f"{label}: the inputs hold different numbers of samples, {counts}; expected the same")
    samples = counts[leading[0].name] if leading else 1
    batch = {spec.shape[0] for spec in leading}
    axes: dict[str, int | None] = dict.fromkeys((spec.name for spec in specs), None)
    for spec in ranked:
        sizes = zip(spec.shape, arrays[spec.name].shape, strict=True)
        like_batch = (axis for axis, (dim, size) in enumerate(sizes) if dim in batch and size == samples)
        axes[spec.name] = 0 if spec.name in counts else next(like_batch, None)
    return samples, axes
