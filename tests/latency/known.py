"""An engine whose times are known, and models to be timed on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_ir as ir

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Groups, find_groups
from modhifi_graph.dialects.onnx import Lifted, lift
from modhifi_graph.latency.model import LatencyModel, measured
from modhifi_graph.latency.timer import Timer
from modhifi_graph.passes.normal_form import normalise

START, WORK, MEMORY = 0.05, 3e-6, 2e-6


class KnownTimer:
    """Takes what a law says for every piece; whole engines take their pieces' work one and a half times, half their start."""

    engine: ClassVar[Mapping[str, Any]] = {"backend": "known"}

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> float:
        self.asked += 1
        return START + work(model)

    def beside(self, model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> Callable[[onnx.ModelProto], float]:
        return lambda other: START * len(layers(other)) / 2 + 1.5 * work(other)

    def save(self) -> None:
        pass


def layers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Gemm"]


def work(model: onnx.ModelProto) -> float:
    """Of the fully connected layers, for one sample: WORK a multiply-accumulate, MEMORY an element that is read or written."""
    dims = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    found = 0.0
    for node in layers(model):
        inputs, outputs = dims[node.input[1]]
        found += WORK * inputs * outputs + MEMORY * (inputs * outputs + outputs + inputs + outputs)
    return found


TEXT = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,32] x) => (float[N,16] y)
    <float[32,64] w0, float[64] b0, float[64,128] w1, float[128] b1, float[128,16] w2, float[16] b2> {
      h0 = Gemm(x, w0, b0)
      r0 = Relu(h0)
      h1 = Gemm(r0, w1, b1)
      r1 = Relu(h1)
      y = Gemm(r1, w2, b2)
    }"""


RESIDUAL = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,32] x) => (float[N,16] y)
    <float[32,64] w0, float[64] b0, float[64,48] w1, float[48] b1, float[48,64] w2, float[64] b2, float[64,16] w3> {
      h0 = Gemm(x, w0, b0)
      r0 = Relu(h0)
      h1 = Gemm(r0, w1, b1)
      r1 = Relu(h1)
      h2 = Gemm(r1, w2, b2)
      s = Add(r0, h2)
      r2 = Relu(s)
      y = Gemm(r2, w3)
    }"""


def opened(model: onnx.ModelProto) -> tuple[Lifted, Groups]:
    whole = lift(normalise(ir.from_proto(model), "graph"))
    return whole, find_groups(couple(whole.graph))


def at_width_eight(
    dense: Lifted, groups: Groups, feeds: Mapping[str, np.ndarray], timer: KnownTimer | Timer
) -> LatencyModel:
    whole = timer.beside(ir.to_proto(dense.model), feeds)
    return measured(dense, groups, feeds, timer, whole, 8)  # type: ignore[arg-type]
