"""What users find by name."""

from __future__ import annotations

import pytest

import modhifi_graph


def test_every_public_name_is_there() -> None:
    for name in modhifi_graph.__all__:
        assert getattr(modhifi_graph, name) is not None
    assert set(modhifi_graph.__all__) <= set(dir(modhifi_graph))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        modhifi_graph.nothing  # noqa: B018
