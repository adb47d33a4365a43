"""What tools that are run from the command line share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from modhifi_graph.errors import InputError, ModhifiError

ROOT = Path(__file__).resolve().parents[1]
"""The repository; real models and data are in ``shared`` beside it."""


def status_of(name: str, work: Callable[[], None]) -> int:
    """The exit status of some work; where it fails for a reason that the user can mend, one line on standard error."""
    try:
        work()
    except ModhifiError as error:
        print(f"{name}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    return 0


def listed(text: str | None, known: Sequence[str], option: str) -> Sequence[str]:
    """The names in a comma-separated option, all of them known; all that are known where it was not given."""
    names = known if text is None else text.split(",")
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"{option}: {unknown[0]!r} is unknown; choose from {','.join(known)}")
    return names


def say(line: str) -> None:
    """A word on how things go, where it is in nobody's way."""
    print(line, file=sys.stderr, flush=True)
