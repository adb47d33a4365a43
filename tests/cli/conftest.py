"""The command line run in this process, and models for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from modhifi_graph import cli
from modhifi_graph.models.opening import open_model
from modhifi_graph.passes.normal_form import normalise
from modhifi_graph.passes.slim import Slim
from modhifi_graph.plan import GroupPlan, Plan

from ..oracles import small


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command line in this process."""

    def call(*arguments: str | Path) -> Result:
        with pytest.raises(SystemExit) as stopped:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return Result(stopped.value.code, captured.out, captured.err)

    return call


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    path = tmp_path / "chain.onnx"
    onnx.save(small.build(small.CONVOLUTIONS["conv_chain"]), path)
    return path


@pytest.fixture
def finished(chain: Path) -> tuple[Path, Path, Path]:
    """A dense model, its slim one and the plan."""
    plan = Plan((GroupPlan("w0", 8, (0, 2, 3, 7)),))
    opened = open_model(chain)
    model = normalise(opened.model, opened.label)
    Slim(plan)(model)
    slim, stored = chain.with_name("slim.onnx"), chain.with_name("plan.json")
    onnx.save(opened.give_back(model), slim)
    stored.write_text(json.dumps(plan.to_json()))
    return chain, slim, stored
