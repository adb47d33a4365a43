"""Small models and inputs for them, optimised in a moment."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx

from modhifi_graph.exporters.onnxruntime import Engine
from modhifi_graph.jobs.optimize import Optimized, optimize

from ..oracles import small


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return Engine.compile(model, threads=1).run(feeds)


def serialised(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


@functools.cache
def model(name: str = "conv_chain") -> onnx.ModelProto:
    return small.SMALL[name]()


def feeds(name: str = "conv_chain", samples: int = 64, seed: int = 0) -> dict[str, np.ndarray]:
    return small.samples(model(name), seed, samples)


def quick(source: Any = None, calib: Any = None, name: str = "conv_chain", **options: Any) -> Optimized:
    """Optimise a small model; half of the multiply-accumulates by default."""
    if not {"macs", "params", "keep", "plan"} & options.keys():
        options["macs"] = 0.5
    source, calib = model(name) if source is None else source, feeds(name) if calib is None else calib
    return optimize(source, calib, bench_seconds=0, threads=1, **options)
