"""Writes what is read about options from the one table of them (:mod:`modhifi_graph.options.table`).

python -m tools.house.options            # docs/options.md, and the parameters that modhifi_graph.optimize documents
python -m tools.house.options --check    # writes nothing; exits with 1 where either is not what the table says
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modhifi_graph.options.option import REQUIRED, Option
from modhifi_graph.options.table import PARAMETERS
from modhifi_graph.repair import methods
from modhifi_graph.scoring import criteria
from tools.command import ROOT

PAGE = Path("docs/options.md")
SIGNATURE = Path("modhifi_graph/jobs/optimize.py")

WIDTH = 128
"""Of the lines of a docstring."""

SECTION = "    Parameters\n    ----------\n"
AFTER = "\n    Raises\n"

HEAD = """\
# Options

What `modhifi_graph.optimize` takes, and how `modhifi-graph optimize` spells it; what only the command line has, as
`--output` and `--pareto`, is in its `--help`. `python -m tools.house.options` writes this page from the table in
`modhifi_graph/options/table.py`.

| option | command line | type | default | range | what it does |
|---|---|---|---|---|---|
"""


def page() -> str:
    """The whole of ``docs/options.md``."""
    rows = [" | ".join(cells(option)) for option in PARAMETERS]
    names = {"Criteria": criteria.MEANING, "Compensations": methods.MEANING}
    lists = [f"\n## {title}\n\n" + "".join(_listed(meaning)) for title, meaning in names.items()]
    return HEAD + "".join(f"| {row} |\n" for row in rows) + "".join(lists)


def _listed(meaning: Mapping[str, str]) -> Iterator[str]:
    yield from (f"- `{name}`: {text}\n" for name, text in meaning.items())


def cells(option: Option) -> list[str]:
    """A row of the page."""
    typed = [option.spelling] if option.spelling else []
    if option.kind is bool and option.default is None:
        typed.append(f"--no-{option.name.replace('_', '-')}")
    takes = " ".join(f"`{name}`" for name in option.choices) or str(option.range or "")
    what = option.text or option.help
    if option.flag and option.help:
        what += f" On the command line: {option.help[0].lower()}{option.help[1:]}"
    what = re.sub(r":\w+:`([^`]+)`", r"`\1`", what).replace("``", "`")
    return [
        f"`{option.name}`",
        " ".join(f"`{t}`" for t in typed),
        kind_of(option),
        default_of(option, "`"),
        takes,
        what,
    ]


def parameters() -> str:
    """What ``optimize`` documents below "Parameters"."""
    return "".join(map(entry, PARAMETERS))


def entry(option: Option) -> str:
    """One of them, as numpydoc has it."""
    takes = f" {option.range}" if option.range is not None else ""
    default = default_of(option, '"')
    ending = "" if option.default is REQUIRED else f", default {default}" if default else ", optional"
    choices = f"One of {', '.join(f'``{name}``' for name in option.choices)}. " if option.choices else ""
    body = textwrap.fill(
        choices + (option.text or option.help), WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return f"    {option.name} : {kind_of(option)}{takes}{ending}\n{body}\n"


def kind_of(option: Option) -> str:
    return option.kind if isinstance(option.kind, str) else option.kind.__name__


def default_of(option: Option, quote: str) -> str:
    """In words; nothing where leaving it out means something of its own. ``quote`` stands around names, on the page all."""

    def shown(value: Any) -> str:
        return f"{quote}{value}{quote}" if isinstance(value, str) or quote == "`" else str(value)

    if option.of_mode.get("default") is not None:
        return f"{shown(option.of_mode['default'])}, or {shown(option.of_mode['paper'])} in mode {quote}paper{quote}"
    if option.default is REQUIRED or option.default is None or option.default == ():
        return ""
    return shown(option.default)


def documented(source: str) -> str:
    """The source of ``optimize`` with the parameters that the table says."""
    before, _, rest = source.partition(SECTION)
    _, _, after = rest.partition(AFTER)
    assert after, f"{SIGNATURE}: its docstring has no sections Parameters and Raises"
    return before + SECTION + parameters() + AFTER + after


def written(root: Path = ROOT) -> dict[Path, str]:
    """What the files should hold, by their places below the root."""
    return {PAGE: page(), SIGNATURE: documented((root / SIGNATURE).read_text(encoding="utf-8"))}


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 where something is out of date"
    )
    check = parser.parse_args(arguments).check
    for name, text in written(root).items():
        path = root / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            print(f"{name} is not what the table says: run python -m tools.house.options", file=sys.stderr)
            return 1
        path.write_text(text, encoding="utf-8")
        print(f"wrote {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
