"""Which of several builds of a model counts: where a compiler puts things in memory differs from one to the next, and so does
what else the machine does meanwhile."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import onnx

from modhifi_graph.latency.turns import Comparison

BUILDS = 3
"""A model is compiled and timed so often."""

DISTURBED = 1.1
"""A build beside which the dense engine took this multiple of its fastest time was timed while the machine had other work."""


@dataclass(frozen=True)
class Timed:
    """A speed-up with its 95 % confidence interval, and the milliseconds of the slim engine."""

    speedup: float
    interval: tuple[float, float]
    milliseconds: float

    @classmethod
    def of(cls, found: Comparison) -> Timed:
        assert found.b is not None
        assert found.speedup is not None
        assert found.interval is not None
        return cls(found.speedup, found.interval, found.b.median)


class Builds:
    """Times models against the dense one, and remembers how fast that one was at its fastest.

    Parameters
    ----------
    compared : compiles the dense model and another one, and times both in turns.
    """

    def __init__(self, compared: Callable[[onnx.ModelProto], Comparison]) -> None:
        self._compared = compared
        self._fastest = math.inf

    def timed(self, model: onnx.ModelProto, builds: int = BUILDS) -> Timed:
        """Of so many builds, the ones least disturbed, that whose speed-up is in the middle.

        A build that was disturbed is made again, as long as there are less than twice as many as asked for.
        """
        found = list[Comparison]()
        while len(found) < 2 * builds and sum(not self._disturbed(one) for one in found) < builds:
            found.append(self._compared(model))
            self._fastest = min(self._fastest, found[-1].a.median)
        calm = sorted(found, key=lambda one: one.a.median)[:builds]
        return sorted(map(Timed.of, calm), key=lambda one: one.speedup)[builds // 2]

    def _disturbed(self, build: Comparison) -> bool:
        return build.a.median > DISTURBED * self._fastest
