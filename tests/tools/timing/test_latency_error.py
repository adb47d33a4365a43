"""How far off predictions are, with engines whose times are known."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tools.timing import latency_error

from ...latency.known import TEXT, KnownTimer
from ...oracles import small


class Known(KnownTimer):
    def __init__(self, name: str, threads: int) -> None:
        super().__init__()


def test_a_law_that_holds_has_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_error, "Timer", Known)
    path = tmp_path / "model.onnx"
    onnx.save(small.build(TEXT), path)
    found, drift = latency_error.errors(str(path), "onnxruntime", plans=8, threads=1, seed=0)
    assert len(found) == 8
    assert max(map(abs, found)) < 0.02
    assert drift == 1.0
