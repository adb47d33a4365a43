"""What is to be measured on the engine, where that is the aim and not a count of what stays."""

from __future__ import annotations

import math
from dataclasses import dataclass

from modhifi_graph.errors import InputError

KINDS = ("speedup", "latency", "fidelity")


@dataclass(frozen=True)
class Goal:
    """``speedup``: so many times as fast as the dense engine (>= 1). ``latency``: so many milliseconds a run (> 0).
    ``fidelity``: of the repaired model's outputs (in (0, 1]), at the fastest engine that keeps it."""

    kind: str
    value: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"goal {self.kind!r} is unknown; choose one of {', '.join(KINDS)}")
        if self.kind == "speedup" and not 1 <= self.value < math.inf:
            raise InputError(
                f"speedup is {self.value:g}; expected at least 1, so many times as fast as the dense engine"
            )
        if self.kind == "latency" and not 0 < self.value < math.inf:
            raise InputError(f"latency is {self.value:g}; expected milliseconds above 0")
        if self.kind == "fidelity" and not 0 < self.value <= 1:
            raise InputError(f"fidelity is {self.value:g}; expected a fraction above 0 and at most 1")


def Speedup(factor: float) -> Goal:
    """So many times as fast as the dense engine, timed in turns."""
    return Goal("speedup", factor)


def Latency(milliseconds: float) -> Goal:
    """A run in so many milliseconds."""
    return Goal("latency", milliseconds)


def Fidelity(least: float) -> Goal:
    """The fastest engine whose outputs keep this fidelity on the calibration inputs."""
    return Goal("fidelity", least)
