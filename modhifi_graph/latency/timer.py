"""Times a piece on the real engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from modhifi_graph.dialects.onnx import Lifted
from modhifi_graph.exporters.backend import Engine, onnx_backend
from modhifi_graph.files import cache_folder
from modhifi_graph.latency.cache import Cache
from modhifi_graph.latency.pieces import Piece, model_of, pieces, signature
from modhifi_graph.latency.turns import compare

SECONDS, FEWEST, MOST = 0.02, 7, 200
"""A piece is run for so long, at least and at most so often."""

WARMUP = 3

WHOLE = 0.2
"""Seconds that a whole model is run for."""

Whole = Callable[[onnx.ModelProto], float]
"""Milliseconds of a whole model."""


class Timer:
    """Milliseconds of a model on one backend, less what it costs to call it at all.

    ``fresh`` takes nothing from earlier runs: what is compared side by side is measured side by side.
    """

    def __init__(self, name: str, *, threads: int = 0, device: str | None = None, fresh: bool = False) -> None:
        self._backend, self._threads = onnx_backend(name), threads
        self._device = device or self._backend.DEVICE
        empty = _empty()
        engine = self._backend.build(empty, threads=threads, device=self._device)
        self.engine = engine.describe()
        self._call = _median(engine, {"x": np.zeros(1, np.float32)})
        self._cache = Cache(self.engine, None if fresh else cache_folder())
        self.measured = 0

    def __call__(self, model: onnx.ModelProto, feeds: Mapping[str, NDArray[np.generic]]) -> float:
        """The median run; a piece that has been timed before is not timed again."""
        key = signature(model)
        found = self._cache.get(key)
        if found is None:
            found = max(0.0, _median(self._built(model), feeds) - self._call)
            self._cache.put(key, found)
            self.measured += 1
        return found

    def beside(self, model: onnx.ModelProto, feeds: Mapping[str, NDArray[np.generic]]) -> Whole:
        """Times other whole models in turns with this one: what the machine does meanwhile befalls both.

        A time is the ratio of both, in milliseconds of the machine as it was when this one was timed alone.
        """
        engine = self._built(model)
        alone = _median(engine, feeds, WHOLE)

        def whole(other: onnx.ModelProto) -> float:
            compiled = self._built(other)
            found = compare(
                lambda: engine.run(feeds),
                lambda: compiled.run(feeds),
                seconds=2 * WHOLE,
                warmup=WARMUP,
                min_runs=FEWEST,
            )
            assert found.speedup is not None
            return alone / found.speedup

        return whole

    def _built(self, model: onnx.ModelProto) -> Engine:
        return self._backend.build(model, threads=self._threads, device=self._device)

    def save(self) -> None:
        """Keep what was measured for the next time."""
        self._cache.save()


class Pieces:
    """The pieces of one model by name, with the activations that they read in a run on ``feeds``."""

    def __init__(self, model: Lifted, feeds: Mapping[str, NDArray[np.generic]]) -> None:
        self.parts: dict[str, Piece] = {piece.name: piece for piece in pieces(model.graph)}
        self._model = model
        read = list(dict.fromkeys(value.name for piece in self.parts.values() for value in piece.inputs))
        self._values = {name: array.cpu().numpy() for name, array in model.runner(read, 0)(dict(feeds)).items()}

    def time(self, name: str, timer: Timer) -> float | None:
        """Milliseconds of one piece; None where there is none of that name."""
        piece = self.parts.get(name)
        if piece is None:
            return None
        held = {value.name: self._values[value.name] for value in piece.inputs}
        return timer(model_of(piece, self._model, self._values), held)

    def times(self, timer: Timer) -> dict[str, float]:
        """Milliseconds of all."""
        return {name: found for name in self.parts if (found := self.time(name, timer)) is not None}


def _median(engine: Engine, feeds: Mapping[str, NDArray[np.generic]], seconds: float = SECONDS) -> float:
    for _ in range(WARMUP):
        engine.run(feeds)
    times: list[float] = []
    while len(times) < FEWEST or (sum(times) < seconds and len(times) < MOST):
        start = time.perf_counter()
        engine.run(feeds)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3


def _empty() -> onnx.ModelProto:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "empty", info[:1], info[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
