"""The zoo as test parameters, and what a test of one of its models needs first."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection

import pytest

from tools import zoo


def names(quick: Collection[str]) -> list[object]:
    """Every model for `pytest.mark.parametrize`, the slow mark on all but a few."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in zoo.ZOO]


def require(name: str) -> None:
    """Skip, saying so, where the library that builds a model is missing."""
    library = zoo.ZOO[name].library
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{name} needs {library}: pip install {library}")
