"""What is read about options is what the table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from modhifi_graph.options.option import Option
from modhifi_graph.options.table import BY_NAME, PARAMETERS
from modhifi_graph.select.ranges import Range
from tools.house import options


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of what the tool reads and writes."""
    for name in (options.PAGE, options.SIGNATURE):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text((options.ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


def test_nothing_is_out_of_date() -> None:
    for name, text in options.written().items():
        assert (options.ROOT / name).read_text(encoding="utf-8") == text, "run python -m tools.house.options"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (options.PAGE, "| `seed` |", "| `sead` |"),
        (options.SIGNATURE, "    seed : int, default 0\n", "    seed : int, default 1\n"),
        (options.SIGNATURE, "    batch : int >= 1, default 1\n", ""),
    ],
)
def test_it_writes_what_is(root: Path, capsys: pytest.CaptureFixture[str], name: Path, old: str, new: str) -> None:
    path = root / name
    good = path.read_text(encoding="utf-8")
    assert options.main(["--check"], root) == 0
    path.write_text(good.replace(old, new), encoding="utf-8")
    assert options.main(["--check"], root) == 1
    assert capsys.readouterr().err == f"{name} is not what the table says: run python -m tools.house.options\n"
    assert path.read_text(encoding="utf-8") != good
    assert options.main([], root) == 0
    assert capsys.readouterr().out == f"wrote {name}\n"
    assert path.read_text(encoding="utf-8") == good


def test_a_page_that_is_missing_is_written(root: Path) -> None:
    (root / options.PAGE).unlink()
    assert options.main(["--check"], root) == 1
    assert options.main([], root) == 0
    assert (root / options.PAGE).read_text(encoding="utf-8") == options.page()


@pytest.mark.parametrize(
    ("option", "entry", "cells"),
    [
        (
            Option("share", float, 0.5, help="So much.", range=Range(0, 1)),
            "    share : float in [0, 1], default 0.5\n        So much.\n",
            ["`share`", "`--share`", "float", "`0.5`", "in [0, 1]", "So much."],
        ),
        (
            Option("way", str, help="A way.", choices=("a", "b"), of_mode={"default": "a", "paper": "b"}),
            '    way : str, default "a", or "b" in mode "paper"\n        One of ``a``, ``b``. A way.\n',
            ["`way`", "`--way`", "str", "`a`, or `b` in mode `paper`", "`a` `b`", "A way."],
        ),
        (
            Option("fold", bool, True, help="Do not fold.", text="See :mod:`a.b`.", flag="--keep"),
            "    fold : bool, default True\n        See :mod:`a.b`.\n",
            ["`fold`", "`--keep`", "bool", "`True`", "", "See `a.b`. On the command line: do not fold."],
        ),
        (
            Option("maybe_so", bool, help="Perhaps."),
            "    maybe_so : bool, optional\n        Perhaps.\n",
            ["`maybe_so`", "`--maybe-so` `--no-maybe-so`", "bool", "", "", "Perhaps."],
        ),
        (
            Option("object", "Plan", text="Only in Python: ``Plan()``.", flag=None),
            "    object : Plan, optional\n        Only in Python: ``Plan()``.\n",
            ["`object`", "", "Plan", "", "", "Only in Python: `Plan()`."],
        ),
    ],
)
def test_how_an_option_is_written(option: Option, entry: str, cells: list[str]) -> None:
    assert options.entry(option) == entry
    assert options.cells(option) == cells


def test_every_option_has_a_row_and_an_entry() -> None:
    rows = [line for line in options.page().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(BY_NAME)
    assert all(row.replace("\\|", "").count("|") == 7 for row in rows)
    entries = [line for line in options.parameters().splitlines() if not line.startswith("     ")]
    assert [line.split()[0] for line in entries] == [option.name for option in PARAMETERS]
    assert max(map(len, options.parameters().splitlines())) <= options.WIDTH
