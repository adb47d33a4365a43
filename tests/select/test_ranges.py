"""Ends of ranges, open and closed, and what is said beyond them."""

from __future__ import annotations

import math

import pytest

from modhifi_graph.errors import InputError
from modhifi_graph.select.ranges import FRACTION, Range


@pytest.mark.parametrize(
    ("numbers", "inside", "outside", "shown"),
    [
        (FRACTION, (1e-9, 0.5, 1), (0, 1.0001, -1, math.nan), "in (0, 1]"),
        (Range(0, 1, open=("low", "high")), (1e-9, 0.999), (0, 1, math.nan), "in (0, 1)"),
        (Range(1), (1, 10**9, math.inf), (0.999, math.nan), ">= 1"),
        (Range(0, math.inf, open=("low", "high")), (1e-9, 1e300), (0, math.inf), "> 0"),
        (Range(-1, 2.5), (-1, 2.5), (-1.001, 2.501), "in [-1, 2.5]"),
    ],
)
def test_ends(numbers: Range, inside: tuple[float, ...], outside: tuple[float, ...], shown: str) -> None:
    assert [value in numbers for value in (*inside, *outside)] == [True] * len(inside) + [False] * len(outside)
    assert str(numbers) == shown


@pytest.mark.parametrize(
    ("numbers", "value", "message"),
    [
        (FRACTION, 1.5, "share is 1.5; expected a fraction above 0 and at most 1"),
        (Range(1), 0, "share is 0; expected at least 1"),
        (Range(0.25), -1, "share is -1; expected at least 0.25"),
    ],
)
def test_messages(numbers: Range, value: float, message: str) -> None:
    with pytest.raises(InputError) as caught:
        numbers.check("share", value)
    assert str(caught.value) == message
    numbers.check("share", 1)
