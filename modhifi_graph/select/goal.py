"""What is to be measured on the engine, where that is the aim and not a count of what stays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from modhifi_graph.errors import InputError
from modhifi_graph.select.ranges import FRACTION, Range

RANGES: Mapping[str, Range] = {
    "speedup": Range(1, math.inf, open=("high",), expected="at least 1, so many times as fast as the dense engine"),
    "latency": Range(0, math.inf, open=("low", "high"), expected="milliseconds above 0"),
    "fidelity": FRACTION,
}
"""What each kind of goal may ask for."""

KINDS = tuple(RANGES)


@dataclass(frozen=True)
class Goal:
    """``speedup``: so many times as fast as the dense engine (>= 1). ``latency``: so many milliseconds a run (> 0).
    ``fidelity``: of the repaired model's outputs (in (0, 1]), at the fastest engine that keeps it."""

    kind: str
    value: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"goal {self.kind!r} is unknown; choose one of {', '.join(KINDS)}")
        RANGES[self.kind].check(self.kind, self.value)


def Speedup(factor: float) -> Goal:
    """So many times as fast as the dense engine, timed in turns."""
    return Goal("speedup", factor)


def Latency(milliseconds: float) -> Goal:
    """A run in so many milliseconds."""
    return Goal("latency", milliseconds)


def Fidelity(least: float) -> Goal:
    """The fastest engine whose outputs keep this fidelity on the calibration inputs."""
    return Goal("fidelity", least)
