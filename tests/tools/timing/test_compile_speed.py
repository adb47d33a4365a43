"""The tool that times the torch.compile backend."""

from __future__ import annotations

import re

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from tools.timing import compile_speed  # noqa: E402


def test_a_stage_lasts_from_its_first_report_to_its_last_and_one_more_part(monkeypatch: pytest.MonkeyPatch) -> None:
    stages, now = compile_speed.Stages(), iter([10.0, 12.0, 14.0, 99.0])
    monkeypatch.setattr(compile_speed.time, "perf_counter", lambda: next(now))
    for done in (1, 2, 3):
        stages("observe", done, 3)
    stages("score", 1, 1)
    assert stages.seconds("observe") == pytest.approx(6.0)
    assert stages.seconds("score") is stages.seconds("never heard of") is None


def test_models_come_with_their_images() -> None:
    module, images = compile_speed.load("digits-vit", 5)
    assert images.shape == (5, 1, 32, 32)
    with torch.no_grad():
        assert module(images).shape == (5, 10)


@pytest.mark.slow
def test_the_whole_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Inductor needs a C++ compiler and a while."""
    compile_speed.main(["digits-vit", "--images", "60", "--seconds", "0.5"])
    row = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"\| digits-vit \|( [\d.]+ \|){2} [\d.]+ \([\d.]+ to [\d.]+\) \|( [\d.]* \|){3}  \|", row), row
