"""Calls of a module: what counts as one, and how calibration inputs are cut into batches."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from modhifi_graph.errors import InputError  # noqa: E402
from modhifi_graph.inputs.batches import cut, samples_in, subset  # noqa: E402
from modhifi_graph.models.calls import Example, calls_of  # noqa: E402

ONE = Example((torch.zeros(2, 3),), {})


def feeds(*sizes: int) -> list:
    return [{"x": torch.full((size, 3), float(i)), "scale": torch.tensor(1.0)} for i, size in enumerate(sizes)]


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


def test_a_batch_is_cut_and_a_remainder_stays_where_any_size_runs() -> None:
    (feed,) = feeds(10)
    assert [samples_in(part) for part in cut(feed, 4, whole=False)] == [4, 4, 2]
    assert [samples_in(part) for part in cut(feed, 4, whole=True)] == [4, 4]
    assert [samples_in(part) for part in cut(feed, 10, whole=True)] == [10]
    uneven = {"x": torch.zeros(10, 3), "state": torch.zeros(2, 3)}
    assert list(cut(uneven, 4, whole=False)) == [uneven]


def test_a_subset_holds_as_many_samples_as_were_asked_for() -> None:
    given = feeds(4, 4, 4, 2)
    for seed in range(4):
        chosen = subset(given, 7, seed, whole=False)
        assert sum(map(samples_in, chosen)) == 7
        order = [float(feed["x"][0, 0]) for feed in chosen]
        assert order == sorted(set(order))
    assert sum(map(samples_in, subset(given, 7, 0, whole=True))) >= 7
    assert sum(map(samples_in, subset(given, 100, 0, whole=False))) == 14
    assert subset(given, None, 0, whole=False) == given
    assert {tuple(samples_in(f) for f in subset(given, 4, seed, whole=False)) for seed in range(9)} > {(4,)}


def test_widening_doubles_only_the_axes_that_are_named() -> None:
    wide = Example((torch.zeros(1, 3, 1),), {"scale": torch.zeros(1)}).widened([{0}, ()])
    assert [tuple(leaf.shape) for leaf in wide.flat()] == [(2, 3, 1), (1,)]
