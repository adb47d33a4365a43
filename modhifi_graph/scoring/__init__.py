"""What each component is worth. What a user may want is here by name, and loaded when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modhifi_graph.public_names import lazily

if TYPE_CHECKING:
    from modhifi_graph.observe.moments import Moments
    from modhifi_graph.scoring.scores import Contributions
    from modhifi_graph.scoring.subset import Subset, SubsetFidelity

__all__ = ["Contributions", "Moments", "Subset", "SubsetFidelity"]

__getattr__ = lazily(__name__)
