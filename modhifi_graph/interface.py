"""The interface of a graph: what its inputs look like, and inputs synthesised to fit them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from modhifi_graph.errors import InputError

Feeds = dict[str, Any]
"""One batch: arrays or tensors by the name of a graph input."""

FREE_SIZE = 8
FREE_SIZES = (FREE_SIZE, 64, 512, 4096)
LARGEST = 1 << 26
"""Elements that inputs tried for want of better ones may have."""


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


def describe(specs: Sequence[InputSpec]) -> str:
    """What the graph wants, for a message."""
    return "; ".join(str(spec) for spec in specs)


def random_inputs(
    specs: Sequence[InputSpec], seed: int, batch: int = 2, dims: Mapping[str, int] | None = None, free: int = FREE_SIZE
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
        Sizes by symbol, >= 0. A sum such as "past + 1" adds the sizes of its terms.
    free : int, default 8
        Every other open size, >= 1.

    Returns
    -------
    dict of arrays
        By input name, in the graph's types.

    Raises
    ------
    InputError
        A size is out of range, or an input is neither a number nor a boolean.
    """
    if min(batch, free) < 1 or min((dims or {}).values(), default=0) < 0:
        raise InputError(
            f"cannot synthesise inputs of batch={batch}, dims={dims}, free={free}; "
            "expected batch and free >= 1, sizes >= 0"
        )
    sizes = dict.fromkeys(batch_symbols(specs), batch) | dict(dims or {})
    random = np.random.default_rng(seed)
    return {spec.name: _draw(random, spec, shape_of(spec, sizes, batch, free)) for spec in specs}


def inputs_that_run(
    run: Callable[[dict[str, NDArray[Any]]], object],
    specs: Sequence[InputSpec],
    seed: int,
    batch: int = 2,
    leading: Iterable[int] = (),
) -> dict[str, NDArray[Any]]:
    """Synthesise inputs that a model accepts: some need lengths that their interface does not tell.

    Open sizes are 8, then 64, 512 and 4096 (a reflecting pad needs more than it adds). Then `leading` are tried, for
    the first axis alone and for all: in a few graphs only one number fits.

    Parameters
    ----------
    run : callable
        Runs the model; raises `InputError` where it rejects the inputs.
    specs, seed, batch
        As for `random_inputs`.
    leading : iterable of int
        Other sizes of an open first axis, such as those of the graph's outputs.

    Raises
    ------
    InputError
        The model rejects them all; the message is that of the first.
    """
    attempts = [(batch, free) for free in FREE_SIZES]
    attempts += [(size, free) for size in leading for free in (batch, size)]
    if not any(isinstance(dim, str | None) for spec in specs for dim in spec.shape):
        attempts = attempts[:1]
    sizes = dict.fromkeys(batch_symbols(specs), batch)
    first: InputError | None = None
    for size, free in attempts:
        if first is not None and sum(math.prod(shape_of(spec, sizes, size, free)) for spec in specs) > LARGEST:
            continue
        feeds = random_inputs(specs, seed, batch=size, free=free)
        try:
            run(feeds)
        except InputError as error:
            first = first or error
        else:
            return feeds
    raise InputError(f"{first}; tried random inputs with open sizes of {', '.join(map(str, FREE_SIZES))}") from first


def shape_of(spec: InputSpec, sizes: Mapping[str, int], batch: int, free: int) -> list[int]:
    """Sizes for a spec: symbols by name, an open first axis is `batch` and every other open one `free`."""
    return [_size(dim, sizes, free, batch if axis == 0 else free) for axis, dim in enumerate(spec.shape)]


def _draw(random: np.random.Generator, spec: InputSpec, shape: list[int]) -> NDArray[Any]:
    if is_float(spec.dtype):
        return np.asarray(random.standard_normal(shape)).astype(spec.dtype)
    if spec.dtype.kind in "iub":
        return np.asarray(random.integers(0, 2, shape)).astype(spec.dtype)
    raise InputError(f"cannot synthesise the input {spec}; give inputs in a .npz")


def _size(dim: int | str | None, sizes: Mapping[str, int], free: int, unknown: int) -> int:
    if not isinstance(dim, str):
        return unknown if dim is None else dim
    if dim in sizes:
        return sizes[dim]
    return sum(int(term) if term.isdigit() else sizes.get(term, free) for term in map(str.strip, dim.split("+")))


def batch_symbols(specs: Sequence[InputSpec]) -> set[str]:
    """Symbols of first axes, but for those that an input with another open first axis has further in (a length)."""
    free = [spec.shape for spec in specs if spec.shape and not isinstance(spec.shape[0], int)]
    return {s[0] for s in free if isinstance(s[0], str) and not any(s[0] in t[1:] and s[0] != t[0] for t in free)}


def is_float(dtype: np.dtype[Any]) -> bool:
    # numpy does not count the extension type bfloat16 among its floats.
    return dtype.kind == "f" or dtype.name == "bfloat16"
