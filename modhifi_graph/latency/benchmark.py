"""One engine timed, or two in turns on the same inputs, and where and how that was."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modhifi_graph.errors import InputError
from modhifi_graph.exporters.backend import Engine, Model
from modhifi_graph.exporters.engines import compiled
from modhifi_graph.interface import inputs_that_run
from modhifi_graph.latency import machine
from modhifi_graph.latency.isolation import IsolatedEngine
from modhifi_graph.latency.turns import Comparison, compare_timed, timed


def bench(
    a: Model,
    b: Model | None = None,
    *,
    inputs: Mapping[str, NDArray[Any]] | None = None,
    seed: int = 0,
    backend: str = "onnxruntime",
    device: str | None = None,
    provider: str | None = None,
    threads: int = 0,
    batch: int = 1,
    seconds: float = 2.0,
    pin: bool = False,
    isolate: bool = False,
) -> Comparison:
    """Compile one or two models and time them on the same inputs.

    Parameters
    ----------
    a, b : ModelProto or path, or for inductor ExportedProgram or path
        The models, or what `modhifi-graph compile` made of them; without `b` only A is timed.
    inputs : dict of arrays, optional
        What to feed, by input name. Synthesised with `inputs_that_run` by default.
    seed : int, default 0
        Seed of the synthesised inputs and of the bootstrap.
    backend : str, default "onnxruntime"
        What compiles and runs them; one of `modhifi_graph.exporters.backend.NAMES`.
    device : str, optional
        "cpu" or "cuda:0"; by default the backend's own.
    provider : str, optional
        An onnxruntime execution provider, where the device's own is not meant.
    threads : int, default 0
        Threads within an operator; 0 is the runtime's default, every core.
    batch : int, default 1
        Samples in a synthesised input. A model with a fixed batch keeps its own.
    seconds : float, default 2.0
        Time to spend on the timed runs of both together.
    pin : bool, default False
        Keep all threads on as many cores as there are threads.
    isolate : bool, default False
        Give each engine a process of its own, still run in turns.

    Returns
    -------
    Comparison
        `batch` is what was really fed: the first axis of the first input that has one.

    Raises
    ------
    InputError
        A model cannot be compiled or run, or A and B differ in their inputs or in the precision that they calculate in.
    """
    options: dict[str, Any] = {"backend": backend, "device": device, "provider": provider, "threads": threads}
    with ExitStack() as held:
        cores = held.enter_context(machine.pinned(threads)) if pin else None
        opened = [
            held.enter_context(IsolatedEngine(model, options)) if isolate else compiled(model, **options)
            for model in (a, b)
            if model is not None
        ]
        first, *others = opened
        for other in others:
            _check_comparable(first, other)
        feeds = dict(inputs) if inputs is not None else inputs_that_run(first.run, first.inputs, seed, batch)
        result = compare_timed([_run_of(engine, feeds) for engine in opened], seconds, seed=seed)
    fed = next((np.shape(feeds[spec.name])[0] for spec in first.inputs if np.ndim(feeds[spec.name])), 1)
    how = {"pinned": list(cores) if cores else None, "isolated": isolate}
    return dataclasses.replace(result, batch=fed, engine={**first.describe(), **how}, machine=machine.describe())


def _run_of(engine: Engine | IsolatedEngine, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], int]:
    """Runs an engine once and gives the nanoseconds that it took."""
    if isinstance(engine, IsolatedEngine):
        engine.feed(feeds)
        return engine.nanoseconds
    return timed(lambda: engine.run(feeds), time.perf_counter_ns)


def _check_comparable(a: Engine | IsolatedEngine, b: Engine | IsolatedEngine) -> None:
    wants_a, wants_b = ({spec.name: str(spec.dtype) for spec in engine.inputs} for engine in (a, b))
    if wants_a != wants_b:
        raise InputError(
            f"{a.label} takes {wants_a} and {b.label} takes {wants_b}: "
            "only models with the same inputs can be compared; rename or cast the inputs of one of them"
        )
    precisions = [engine.describe()["precision"] for engine in (a, b)]
    if precisions[0] != precisions[1]:
        raise InputError(
            f"{a.label} calculates in {precisions[0]} and {b.label} in {precisions[1]}: a ratio of their times says nothing "
            "of the graphs; compile both in the same precision"
        )
