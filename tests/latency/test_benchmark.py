"""Engines timed alone and in turns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from modhifi_graph.errors import InputError
from modhifi_graph.exporters.precision import converted
from modhifi_graph.jobs.compile import compile_model
from modhifi_graph.latency import machine
from modhifi_graph.latency.benchmark import bench


def matmul(width: int, depth: int = 1, name: str = "x", batch: int | str = "batch") -> onnx.ModelProto:
    """`depth` square products in a row, width x width."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [width, width], np.full(width * width, 1 / width, np.float32))
    values = [name, *(f"h{i}" for i in range(1, depth)), "y"]
    nodes = [helper.make_node("MatMul", [values[i], "w"], [values[i + 1]]) for i in range(depth)]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, width])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, width])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def test_bench_finds_eight_times_the_work_slower() -> None:
    result = bench(matmul(256, depth=8), matmul(256), batch=64, threads=1, seconds=0.2)
    assert result.speedup is not None
    assert result.speedup > 2
    assert result.significant
    assert result.batch == 64
    assert result.engine is not None
    assert (result.engine["threads"], result.engine["provider"]) == (1, "CPUExecutionProvider")
    assert result.machine == machine.describe()


def test_bench_runs_on_another_backend_and_on_its_engines(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    compile_model(matmul(256), backend="openvino", threads=1).save(tmp_path / "small.blob")
    onnx.save(matmul(256, depth=8), tmp_path / "large.onnx")
    result = bench(
        tmp_path / "large.onnx", tmp_path / "small.blob", backend="openvino", batch=64, threads=1, seconds=0.2
    )
    assert result.speedup is not None
    assert result.speedup > 2
    assert result.engine is not None
    assert result.engine["version"] == openvino.__version__.split("-")[0]


def test_bench_does_not_compare_across_precisions() -> None:
    with pytest.raises(InputError, match=r"calculates in fp32 and .* in fp16: a ratio of their times says nothing"):
        bench(matmul(8), converted(matmul(8), "fp16"), seconds=0)
    with pytest.raises(InputError, match="provider CPUExecutionProvider is onnxruntime's: the backend is openvino"):
        bench(matmul(8), backend="openvino", provider="CPUExecutionProvider", seconds=0)


def test_bench_reports_the_batch_it_fed() -> None:
    assert bench(matmul(4, batch=3), batch=7, seconds=0).batch == 3
    assert bench(matmul(4), inputs={"x": np.zeros((5, 4), np.float32)}, seconds=0).batch == 5


def test_bench_refuses_models_with_different_inputs() -> None:
    with pytest.raises(InputError, match="'pixels'"):
        bench(matmul(4), matmul(4, name="pixels"))


def test_bench_refuses_inputs_the_model_does_not_have() -> None:
    with pytest.raises(InputError, match="x"):
        bench(matmul(4), inputs={"pixels": np.zeros((1, 4), np.float32)}, seconds=0)
