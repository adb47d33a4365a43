"""What a shell completes is what the library knows."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("optimize model.onnx --criterion ra", ["random"]),
        ("optimize model.onnx --backend o", ["onnxruntime", "openvino"]),
        ("optimize model.onnx --compensation s", ["scalar", "sequential"]),
        ("optimize model.onnx --mode p", ["paper"]),
        ("optimize model.onnx --hifi-sets c", ["channel"]),
        ("optimize model.onnx --prices ''", ["output", "local"]),
        ("unlearn model.onnx --mode z", ["zero"]),
        ("bench model.onnx --backend op", ["openvino"]),
        ("compile model.onnx --backend on", ["onnxruntime"]),
        ("opt", ["optimize"]),
    ],
)
def test_in_bash(words: str, completed: list[str]) -> None:
    line = f"modhifi-graph {words}"
    asked = {"_MODHIFI_GRAPH_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    script = "import sys; sys.argv[0] = 'modhifi-graph'; from modhifi_graph.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == completed
