"""``bench``: models and engines, one or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modhifi_graph.models.opening import sample_path


class TestBench:
    def test_one_model(self, run: Any, chain: Path) -> None:
        data = run("bench", chain, "--json", "--seconds", "0.01", "--threads", "1").json()
        assert data["a"]["n"] >= 30
        assert (data["b"], data["engine"]["threads"], data["engine"]["precision"]) == (None, 1, "fp32")
        assert data["machine"]["cores"] >= 1

    def test_two_models(self, run: Any, finished: tuple[Path, Path, Path]) -> None:
        dense, slim, _ = finished
        result = run("bench", dense, slim, "--seconds", "0.01")
        assert result.code == 0
        assert f"{slim} is " in result.out.replace("\n", " ")
        assert "(CPUExecutionProvider), fp32, default threads, batch 1" in result.out

    def test_a_sample(self, run: Any) -> None:
        data = run("bench", "sample:digits-cnn", str(sample_path("digits-cnn")), "--json", "--seconds", "0.01").json()
        assert data["a"]["n"] == data["b"]["n"] >= 30
        low, high = data["interval"]
        assert 0 < low <= data["speedup"] <= high

    def test_an_engine(self, run: Any, chain: Path, tmp_path: Path) -> None:
        pytest.importorskip("openvino")
        engine = tmp_path / "e.blob"
        made = run("compile", chain, "--backend", "openvino", "-o", engine, "--json").json()
        assert (made["backend"], made["precision"], made["bytes"]) == ("openvino", "fp32", engine.stat().st_size)
        data = run("bench", chain, engine, "--backend", "openvino", "--json", "--seconds", "0.01").json()
        assert data["engine"]["backend"] == "openvino"

    def test_models_that_cannot_be_compared(self, run: Any, chain: Path) -> None:
        result = run("bench", chain, "sample:digits-cnn")
        assert result.code == 2
        assert "only models with the same inputs can be compared" in result.err
