"""Module to module: the same passes over what ``torch.export`` makes of a module; by name, the whole job as one of them too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modhifi_graph.public import lazily

if TYPE_CHECKING:
    from modhifi_graph.dropins.fx import ModHiFi

__all__ = ["ModHiFi"]

__getattr__ = lazily(__name__)
