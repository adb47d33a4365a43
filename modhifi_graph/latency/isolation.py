"""An engine in a process of its own: its threads, its memory and its runtime are nobody else's.

Two engines in one process share the allocator, the caches of the runtime and sometimes its threads. Here each is compiled and
run by a fresh interpreter, which times its own runs and sends the nanoseconds; what it is sent over the pipe is not timed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from modhifi_graph.errors import InputError
from modhifi_graph.exporters.backend import IN_MEMORY, Model, serialised
from modhifi_graph.exporters.engines import compiled
from modhifi_graph.interface import InputSpec


class IsolatedEngine:
    """A compiled model in a process of its own; a context manager.

    Parameters
    ----------
    model : ModelProto or path.
    options : those of :func:`modhifi_graph.exporters.engines.compiled`, by name; plain values.
    """

    def __init__(self, model: Model, options: Mapping[str, Any]) -> None:
        if not isinstance(model, onnx.ModelProto | str | os.PathLike):
            raise InputError("an engine in a process of its own is made of a file: save the model and give its path")
        self._folder = tempfile.TemporaryDirectory(prefix="modhifi-graph-")
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "modhifi_graph.latency.isolation"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            path = self._written(model) if isinstance(model, onnx.ModelProto) else os.fspath(model)
            about = self._ask({"model": path, "options": dict(options)})
        except InputError:
            self.close()
            raise
        self.label = str(about["label"])
        self.inputs = tuple(InputSpec.of(n, shape, np.dtype(kind)) for n, shape, kind in about["inputs"])
        self._about: dict[str, Any] = about["engine"]

    def describe(self) -> dict[str, Any]:
        return self._about

    def feed(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """What the runs to come are given. InputError where the engine does not run on it."""
        path = Path(self._folder.name) / "feeds.npz"
        np.savez(path, *feeds.values())
        self._ask({"feeds": str(path), "names": list(feeds)})

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> int:
        """As :meth:`feed`, and one run."""
        self.feed(feeds)
        return self.nanoseconds()

    def nanoseconds(self) -> int:
        """Run once on what was fed."""
        return int(self._ask({"run": 1})["nanoseconds"])

    def close(self) -> None:
        """End the process."""
        self._worker.kill()
        self._worker.communicate()
        self._folder.cleanup()

    def __enter__(self) -> IsolatedEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _written(self, model: onnx.ModelProto) -> str:
        path = Path(self._folder.name) / "model.onnx"
        path.write_bytes(serialised(model, IN_MEMORY))
        return str(path)

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        try:
            self._worker.stdin.write(json.dumps(question) + "\n")
            self._worker.stdin.flush()
            line = self._worker.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise InputError("the process that runs the engine has ended; run again without --isolate to see why")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise InputError(answer["error"])
        return answer


def serve(questions: IO[str], answers: IO[str]) -> None:
    """Answer the questions of an :class:`IsolatedEngine`, a line of JSON each, until there are no more."""
    engine: Any = None
    feeds: dict[str, NDArray[Any]] = {}
    for line in questions:
        question, answer = json.loads(line), dict[str, Any]()
        try:
            if "model" in question:
                engine = compiled(question["model"], **question["options"])
                inputs = [(spec.name, spec.shape, str(spec.dtype)) for spec in engine.inputs]
                answer = {"label": engine.label, "inputs": inputs, "engine": engine.describe()}
            elif "feeds" in question:
                with np.load(question["feeds"], allow_pickle=False) as held:
                    feeds = {name: held[f"arr_{number}"] for number, name in enumerate(question["names"])}
                engine.run(feeds)
            else:
                start = time.perf_counter_ns()
                engine.run(feeds)
                answer = {"nanoseconds": time.perf_counter_ns() - start}
        except InputError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    # What a runtime prints must not get between the answers.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, channel)
