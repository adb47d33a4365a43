"""What is said of one parameter of a run, once: to Python, to the command line and to whoever reads about it.

Nothing heavy is imported here or by what describes all of them (:mod:`modhifi_graph.options.table`): help must not wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modhifi_graph.errors import InputError
from modhifi_graph.select.ranges import Range

REQUIRED = ...
"""In place of a default."""


@dataclass(frozen=True, eq=False)
class Option:
    """A parameter of :func:`modhifi_graph.optimize`.

    Attributes
    ----------
    name : in Python.
    kind : a type, or in words what Python takes.
    default : None where leaving it out means something of its own.
    help : what it does, in one line, as the command line says it.
    text : the same for Python, where that says more or says it otherwise.
    choices : the names that it takes, where these are all.
    range : the numbers that it takes, where not all.
    of_mode : what leaving it out means, by mode.
    flag : on the command line, where not the name with dashes; None where it is not there. The flag of a switch that is on
        by default turns it off.
    typed : the type of what is typed there, where Python takes something else.
    """

    name: str
    kind: type | str
    default: Any = None
    help: str = ""
    text: str = ""
    choices: tuple[str, ...] = ()
    range: Range | None = None
    of_mode: Mapping[str, Any] = field(default_factory=dict)
    flag: str | None = ""
    typed: Any = None

    def check(self, value: Any, called: str = "") -> None:
        """InputError for a value that it does not take; ``called`` is what the message calls it, where not by its name."""
        if value is None and self.default is None:
            return
        if self.choices and value not in self.choices:
            raise InputError(f"{called or self.name} {value!r} is unknown; choose one of {', '.join(self.choices)}")
        if self.range is not None:
            self.range.check(called or self.name, value)

    @property
    def spelling(self) -> str:
        """What is typed on the command line; nothing where it is not there."""
        return f"--{self.name.replace('_', '-')}" if self.flag == "" else self.flag or ""

    @property
    def is_switch(self) -> bool:
        """Whether it is either on or off, and one of the two unless it is given."""
        return self.kind is bool and self.default is not None


def either(names: Sequence[str], conjunction: str = "or") -> str:
    """``a, b or c``."""
    return f"{', '.join(names[:-1])} {conjunction} {names[-1]}"
