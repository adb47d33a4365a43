"""The page of a real run in a real browser: nothing overflows, nothing is empty, nothing is complained of."""

from __future__ import annotations

from pathlib import Path

import pytest

from modhifi_graph import page
from modhifi_graph.jobs.optimize import optimize

from . import browser
from .reports import report
from .test_write import EVIL, everywhere

WIDTHS = (360, 1440)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    browser.chromium()  # before a run of half a minute for nothing
    slim = optimize(
        "sample:digits-vit", macs=0.5, samples=60, compensation="lstsq", threads=1, bench_seconds=0.1, details=True
    )
    path = tmp_path_factory.mktemp("page") / "report.html"
    page.write(slim.report, path, model="sample:digits-vit")
    return path


def test_a_real_report_fits(real: Path) -> None:
    found, console = browser.looks(real, WIDTHS)
    assert console == []
    assert list(found) == [str(width) for width in WIDTHS]
    for width in found.values():
        assert width["title"] == "sample:digits-vit, slimmed"
        assert width["scroll"] == width["client"]
        # Figures, front, groups, layers, stages; what the other layers take together may be beyond the scale.
        assert width["svgs"] in (48, 49)
        assert (width["empty"], width["outside"], width["elsewhere"], width["scripts"]) == (0, 0, 0, 0)
    assert real.stat().st_size < 100_000


def test_evil_names_are_only_names(tmp_path: Path) -> None:
    path = tmp_path / "evil.html"
    path.write_text(page.render(everywhere(report(), EVIL), model=EVIL, command=f"{EVIL} " * 20), encoding="utf-8")
    found, console = browser.looks(path, WIDTHS)
    assert console == []
    for width in found.values():
        assert not width["ran"]
        assert (width["scripts"], width["elsewhere"]) == (0, 0)
        assert width["scroll"] == width["client"]
