"""What inputs should look like, and arrays that can be told apart, in one line each."""

from __future__ import annotations

from typing import Any

import numpy as np

from modhifi_graph.interface import InputSpec

Dim = int | str | None


def spec(name: str, *shape: Dim, dtype: type[np.generic] = np.float32) -> InputSpec:
    return InputSpec(name, shape, np.dtype(dtype))


def counting(*shape: int, dtype: type[np.generic] = np.float32) -> np.ndarray[Any, Any]:
    """Every entry of sample i is i, so that a sample can be told from its values."""
    return np.broadcast_to(np.arange(shape[0], dtype=dtype).reshape(-1, *[1] * (len(shape) - 1)), shape).copy()


X = spec("x", "batch", 3)
