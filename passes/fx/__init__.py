"""Module to module: the same passes over what ``torch.export`` makes of a module.

The whole job as one of them is here by name alone, ``ModHiFi``: see :mod:`modhifi_graph.public_names`.
"""

from __future__ import annotations

from modhifi_graph.public_names import lazily

__all__ = ["ModHiFi"]

__getattr__ = lazily(__name__)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
