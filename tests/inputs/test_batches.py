"""How calibration inputs are cut into batches, and how many fit into one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modhifi_graph.inputs.batches import (
    BATCH_BYTES,
    batch_bytes,
    cut,
    exactly,
    first_samples,
    leading,
    samples_in,
    slices,
    subset,
    taken,
)


def feeds(*sizes: int) -> list:
    return [{"x": torch.full((size, 3), float(i)), "scale": torch.tensor(1.0)} for i, size in enumerate(sizes)]


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


@pytest.mark.parametrize(("free", "expected"), [(1 << 40, 1 << 32), (1 << 32, 1 << 30)])
def test_a_batch_takes_at_most_a_quarter_of_what_is_free(
    monkeypatch: pytest.MonkeyPatch, free: int, expected: int
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 1 << 40))
    assert batch_bytes(torch.device("cuda:0")) == expected
    assert batch_bytes(torch.device("cpu")) == BATCH_BYTES


def test_samples_are_taken_along_their_own_axis() -> None:
    feed = {"x": np.arange(12).reshape(4, 3), "state": np.arange(8).reshape(2, 4), "rate": np.float32(16)}
    axes = {"x": 0, "state": 1, "rate": None}
    part = taken(feed, axes, slice(1, 3))
    assert part["x"].tolist() == [[3, 4, 5], [6, 7, 8]]
    assert part["state"].tolist() == [[1, 2], [5, 6]]
    assert part["rate"] == 16
    assert part["x"].base is feed["x"].base, "a slice is not copied"
    assert taken(feed, axes, np.array([3, 0]))["x"].tolist() == [[9, 10, 11], [0, 1, 2]]


@pytest.mark.parametrize(
    ("samples", "step", "whole", "expected"),
    [
        (5, 2, False, [(0, 2), (2, 4), (4, 6)]),
        (5, 2, True, [(0, 2), (2, 4)]),
        (4, 2, True, [(0, 2), (2, 4)]),
        (1, 4, False, [(0, 4)]),
        (1, 4, True, []),
    ],
)
def test_slices(samples: int, step: int, whole: bool, expected: list[tuple[int, int]]) -> None:
    assert [(part.start, part.stop) for part in slices(samples, step, whole)] == expected


def test_what_leads_is_of_one_length() -> None:
    (feed,) = feeds(10)
    assert leading(feed) == ({"x": 0, "scale": None}, 10)
    assert leading({"x": torch.zeros(10, 3), "state": torch.zeros(2, 3)}) is None
    assert leading({"scale": torch.tensor(1.0)}) is None


def test_the_first_samples_end_within_a_batch() -> None:
    given = feeds(4, 4, 4)
    assert [samples_in(part) for part in first_samples(given, 6)] == [4, 2]
    assert [samples_in(part) for part in first_samples(given, 4)] == [4]
    assert [samples_in(part) for part in first_samples(given, 99)] == [4, 4, 4]
    uneven = [{"x": torch.zeros(10, 3), "state": torch.zeros(2, 3)}]
    assert first_samples(uneven, 4) == uneven


def test_exactly_so_many_samples_or_none() -> None:
    x = {"x": torch.arange(10)}
    found = exactly([x], 4)
    assert found is not None
    assert found["x"].tolist() == [0, 1, 2, 3]
    assert exactly([x], 11) is None
    assert exactly([], 1) is None
    assert exactly(feeds(10), 4) is None, "a number that has no samples is no input to time with"
