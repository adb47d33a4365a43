"""The notation of the rules: how an op's axes relate, written the way einops writes it.

``n (g i) *s, (g o) i *k, (g o) -> n (g o) *t`` reads: three inputs and one output; ``(g i)`` is an axis that nests
``i`` in ``g``; ``*s`` is a run of any number of axes; ``-`` is an operand that relates to nothing. A run that several
operands share broadcasts from the right, as numpy does. A number is a factor of just that length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_TOKEN = re.compile(r"\(([^)]*)\)|(\*\w+)|(\w+)")


@dataclass(frozen=True)
class Axis:
    """One axis: the names of its factors, outermost first (a number stands for itself)."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """Any number of axes under one name."""

    name: str


Operand = tuple[Axis | Run, ...] | None
"""The axes of one input or output; None where the rule says nothing about it."""


@dataclass(frozen=True)
class Spec:
    """A parsed rule."""

    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]

    def names(self, operand: Operand) -> frozenset[str]:
        """The factor and run names that ``operand`` mentions."""
        found: set[str] = set()
        for term in operand or ():
            found.update([term.name] if isinstance(term, Run) else term.names)
        return frozenset(found)


@lru_cache(maxsize=4096)
def parse(text: str) -> Spec:
    """Parse a rule; ValueError where it is not one."""
    left, arrow, right = text.partition("->")
    if not arrow:
        raise ValueError(f"a rule needs an arrow: {text!r}")
    return Spec(_operands(left), _operands(right))


def _operands(text: str) -> tuple[Operand, ...]:
    return tuple(_operand(part.strip()) for part in text.split(","))


def _operand(text: str) -> Operand:
    if text == "-":
        return None
    if _TOKEN.sub("", text).strip():
        raise ValueError(f"cannot read the axes {text!r}")
    terms: list[Axis | Run] = []
    for nested, run, name in _TOKEN.findall(text):
        terms.append(Run(run[1:]) if run else Axis(tuple(nested.split()) if nested else (name,)))
    return tuple(terms)
