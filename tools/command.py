"""What tools that are run from the command line share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from modhifi_graph.errors import ModhifiError

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
