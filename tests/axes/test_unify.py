"""What it means for two axes to be the same."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modhifi_graph.axes.layout import Layout, concatenation, find, kept, leaf, leaves, product, render
from modhifi_graph.axes.unify import Clash, cut, split_inner, unify

from .trees import SIZES, keeps, layouts


def both(a: Layout, b: Layout) -> str:
    """Unify, and what the two are then."""
    unify(a, b)
    assert render(a) == render(b)
    assert list(leaves(a)) == list(leaves(b))
    return render(a)


def test_a_leaf_becomes_what_it_meets_everywhere():
    channels = leaf(12)
    elsewhere = concatenation([channels, leaf(5)])
    assert both(channels, product([leaf(3), leaf(4)])) == "(3 4)"
    assert render(elsewhere) == "[(3 4) + 5]"


def test_sums_are_cut_at_each_others_boundaries():
    assert both(concatenation([leaf(4), leaf(6)]), concatenation([leaf(7), leaf(3)])) == "[4 + 3 + 3]"


def test_a_repeated_part_is_cut_wherever_it_occurs():
    half = leaf(4)
    assert both(concatenation([half, half]), concatenation([leaf(1), leaf(3), leaf(4)])) == "[1 + 3 + 1 + 3]"


def test_products_align_from_the_innermost_factor():
    assert both(product([leaf(6), leaf(4)]), product([leaf(3), leaf(8)])) == "(3 2 4)"


def test_two_shuffles_of_a_concatenation_have_a_common_refinement():
    """Reading (2 4) as (4 2), on a concatenation of two halves."""
    first, second, outer, inner = leaf(4), leaf(4), leaf(2), leaf(4)
    unify(concatenation([first, second]), product([outer, inner]))
    assert render(outer) == "[1 + 1]"
    assert find(first) is find(second) is find(inner)


def test_a_cut_inside_an_element_splits_it_off():
    first, second = cut(product([leaf(3), leaf(4)]), 6)
    assert (render(first), render(second)) == ("[2 + 2 + 2]", "[2 + 2 + 2]")
    assert list(leaves(first))[:2] == list(leaves(second))[1:]


def test_a_cut_between_elements_cuts_the_outer_factor():
    outer, inner = leaf(5), leaf(4)
    first, second = cut(product([outer, inner]), 8)
    assert (render(first), render(second)) == ("(2 4)", "(3 4)")
    assert render(outer) == "[2 + 3]"


@pytest.mark.parametrize("at", [0, 6, 7, -1])
def test_a_cut_lies_inside(at):
    with pytest.raises(Clash, match=f"cannot cut an axis of length 6 at {at}"):
        cut(leaf(6), at)


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        (lambda: leaf(6), lambda: leaf(8), "lengths 6 and 8 differ"),
        (lambda: product([leaf(4), leaf(6)]), lambda: product([leaf(6), leaf(4)]), "nest differently"),
        (lambda: product([leaf(None), leaf(4)]), lambda: leaf(6), "known only at run time"),
        (lambda: product([leaf(None), leaf(None)]), lambda: leaf(6), "known only at run time"),
        (lambda: concatenation([leaf(None), leaf(4)]), lambda: concatenation([leaf(None), leaf(3)]), "at run time"),
    ],
)
def test_what_has_no_common_refinement_says_why(a, b, reason):
    with pytest.raises(Clash, match=reason):
        unify(a(), b())


def test_a_factor_never_contains_itself():
    inner = leaf(None)
    with pytest.raises(Clash, match="contain itself"):
        unify(inner, product([inner, leaf(None)]))


def test_one_unknown_length_is_learnt():
    batch = leaf(None)
    assert both(product([batch, leaf(4)]), leaf(12)) == "(3 4)"
    assert find(batch).size == 3


def test_an_open_length_stays_open_and_the_rest_aligns():
    """(batch, 12 * 64) read as (batch * 12, 64)."""
    batch, channels = leaf(None), leaf(768)
    assert both(product([batch, channels]), product([leaf(None), leaf(64)])) == "(? 12 64)"
    assert render(channels) == "(12 64)"


def test_a_group_count_splits_off_an_inner_factor():
    axis = leaf(12)
    rest, inner = split_inner(axis, 4)
    assert (render(rest), render(inner), render(axis)) == ("3", "4", "(3 4)")
    rest, inner = split_inner(concatenation([leaf(8), leaf(4)]), 4)
    assert (render(rest), render(inner)) == ("[2 + 1]", "4")
    with pytest.raises(Clash, match="no inner factor of 5"):
        split_inner(leaf(12), 5)


@settings(max_examples=300)
@given(st.data(), st.sampled_from(SIZES))
def test_after_unification_two_axes_keep_the_same_positions(data, size):
    a, b = data.draw(layouts(size)), data.draw(layouts(size))
    try:
        unify(a, b)
    except Clash:
        return
    keep = data.draw(keeps(a, b))
    np.testing.assert_array_equal(kept(a, keep), kept(b, keep))


@settings(max_examples=300)
@given(st.data(), st.sampled_from(SIZES))
def test_unification_refines_and_never_moves_a_position(data, size):
    """Whatever else the parts of a layout become, with all components kept every position stays where it was."""
    a, b = data.draw(layouts(size)), data.draw(layouts(size))
    bystander = concatenation([a, leaf(5), b])
    with contextlib.suppress(Clash):
        unify(a, b)
    for axis, total in ((a, size), (b, size), (bystander, 2 * size + 5)):
        np.testing.assert_array_equal(kept(axis, {}), np.arange(total))


@settings(max_examples=300)
@given(st.tuples(st.integers(0, 1 << 32), st.integers(0, 1 << 32)), st.sampled_from(SIZES))
def test_unification_is_symmetric_in_effect(seeds, size):
    """Two pairs of the same trees, unified in one order and in the other, end alike."""
    outcomes = []
    for order in (1, -1):
        a, b = (rebuild(seed, size) for seed in seeds)
        try:
            unify(*(a, b)[::order])
            outcomes.append((render(a), render(b)))
        except Clash:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]


def rebuild(seed: int, size: int) -> Layout:
    """The same random tree, of fresh leaves, for the same seed."""
    generator = np.random.default_rng(seed)

    def grow(size: int, depth: int) -> Layout:
        kind = generator.integers(3) if depth else 0
        divisors = [n for n in range(2, size) if size % n == 0]
        if kind == 1 and divisors:
            outer = int(generator.choice(divisors))
            return product([grow(outer, depth - 1), grow(size // outer, depth - 1)])
        if kind == 2 and size > 1:
            first = int(generator.integers(1, size))
            return concatenation([grow(first, depth - 1), grow(size - first, depth - 1)])
        return leaf(size)

    return grow(size, 3)


@settings(max_examples=300)
@given(st.data(), layouts())
def test_a_cut_is_a_concatenation(data, layout):
    if layout.size < 2:
        return
    at = data.draw(st.integers(1, layout.size - 1))
    first, second = cut(layout, at)
    assert (first.size, second.size) == (at, layout.size - at)
    keep = data.draw(keeps(layout))
    np.testing.assert_array_equal(kept(layout, keep), [*kept(first, keep), *(at + kept(second, keep))])


@settings(max_examples=300)
@given(st.data(), layouts())
def test_an_inner_factor_is_the_inner_one_of_a_product(data, layout):
    size = data.draw(st.sampled_from([n for n in range(1, layout.size + 1) if layout.size % n == 0]))
    try:
        rest, inner = split_inner(layout, size)
    except Clash:
        return
    assert inner.size == size
    keep = data.draw(keeps(layout))
    np.testing.assert_array_equal(kept(layout, keep), kept(product([rest, inner]), keep))
