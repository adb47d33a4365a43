"""Random layouts, for the property tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from modhifi_graph.axes.layout import Layout, concatenation, leaf, leaves, product

SIZES = (1, 2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 36)


@st.composite
def layouts(draw: st.DrawFn, size: int | None = None, depth: int = 3) -> Layout:
    """An axis of ``size`` positions: a leaf, a product by its divisors, or a sum of two parts, perhaps of the same."""
    size = draw(st.sampled_from(SIZES)) if size is None else size
    kind = draw(st.sampled_from(["leaf", "product", "sum"] if depth else ["leaf"]))
    divisors = [n for n in range(2, size) if size % n == 0]
    if kind == "product" and divisors:
        outer = draw(st.sampled_from(divisors))
        return product([draw(layouts(outer, depth - 1)), draw(layouts(size // outer, depth - 1))])
    if kind == "sum" and size > 1:
        if size % 2 == 0 and draw(st.booleans()):
            half = draw(layouts(size // 2, depth - 1))
            return concatenation([half, half])
        first = draw(st.integers(1, size - 1))
        return concatenation([draw(layouts(first, depth - 1)), draw(layouts(size - first, depth - 1))])
    return leaf(size)


@st.composite
def keeps(draw: st.DrawFn, *axes: Layout) -> dict[Layout, np.ndarray]:
    """What stays of some of the leaves: at least one position, in any order."""
    found: dict[Layout, np.ndarray] = {}
    for factor in dict.fromkeys(factor for axis in axes for factor in leaves(axis)):
        assert factor.size is not None
        if draw(st.booleans()):
            chosen = st.lists(st.integers(0, factor.size - 1), min_size=1, unique=True)
            found[factor] = np.array(draw(chosen), np.int64)
    return found
