"""What layouts say about positions, against numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modhifi_graph.axes.layout import (
    Kind,
    Layout,
    concatenation,
    find,
    kept,
    leaf,
    leaves,
    length,
    nested_twice,
    owners,
    product,
    render,
    run_length,
)

from .trees import keeps, layouts


def model(layout: Layout, keep: dict[Layout, np.ndarray]) -> np.ndarray:
    """The positions that stay, by reshaping and concatenating a range: written as unlike `kept` as can be."""
    layout = find(layout)
    positions = np.arange(layout.size)
    if layout.kind is Kind.LEAF:
        return positions[keep.get(layout, slice(None))]
    if layout.kind is Kind.SUM:
        starts = np.cumsum([0] + [part.size for part in layout.parts])
        return np.concatenate([s + model(part, keep) for s, part in zip(starts, layout.parts, strict=False)])
    grid = positions.reshape([part.size for part in layout.parts])
    return grid[np.ix_(*(model(part, keep) for part in layout.parts))].ravel()


def test_a_product_is_row_major():
    h, d = leaf(3), leaf(4)
    assert product([h, d]).size == 12
    np.testing.assert_array_equal(kept(product([h, d]), {h: np.array([0, 2])}), [0, 1, 2, 3, 8, 9, 10, 11])
    np.testing.assert_array_equal(kept(product([h, d]), {d: np.array([1])}), [1, 5, 9])
    np.testing.assert_array_equal(owners(product([h, d]), h), np.repeat([0, 1, 2], 4))
    np.testing.assert_array_equal(owners(product([h, d]), d), np.tile([0, 1, 2, 3], 3))


def test_a_sum_is_a_concatenation():
    a, b = leaf(3), leaf(2)
    axis = concatenation([a, b, a])
    assert axis.size == 8
    np.testing.assert_array_equal(kept(axis, {a: np.array([1]), b: np.array([0])}), [1, 3, 6])
    np.testing.assert_array_equal(owners(axis, a), [0, 1, 2, -1, -1, 0, 1, 2])
    np.testing.assert_array_equal(owners(axis, b), [-1, -1, -1, 0, 1, -1, -1, -1])


def test_packed_heads():
    """[3 (h d)]: q, k and v of the heads that stay, each with the dimensions that stay."""
    h, d = leaf(2), leaf(3)
    axis = concatenation([product([h, d])] * 3)
    np.testing.assert_array_equal(kept(axis, {h: np.array([1]), d: np.array([0, 2])}), [3, 5, 9, 11, 15, 17])
    assert length(axis, {h: 1, d: 2}) == 6


def test_kept_takes_positions_in_any_order():
    h, d = leaf(2), leaf(3)
    np.testing.assert_array_equal(kept(product([h, d]), {h: np.array([1, 0])}), [3, 4, 5, 0, 1, 2])


def test_units_vanish_and_nesting_flattens():
    a, b, c = leaf(2), leaf(3), leaf(5)
    assert leaf(1).kind is Kind.PRODUCT
    assert leaf(1).parts == ()
    assert product([a, leaf(1)]) is a
    assert product([product([a, b]), c]).parts == (a, b, c)
    assert concatenation([concatenation([a, b]), c]).parts == (a, b, c)
    assert concatenation([a, leaf(0)]) is a
    assert list(leaves(concatenation([product([a, b]), a]))) == [a, b, a]


def test_a_length_known_only_at_run_time():
    batch, h = leaf(None), leaf(4)
    axis = product([batch, h])
    assert axis.size is None
    assert length(axis, {h: 2}) is None
    with pytest.raises(ValueError, match=r"\(\? 4\) has a length known only at run time"):
        kept(axis, {h: np.array([0])})


def test_a_size_that_is_learnt_later_is_seen():
    batch, h = leaf(None), leaf(4)
    axis = product([batch, h])
    batch.forward = leaf(3)
    assert axis.size == 12
    assert find(batch).size == 3


def test_render():
    h, d, b = leaf(12), leaf(64), leaf(None)
    axis = concatenation([product([h, d]), leaf(8)])
    assert render(axis) == "[(12 64) + 8]"
    assert render(axis, {h: "heads"}) == "[(heads:12 64) + 8]"
    assert repr(product([b, h])) == "(? 12)"
    assert render(leaf(1)) == "1"


def test_a_factor_that_is_nested_in_itself_is_found():
    a, b = leaf(3), leaf(2)
    assert nested_twice(product([a, b, a])) == {a}
    assert nested_twice(product([concatenation([a, b]), a])) == {a}
    assert nested_twice(concatenation([a, product([a, b])])) == set()


@given(st.data(), layouts())
def test_kept_agrees_with_numpy(data, layout):
    keep = data.draw(keeps(layout))
    expected = model(layout, keep)
    np.testing.assert_array_equal(kept(layout, keep), expected)
    assert length(layout, {factor: len(positions) for factor, positions in keep.items()}) == len(expected)


@given(layouts())
def test_each_position_belongs_to_what_keeps_it(layout):
    """A position stays exactly when each of its owners does."""
    for factor in set(leaves(layout)) - nested_twice(layout):
        owner = owners(layout, factor)
        assert owner.shape == (layout.size,)
        for component in range(factor.size):
            others = np.delete(np.arange(factor.size), component)
            lost = np.setdiff1d(np.arange(layout.size), kept(layout, {factor: others}))
            np.testing.assert_array_equal(lost, np.flatnonzero(owner == component))


@given(layouts())
def test_a_component_comes_in_whole_runs(layout):
    for factor in set(leaves(layout)) - nested_twice(layout):
        owner, run = owners(layout, factor), run_length(layout, factor)
        ends = np.flatnonzero(np.diff(owner, prepend=-2, append=-2))
        lengths = np.diff(ends)[owner[ends[:-1]] >= 0]
        assert run >= 1
        assert not (lengths % run).any()
    assert run_length(layout, leaf(2)) == 0


def test_a_head_comes_in_runs_of_its_dimensions():
    h, d, c = leaf(12), leaf(64), leaf(96)
    packed = concatenation([product([h, d])] * 3)
    assert (run_length(packed, h), run_length(packed, d), run_length(packed, c)) == (64, 1, 0)
    assert run_length(concatenation([product([h, d]), product([h, c])]), h) == 32
