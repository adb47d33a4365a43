"""What a budget is of."""

from __future__ import annotations

import pytest

from modhifi_graph import InputError
from modhifi_graph.select.budget import KINDS, Budget, Keep, Macs, Params


def test_a_budget_is_of_a_kind_that_is_known() -> None:
    assert [made(0.5).kind for made in (Macs, Params, Keep)] == ["macs", "params", "keep"]
    assert {"macs", "params", "keep"} < set(KINDS)
    with pytest.raises(InputError, match="budget 'mcs' is unknown; choose one of macs, params, latency, keep"):
        Budget("mcs", 0.5)
