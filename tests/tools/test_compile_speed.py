"""The tool that times the torch.compile backend."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

TOOL = Path(__file__).resolve().parents[2] / "tools" / "compile_speed.py"


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(TOOL.parent)  # it imports the tool beside it
        yield importlib.import_module(TOOL.stem)


def test_a_stage_lasts_from_its_first_report_to_its_last_and_one_more_part(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages, now = tool.Stages(), iter([10.0, 12.0, 14.0, 99.0])
    monkeypatch.setattr(tool.time, "perf_counter", lambda: next(now))
    for done in (1, 2, 3):
        stages("observe", done, 3)
    stages("score", 1, 1)
    assert stages.seconds("observe") == pytest.approx(6.0)
    assert stages.seconds("score") is stages.seconds("never heard of") is None


def test_models_come_with_their_images(tool: ModuleType) -> None:
    module, images = tool.load("digits-vit", 5)
    assert images.shape == (5, 1, 32, 32)
    with torch.no_grad():
        assert module(images).shape == (5, 10)


@pytest.mark.slow
def test_the_whole_command(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Inductor needs a C++ compiler and a while."""
    tool.main(["digits-vit", "--images", "60", "--seconds", "0.5"])
    row = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"\| digits-vit \|( [\d.]+ \|){2} [\d.]+ \([\d.]+ to [\d.]+\) \|( [\d.]* \|){3}  \|", row), row
