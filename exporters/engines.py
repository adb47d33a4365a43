"""An engine of a model, or the one that a file holds, whatever the backend."""

from __future__ import annotations

import os

from modhifi_graph.errors import InputError
from modhifi_graph.exporters import onnxruntime
from modhifi_graph.exporters.backend import Engine, Model
from modhifi_graph.exporters.backend import backend as find


def compiled(
    model: Model,
    *,
    backend: str = "onnxruntime",
    device: str | None = None,
    provider: str | None = None,
    threads: int = 0,
) -> Engine:
    """An engine of a model, or the one that a file holds; parameters as for :func:`modhifi_graph.bench`."""
    if provider is not None:
        if backend != "onnxruntime":
            raise InputError(f"provider {provider} is onnxruntime's: the backend is {backend}")
        return onnxruntime.build(model, threads=threads, provider=provider)
    chosen = find(backend)
    if isinstance(model, str | os.PathLike) and os.fspath(model).endswith(chosen.SUFFIX):
        return chosen.load(model, threads=threads, device=device or chosen.DEVICE)
    return chosen.build(model, threads=threads, device=device or chosen.DEVICE)
