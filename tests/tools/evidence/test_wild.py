"""Files that other people published: what comes of each, as data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from tools.evidence import wild

from ...oracles import small


@dataclass(frozen=True)
class Expected:
    """The result of a file, the interval of its multiply-accumulates after over before, and what the message says."""

    result: str
    macs: tuple[float, float] = (1.0, 1.0)
    detail: str = ""
    code: int = 0
    slow: bool = False


EXPECTED = {
    "dtln_1.onnx": Expected("declined", detail="nothing can be pruned here: no factor is produced by a weight"),
    "linzaer_rfb320.onnx": Expected("optimised", (0.65, 0.7), slow=True),
    "linzaer_slim320_simplified.onnx": Expected("optimised", (0.65, 0.7), slow=True),
    "magika_v3_3.onnx": Expected("optimised", (0.55, 0.7), slow=True),
    "olive_notebook_model.onnx": Expected("optimised", (0.65, 0.7), slow=True),
    "silero_micro_2021.onnx": Expected("optimised", (0.9, 0.98), "the budget macs 0.7 was out of reach"),
    "silero_mini_8k_2021.onnx": Expected("optimised", (0.85, 0.95), "the budget macs 0.7 was out of reach", slow=True),
    "silero_vad_half.onnx": Expected("optimised", (0.65, 0.7), slow=True),
    "trt_attention_head.onnx": Expected("error", detail="cannot broadcast on dim 0; tried random inputs", code=2),
    "trt_nested_local_function.onnx": Expected("error", detail="No Op registered for Fake_2", code=2),
    "trt_qdq_conv.onnx": Expected("error", detail="the graph has no inputs", code=2),
    "trt_residual_block.onnx": Expected("optimised", (0.65, 0.7), slow=True),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if e.slow else []) for n, e in EXPECTED.items()]
)
def test_each_file(name: str, shared: Path) -> None:
    expected = EXPECTED[name]
    found = wild.outcome(shared / "onnx_wild" / name, samples=4)
    assert (found.result, found.code) == (expected.result, expected.code), found
    assert expected.detail in found.detail
    if expected.result == "error":
        assert found.macs is None
        return
    before, after = found.macs
    assert expected.macs[0] <= after / before <= expected.macs[1]
    assert found.verify_error <= found.tolerance
    assert found.fidelity > 0.9


def test_every_file_has_an_expectation(shared: Path) -> None:
    assert {path.name for path in (shared / "onnx_wild").glob("*.onnx")} == set(EXPECTED)


def test_the_tool_prints_one_line_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(small.SMALL["conv_chain"](), tmp_path / "a_good.onnx")
    onnx.save(small.SMALL["gru"](), tmp_path / "b_closed.onnx")
    (tmp_path / "c_broken.onnx").write_bytes(b"\x08\x07no model")
    assert wild.main([str(tmp_path), "--macs", "0.6", "--samples", "16"]) == 0
    good, closed, broken = capsys.readouterr().out.splitlines()
    assert good.startswith("a_good.onnx")
    assert "optimised  MACs " in good
    assert "declined" in closed
    assert "exit 0: nothing can be pruned here" in closed
    assert "error" in broken
    assert "exit 2: " in broken
    assert "is not an ONNX model, or is truncated" in broken
    assert wild.main([str(tmp_path), "--only", "a_*", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["macs"][1] <= 0.7 * found["macs"][0]
    assert found["verify_error"] <= found["tolerance"]
    assert wild.main([str(tmp_path / "nothing"), "--only", "*.txt"]) == 2


def test_a_defect_is_reported_and_not_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(small.SMALL["conv_chain"](), tmp_path / "a.onnx")

    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(wild, "optimize", fail)
    found = wild.outcome(tmp_path / "a.onnx")
    assert (found.result, found.code, found.detail) == ("defect", 1, "ZeroDivisionError: division by zero")
    assert wild.main([str(tmp_path)]) == 1
