"""Calls of a module: what counts as one."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from modhifi_graph.errors import InputError  # noqa: E402
from modhifi_graph.models.calls import Example, calls_of  # noqa: E402

ONE = Example((torch.zeros(2, 3),), {})


@pytest.mark.parametrize(
    ("given", "shapes"),
    [
        (torch.ones(5, 3), [(5, 3)]),
        (np.ones((4, 3), np.float32), [(4, 3)]),
        ([torch.ones(5, 3), torch.ones(2, 3)], [(5, 3), (2, 3)]),
        ([(torch.ones(5, 3), torch.ones(5))], [(5, 3)]),
        ((torch.ones(5, 3), torch.ones(5)), [(5, 3)]),
    ],
)
def test_labels_are_left_out_of_what_a_loader_gives(given, shapes) -> None:
    calls = list(calls_of(given, ONE))
    assert [tuple(call.args[0].shape) for call in calls] == shapes
    assert {len(call.flat()) for call in calls} == {1}


def test_what_is_no_call_is_refused() -> None:
    with pytest.raises(InputError, match="expected tensors, a dict of them, or a loader; got int"):
        list(calls_of(7, ONE))


def test_widening_doubles_only_the_axes_that_are_named() -> None:
    wide = Example((torch.zeros(1, 3, 1),), {"scale": torch.zeros(1)}).widened([{0}, ()])
    assert [tuple(leaf.shape) for leaf in wide.flat()] == [(2, 3, 1), (1,)]
