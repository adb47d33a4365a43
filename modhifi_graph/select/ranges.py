"""The numbers that an option takes, and what is said to whoever gives another."""

from __future__ import annotations

import math
from dataclasses import dataclass

from modhifi_graph.errors import InputError


@dataclass(frozen=True)
class Range:
    """All numbers from one end to the other. NaN is in none.

    Attributes
    ----------
    low, high : the ends; None where there is none above.
    open : the ends that are not in it themselves: "low", "high" or both.
    expected : how a message goes on after "expected"; by default "at least" and the lower end.
    """

    low: float
    high: float | None = None
    open: tuple[str, ...] = ()
    expected: str = ""

    def __contains__(self, value: float) -> bool:
        above = self.low < value if "low" in self.open else self.low <= value
        return above and (self.high is None or (value < self.high if "high" in self.open else value <= self.high))

    def check(self, name: str, value: float) -> None:
        """InputError, which calls the number by a name, where it is not one of these."""
        if value not in self:
            raise InputError(f"{name} is {value:g}; expected {self.expected or f'at least {self.low:g}'}")

    def __str__(self) -> str:
        if self.high is None or self.high == math.inf:
            return f"{'>' if 'low' in self.open else '>='} {self.low:g}"
        first, last = "(" if "low" in self.open else "[", ")" if "high" in self.open else "]"
        return f"in {first}{self.low:g}, {self.high:g}{last}"


FRACTION = Range(0, 1, open=("low",), expected="a fraction above 0 and at most 1")
"""What stays of something."""
