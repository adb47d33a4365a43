"""Fixtures for every test, and what makes `slow` tests wait to be asked for."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

SLOW_VARIABLE = "MODHIFI_SLOW"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `slow` run with `-m slow` (or any `-m` that names it) or MODHIFI_SLOW=1."""
    if os.environ.get(SLOW_VARIABLE, "0") not in ("", "0") or "slow" in config.option.markexpr:
        return
    skip = pytest.mark.skip(reason=f"slow: run with -m slow or {SLOW_VARIABLE}=1")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models and data beside the repository; it is not part of it, so tests must do without."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing: real models and data are not part of the repository")
    return folder


@pytest.fixture(scope="session")
def torch() -> Any:
    """torch, with torchvision importable (see `tools.zoo.import_torch`); imported only where a test asks for it."""
    for library in ("torch", "torchvision"):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed: pip install {library}")
    from tools import zoo

    return zoo.import_torch()
