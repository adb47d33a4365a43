"""Where inputs come from: files, arrays, folders of images, or synthesised when there are none."""

from __future__ import annotations

import importlib.util
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from modhifi_graph.errors import InputError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
FREE_SIZE = 8


@dataclass(frozen=True)
class InputSpec:
    """One input of a graph: its name, its shape (int fixed, str symbolic, None unknown) and its numpy type."""

    name: str
    shape: tuple[int | str | None, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, name: str, shape: Sequence[int | str | None], dtype: np.dtype[Any]) -> InputSpec:
        """A spec from what files hold: sizes below 1 and empty symbols mean an unknown size."""
        known = (None if not d or (isinstance(d, int) and d < 1) else d for d in shape)
        return cls(name, tuple(known), dtype)

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} ({', '.join('?' if d is None else str(d) for d in self.shape)})"


def specs_of(model: onnx.ModelProto) -> tuple[InputSpec, ...]:
    """The graph inputs that are not initialisers, in graph order. `InputError` where one is no tensor of known rank."""
    held = {tensor.name for tensor in model.graph.initializer} | {t.values.name for t in model.graph.sparse_initializer}
    return tuple(_spec(value) for value in model.graph.input if value.name not in held)


def _spec(value: onnx.ValueInfoProto) -> InputSpec:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise InputError(f"graph input {value.name}: expected a tensor of known rank; declare its shape in the model")
    shape = [d.dim_param if d.HasField("dim_param") else d.dim_value for d in tensor.shape.dim]
    return InputSpec.of(value.name, shape, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))


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
        end = self.samples - self.samples % step if sizes else self.samples
        return (self._cut(slice(start, start + step)) for start in range(0, end, step))

    def _cut(self, part: slice | NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        axes = self.axes
        return {k: v if (a := axes[k]) is None else v[(slice(None),) * a + (part,)] for k, v in self.arrays.items()}


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
        given = _images(Path(source), specs, samples, seed, preprocess) if folder else _file(Path(source), specs)
    else:
        given = source if isinstance(source, Mapping) else _single(np.asarray(source), specs, label)
    calibration = _checked(given, specs, label)
    # The subset of a folder was taken before reading it.
    if samples is None or samples >= calibration.samples:
        return calibration
    return Calibration(calibration._cut(_subset(calibration.samples, samples, seed)), samples, specs, calibration.axes)


def _subset(total: int, samples: int, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).choice(total, samples, replace=False))


def _single(array: NDArray[Any], specs: Sequence[InputSpec], label: str) -> dict[str, NDArray[Any]]:
    if len(specs) != 1:
        raise InputError(f"{label}: the graph has {len(specs)} inputs; give a .npz with {_wanted(specs)}")
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


def _images(
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
        paths = [paths[i] for i in _subset(len(paths), samples, seed)]
    if len(specs) != 1:
        raise InputError(f"{folder}: the graph has {len(specs)} inputs; give a .npz with {_wanted(specs)}")
    return {specs[0].name: np.stack([preprocess.read(path, specs[0]) for path in paths])}


def _wanted(specs: Sequence[InputSpec]) -> str:
    return "; ".join(str(spec) for spec in specs)


def _checked(given: Mapping[str, NDArray[Any]], specs: tuple[InputSpec, ...], label: str) -> Calibration:
    names = {spec.name for spec in specs}
    if unknown := sorted(given.keys() - names):
        raise InputError(f"{label}: the graph has no input {', '.join(unknown)}; it wants {_wanted(specs)}")
    if missing := sorted(names - given.keys()):
        raise InputError(f"{label}: no array for {', '.join(missing)}; the graph wants {_wanted(specs)}")
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
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and not _is_float(spec.dtype)):
        raise InputError(f"{where}; convert the array, if its values mean what the graph expects")
    with np.errstate(over="ignore"):
        cast = array.astype(spec.dtype)
    kept = np.isfinite(cast).all() if _is_float(spec.dtype) else (cast == array).all()
    if not kept:
        raise InputError(f"{where}; some values do not fit into {spec.dtype}")
    return cast


def _is_float(dtype: np.dtype[Any]) -> bool:
    # numpy does not count the extension type bfloat16 among its floats.
    return dtype.kind == "f" or dtype.name == "bfloat16"


def _batch_symbols(specs: Sequence[InputSpec]) -> set[str]:
    """Symbols of first axes, but for those that an input with another open first axis has further in (a length)."""
    free = [spec.shape for spec in specs if spec.shape and not isinstance(spec.shape[0], int)]
    return {s[0] for s in free if isinstance(s[0], str) and not any(s[0] in t[1:] and s[0] != t[0] for t in free)}


def _sample_axes(
    arrays: Mapping[str, NDArray[Any]], specs: Sequence[InputSpec], label: str
) -> tuple[int, dict[str, int | None]]:
    """How many samples there are, and the axis along which each input holds them."""
    ranked = [spec for spec in specs if spec.shape]
    batches = _batch_symbols(specs)
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


def random_inputs(
    specs: Sequence[InputSpec], seed: int, batch: int = 2, dims: Mapping[str, int] | None = None
) -> dict[str, NDArray[Any]]:
    """Synthesise inputs that are valid for most graphs, to verify and to time with.

    Floats are standard normal; integers are 0 or 1, which token ids, masks and lengths all allow; booleans either.

    Parameters
    ----------
    specs : sequence of InputSpec
        What the graph wants.
    seed : int
        The same seed gives the same inputs.
    batch : int, default 2
        Size of an open first axis, >= 1, and of the same symbol elsewhere.
    dims : dict, optional
        Sizes by symbol, >= 0. Other open sizes are 8; a sum such as "past + 1" adds the sizes of its terms.

    Returns
    -------
    dict of arrays
        By input name, in the graph's types.

    Raises
    ------
    InputError
        A size is out of range, or an input is neither a number nor a boolean.
    """
    if batch < 1 or min((dims or {}).values(), default=0) < 0:
        raise InputError(f"cannot synthesise inputs of batch={batch}, dims={dims}; expected batch >= 1, sizes >= 0")
    sizes = dict.fromkeys(_batch_symbols(specs), batch) | dict(dims or {})
    random = np.random.default_rng(seed)
    return {spec.name: _draw(random, spec, sizes, batch) for spec in specs}


def _draw(random: np.random.Generator, spec: InputSpec, sizes: Mapping[str, int], batch: int) -> NDArray[Any]:
    shape = [_size(d, sizes, batch if axis == 0 else FREE_SIZE) for axis, d in enumerate(spec.shape)]
    if _is_float(spec.dtype):
        return np.asarray(random.standard_normal(shape)).astype(spec.dtype)
    if spec.dtype.kind in "iub":
        return np.asarray(random.integers(0, 2, shape)).astype(spec.dtype)
    raise InputError(f"cannot synthesise the input {spec}; give inputs in a .npz")


def _size(dim: int | str | None, sizes: Mapping[str, int], unknown: int) -> int:
    if not isinstance(dim, str):
        return unknown if dim is None else dim
    if dim in sizes:
        return sizes[dim]
    return sum(int(term) if term.isdigit() else sizes.get(term, FREE_SIZE) for term in map(str.strip, dim.split("+")))
