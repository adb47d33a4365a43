"""Breeding finds pictures for classes that no picture was taken for."""

from __future__ import annotations

import numpy as np
import pytest

from modhifi_graph.inputs.synthesis.breeding import SURE, balanced, bred, information
from modhifi_graph.inputs.synthesis.dead_leaves import photographs


def test_information_of_known_tables() -> None:
    assert information(np.eye(4, dtype=np.float32)) == pytest.approx(np.log(4), abs=1e-6)
    assert information(np.full((7, 5), 0.2, np.float32)) == pytest.approx(0, abs=1e-6)
    assert information(np.tile(np.float32([1, 0]), (6, 1))) == pytest.approx(0, abs=1e-6)
    table = np.float32([[0.9, 0.1], [0.1, 0.9]])
    assert information(table) == pytest.approx(np.log(2) + 0.9 * np.log(0.9) + 0.1 * np.log(0.1), abs=1e-6)


def test_classes_take_turns_and_the_surest_go_first() -> None:
    p = np.float32([[0.6, 0.4], [0.9, 0.1], [0.99, 0.01], [0.45, 0.55], [0.97, 0.03]])
    # Beyond SURE the earlier one wins: 2 before 4.
    assert SURE == 0.95
    assert balanced(p, 1).tolist() == [2]
    assert balanced(p, 2).tolist() == [2, 3]
    assert balanced(p, 3).tolist() == [2, 3, 4]
    assert balanced(p, 4).tolist() == [1, 2, 3, 4]
    assert balanced(p, 9).tolist() == [0, 1, 2, 3, 4]


def quadrants(pictures: np.ndarray) -> np.ndarray:
    """Which quarter is the brightest; the last one has to be by far."""
    n, _, h, w = pictures.shape
    quarters = pictures.mean(1).reshape(n, 2, h // 2, 2, w // 2).mean((2, 4)).reshape(n, 4)
    scores = 30 * (quarters - [0, 0, 0, 0.3])
    e = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True), np.float32)


def test_every_class_comes_to_have_as_many() -> None:
    pictures = photographs(80, 16, 16, 3, np.random.default_rng(0))
    before = quadrants(pictures)
    assert np.bincount(before.argmax(1), minlength=4)[3] <= 8
    seen: list[tuple[int, int]] = []
    found, p = bred(
        pictures, quadrants, np.random.default_rng(0), progress=lambda done, total: seen.append((done, total))
    )
    assert np.bincount(p.argmax(1), minlength=4).tolist() == [20, 20, 20, 20]
    assert information(p) > max(1.2, information(before) + 0.3)
    np.testing.assert_array_equal(quadrants(found), p)
    assert (found.shape, found.dtype) == (pictures.shape, np.float32)
    assert found.min() >= 0
    assert found.max() <= 1
    assert seen == [(i, 6) for i in range(1, 7)]
    again, _ = bred(pictures, quadrants, np.random.default_rng(0))
    assert again.tobytes() == found.tobytes()


def test_no_generations_leave_pictures_as_they_are() -> None:
    pictures = photographs(6, 8, 8, 1, np.random.default_rng(0))
    found, p = bred(pictures, quadrants, np.random.default_rng(0), generations=0)
    assert found is pictures
    np.testing.assert_array_equal(p, quadrants(pictures))
