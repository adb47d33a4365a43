"""What is measured and all that follows from it.

>>> from modhifi_graph.fidelity import SubsetFidelity  # doctest: +SKIP

What a user may want is here by name, and loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modhifi_graph.fidelity.moments import Moments
    from modhifi_graph.fidelity.scores import Contributions
    from modhifi_graph.fidelity.subset import Subset, SubsetFidelity

__all__ = ["Contributions", "Moments", "Subset", "SubsetFidelity"]

_HOMES = {"Contributions": "scores", "Moments": "moments", "Subset": "subset", "SubsetFidelity": "subset"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
