"""Times of layers: dense and slim side by side, with an engine whose times are known and with a real one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modhifi_graph.dialects.onnx import Lifted, lift
from modhifi_graph.errors import InputError
from modhifi_graph.latency import timer
from modhifi_graph.latency.layers import layer_times
from modhifi_graph.latency.timer import Timer
from modhifi_graph.passes.normal_form import normalise
from modhifi_graph.passes.slim import Slim
from modhifi_graph.plan import GroupPlan, Plan

from ..oracles import small

BRANCH = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,4,6,6] x) => (float[N,8,6,6] y)
    <float[4,4,1,1] w, float[8,4,1,1] v> {
      %s
      c2 = Conv(%s, v)
      y = Relu(c2)
    }"""


class KnownTimer:
    """A millisecond for each element of the weights; no engine for what has one op of a kind."""

    def __init__(self, refuses: str = "", factor: float = 1.0) -> None:
        self.refuses, self.asked, self.factor = refuses, list[str](), factor

    def __call__(self, model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> float:
        kinds = [node.op_type for node in model.graph.node]
        if self.refuses in kinds:
            raise InputError(f"{self.refuses}: no such operator")
        self.asked.append(kinds[0])
        return self.factor * float(
            sum(np.prod(tensor.dims) for tensor in model.graph.initializer if len(tensor.dims) == 4)
        )


def both() -> tuple[Lifted, Lifted, dict[str, np.ndarray]]:
    model = small.SMALL["conv_chain"]()
    dense = normalise(ir.from_proto(model), "graph")
    slim = dense.clone()
    Slim(Plan((GroupPlan("w0", 8, (0, 2, 3, 7)),)))(slim)
    return lift(dense), lift(slim), small.samples(model, 0, 1)


def measured(*known: Any) -> dict[str, Any]:
    return layer_times(*both(), known)


def test_each_layer_before_and_after() -> None:
    known = KnownTimer()
    found = measured(known)
    convolutions = [(row["before"], row["after"]) for row in found["rows"] if row["ops"][0] == "Conv"]
    # The first makes half of its channels, the second reads half of them.
    assert convolutions[0][1] == convolutions[0][0] / 2 > 0
    assert convolutions[1][1] == convolutions[1][0] / 2 > 0
    assert known.asked[::2] == known.asked[1::2]  # in turns


def test_a_slow_round_does_not_count() -> None:
    assert measured(KnownTimer(), KnownTimer(factor=50.0), KnownTimer()) == measured(KnownTimer())


def test_what_the_engine_refuses_is_named() -> None:
    found = measured(KnownTimer("Conv"))
    assert found["not_timed"]
    assert {row["reason"] for row in found["not_timed"]} == {"Conv: no such operator"}
    assert all("Conv" not in row["ops"] for row in found["rows"])


def test_a_layer_that_is_gone_takes_nothing() -> None:
    bodies = ("c1 = Conv(x, w)\n z = Add(c1, x)", "z"), ("", "x")
    dense, slim = (lift(normalise(ir.from_proto(small.build(BRANCH % body)), "graph")) for body in bodies)
    found = layer_times(dense, slim, {"x": np.ones((1, 4, 6, 6), np.float32)}, [KnownTimer()])  # type: ignore[list-item]
    assert [(row["ops"], row["before"], row["after"]) for row in found["rows"]] == [
        (["Conv", "Add"], 16.0, None),
        (["Conv", "Relu"], 32.0, 32.0),
    ]


def test_on_a_real_engine() -> None:
    found = measured(Timer("onnxruntime", threads=1, fresh=True))
    assert found["not_timed"] == []
    assert all(row["before"] >= 0 and row["after"] >= 0 for row in found["rows"])
    assert sum(row["before"] for row in found["rows"]) > 0


def test_fresh_times_are_not_read_or_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(timer, "cache_folder", lambda: tmp_path)
    for fresh, files in ((True, 0), (False, 1)):
        measuring = Timer("onnxruntime", threads=1, fresh=fresh)
        measured(measuring)
        measuring.save()
        assert len(list(tmp_path.iterdir())) == files
