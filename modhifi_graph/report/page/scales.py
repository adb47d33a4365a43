"""Numbers to places on an axis, and how ticks and figures are written."""

from __future__ import annotations

import math
from dataclasses import dataclass

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NICE = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """An axis from ``low`` to ``high``, both beyond all that is shown, with a tick every ``step``."""

    low: float
    high: float
    step: float

    def __call__(self, value: float) -> float:
        """Where a value is, in percent of the axis; values beyond it are at its ends."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 3)

    @property
    def ticks(self) -> list[float]:
        count = round((self.high - self.low) / self.step)
        return [self.low + i * self.step for i in range(count + 1)]

    def label(self, value: float) -> str:
        """A tick, with as many decimals as the step has."""
        decimals = max(0, -math.floor(math.log10(self.step) + 1e-9))
        if round(self.step * 10**decimals, 6) % 1:  # 2.5 and 0.25
            decimals += 1
        return f"{value:.{decimals}f}"


def linear(low: float, high: float, most: int = 5) -> Scale:
    """The axis with at most ``most`` round steps that holds both ends."""
    span = (high - low) or abs(high) or 1.0
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    for nice in (power * factor for factor in (*NICE, 20.0)):
        first, last = math.floor(low / nice + 1e-9) * nice, math.ceil(high / nice - 1e-9) * nice
        if round((last - first) / nice) <= most and last > first:
            return Scale(first, last, nice)
    return Scale(low, low + span, span)


@dataclass(frozen=True)
class Decades:
    """A logarithmic axis over whole powers of ten, from ``10 ** low`` to ``10 ** high``."""

    low: int
    high: int

    def __call__(self, value: float) -> float:
        """Where a value is, in percent of the axis; what is below it is at its foot."""
        if value <= 0:
            return 0.0
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)

    @property
    def ticks(self) -> list[int]:
        """The exponents; every second one of many."""
        each = 1 if self.high - self.low <= 5 else 2
        return list(range(self.high, self.low - 1, -each))[::-1]


def decades(low: float, high: float, most: int = 6) -> Decades:
    """The powers of ten around two positive numbers; only the ``most`` highest where there are more."""
    top = math.ceil(math.log10(high) - 1e-9)
    foot = min(top - 1, math.floor(math.log10(low) + 1e-9))
    return Decades(max(foot, top - most), top)


def power(exponent: int) -> str:
    """10⁻³, or 1 and 10 as people write them."""
    return {0: "1", 1: "10"}.get(exponent, "10" + str(exponent).translate(SUPERSCRIPTS))


def near_one(value: float) -> str:
    """A fidelity, with two digits of what is missing to one: 0.99986."""
    missing = abs(1 - value)
    decimals = 6 if missing < 1e-6 else min(6, max(3, math.ceil(-math.log10(missing)) + 1))
    return f"{value:.{decimals}f}"


def brief(value: float) -> str:
    """A number in two digits: 0.031, or a power of ten behind the mantissa where it is small."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa} \N{MULTIPLICATION SIGN} {power(int(exponent))}"


def milliseconds(value: float) -> str:
    """Three digits, but no finer than tenths of a microsecond."""
    return f"{value:.{max(0, min(4, 2 - math.floor(math.log10(max(value, 1e-4)))))}f}"
