"""Engines in processes of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from modhifi_graph import bench
from modhifi_graph.errors import InputError
from modhifi_graph.exporters import onnxruntime
from modhifi_graph.latency import machine
from modhifi_graph.latency.isolation import IsolatedEngine

from ..oracles import small

OPTIONS = {"backend": "onnxruntime", "device": "cpu", "provider": None, "threads": 1}


def test_it_is_another_process_and_says_what_it_takes() -> None:
    model = small.SMALL["conv_chain"]()
    here = onnxruntime.build(model, threads=1)
    with IsolatedEngine(model, OPTIONS) as engine:
        assert engine.inputs == here.inputs
        assert engine.describe() == here.describe()
        assert engine._worker.pid != os.getpid()
        assert engine.run(small.samples(model, 0, 2)) > 0
        assert engine.nanoseconds() > 0
    assert engine._worker.poll() is not None, "nothing is left running"
    assert not Path(engine._folder.name).exists()


def test_what_it_rejects_is_said_here(tmp_path: Path) -> None:
    model = small.SMALL["conv_chain"]()
    with IsolatedEngine(model, OPTIONS) as engine, pytest.raises(InputError, match="onnxruntime cannot run it"):
        engine.feed({engine.inputs[0].name: np.zeros((1, 2), np.float32)})
    with pytest.raises(InputError, match="there is no such file"):
        IsolatedEngine(tmp_path / "none.onnx", OPTIONS)


def test_a_process_that_dies_is_no_hang() -> None:
    with IsolatedEngine(small.SMALL["conv_chain"](), OPTIONS) as engine:
        engine._worker.kill()
        engine._worker.wait()
        with pytest.raises(InputError, match="has ended"):
            engine.nanoseconds()


def test_a_bench_of_two_processes_on_one_core() -> None:
    model = small.SMALL["conv_chain"]()
    found = bench(model, model, threads=1, seconds=0, isolate=True, pin=sys.platform == "linux")
    assert found.a.n == 30
    assert found.engine is not None
    assert found.engine["isolated"] is True
    if sys.platform == "linux":
        assert found.engine["pinned"] == [max(os.sched_getaffinity(0))]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process choose its cores")
def test_pinning_is_undone_and_refuses_what_it_cannot_do() -> None:
    before = os.sched_getaffinity(0)
    with machine.pinned(1) as cores:
        assert os.sched_getaffinity(0) == set(cores) == {max(before)}
    assert os.sched_getaffinity(0) == before
    with pytest.raises(InputError, match="cannot be pinned"), machine.pinned(len(before) + 1):
        pass
    assert os.sched_getaffinity(0) == before
