"""What it means for two axes to be the same: making layouts equal, as a type checker unifies terms (Robinson, 1965).

A leaf becomes whatever it meets, everywhere it appears; sums are cut at each other's boundaries; products are aligned
from the innermost factor. Where there is no common refinement :class:`Clash` says why, and the caller pins both sides.
"""

from __future__ import annotations

from modhifi_graph.axes.layout import (
    Kind,
    Layout,
    concatenation,
    extent,
    factors,
    find,
    leaf,
    leaves,
    product,
    render,
    terms,
)


class Clash(Exception):
    """Two layouts have no common refinement."""


def unify(a: Layout, b: Layout) -> None:
    """Make ``a`` and ``b`` the same layout; raises :class:`Clash` where they cannot be."""
    a, b = find(a), find(b)
    if a is b:
        return
    if a.size is not None and b.size is not None and a.size != b.size:
        raise Clash(f"lengths {a.size} and {b.size} differ")
    if a.size is None and b.size is not None:
        a = _resolve(a, b.size)
    elif b.size is None and a.size is not None:
        b = _resolve(b, a.size)
    if a.kind is Kind.LEAF:
        _become(a, b)
    elif b.kind is Kind.LEAF:
        _become(b, a)
    elif a.kind is Kind.SUM or b.kind is Kind.SUM:
        _unify_sums(a, b)
    else:
        _unify_products(a, b)


def _resolve(layout: Layout, size: int) -> Layout:
    """Learn the one unknown length in ``layout`` from its whole ``size``; :class:`Clash` where several are unknown."""
    layout = find(layout)
    if layout.kind is Kind.LEAF:
        layout.forward = leaf(size)
        return layout.forward
    unknown = [part for part in layout.parts if part.size is None]
    known = extent(layout.kind, [part for part in layout.parts if part.size is not None])
    assert known is not None
    rest, remainder = divmod(size, known) if layout.kind is Kind.PRODUCT else (size - known, 0)
    if len(unknown) != 1 or remainder or rest < 1:
        raise Clash("a nested length is known only at run time")
    _resolve(unknown[0], rest)
    return find(product([layout]) if layout.kind is Kind.PRODUCT else concatenation([layout]))


def _become(a: Layout, b: Layout) -> None:
    if any(a is other for other in leaves(b)):
        raise Clash("a factor would have to contain itself")
    a.forward = b


def _unify_sums(a: Layout, b: Layout) -> None:
    left, right = list(terms([a])), list(terms([b]))
    while left and right:
        x, y = find(left.pop(0)), find(right.pop(0))
        m, n = x.size, y.size
        if m is None or n is None:
            raise Clash("a concatenated length is known only at run time")
        if m > n:
            x, rest = cut(x, n)
            left.insert(0, rest)
        elif n > m:
            y, rest = cut(y, m)
            right.insert(0, rest)
        unify(x, y)


def cut(layout: Layout, at: int) -> tuple[Layout, Layout]:
    """The first ``at`` positions and the others, refining factors so that both are layouts (0 < at < size)."""
    layout = find(layout)
    if layout.size is None or not 0 < at < layout.size:
        raise Clash(f"cannot cut an axis of length {layout.size or '?'} at {at}")
    if layout.kind is Kind.LEAF:
        first, second = leaf(at), leaf(layout.size - at)
        layout.forward = concatenation([first, second])
        return first, second
    if layout.kind is Kind.SUM:
        return _cut_sum(layout, at)
    outer, inner = layout.parts[0], product(layout.parts[1:])
    assert inner.size is not None
    whole, inside = divmod(at, inner.size)
    if not inside:
        first, second = cut(outer, whole)
        return product([first, inner]), product([second, inner])
    return _cut_inside_element(outer, inner, whole, inside)


def _cut_sum(layout: Layout, at: int) -> tuple[Layout, Layout]:
    before: list[Layout] = []
    parts = list(layout.parts)
    while parts:
        part = find(parts.pop(0))
        size = part.size or 0
        if at < size:
            if at:
                first, part = cut(part, at)
                before.append(first)
            return concatenation(before), concatenation([part, *parts])
        before.append(part)
        at -= size
    raise AssertionError("a cut lies inside its axis")


def _cut_inside_element(outer: Layout, inner: Layout, whole: int, inside: int) -> tuple[Layout, Layout]:
    """Cut ``(outer inner)`` within its element number ``whole``: it is split off and cut by itself."""
    first, second = cut(inner, inside)
    assert outer.size is not None
    before, rest = cut(outer, whole) if whole else (None, outer)
    _, after = cut(rest, 1) if outer.size - whole > 1 else (rest, None)
    left = ([product([before, inner])] if before is not None else []) + [first]
    right = [second] + ([product([after, inner])] if after is not None else [])
    return concatenation(left), concatenation(right)


def _unify_products(a: Layout, b: Layout) -> None:
    """Align from the innermost factor, from the outermost where a length is unknown, until one side is one factor."""
    left, right = list(factors([a])), list(factors([b]))
    while left and right:
        if left[-1].size is not None and right[-1].size is not None:
            _align_inner(left, right, a, b)
        elif left[0] is right[0] or (left[0].size == right[0].size and left[0].size is not None):
            unify(left.pop(0), right.pop(0))
        elif len(left) == 1 or len(right) == 1:
            unify(product(left), product(right))
            return
        else:
            raise Clash("a nested length is known only at run time")
        left, right = list(factors(left)), list(factors(right))
    if any(rest.size != 1 for rest in left + right):
        raise Clash(f"{render(a)} and {render(b)} nest differently")


def _align_inner(left: list[Layout], right: list[Layout], a: Layout, b: Layout) -> None:
    x, y = left.pop(), right.pop()
    m, n = x.size or 0, y.size or 0
    if not m or not n or max(m, n) % min(m, n):
        raise Clash(f"{render(a)} and {render(b)} nest differently")
    if m > n:
        rest, x = split_inner(x, n)
        left.append(rest)
    elif n > m:
        rest, y = split_inner(y, m)
        right.append(rest)
    unify(x, y)


def split_inner(layout: Layout, size: int) -> tuple[Layout, Layout]:
    """Write ``layout`` as ``(rest inner)`` with an inner factor of ``size`` positions."""
    layout = find(layout)
    if layout.size is None or layout.size % size:
        raise Clash(f"an axis of length {layout.size} has no inner factor of {size}")
    if layout.size == size:
        return product(()), layout
    if layout.kind is Kind.LEAF:
        rest, inner = leaf(layout.size // size), leaf(size)
        layout.forward = product([rest, inner])
        return rest, inner
    if layout.kind is Kind.SUM:
        return _split_sum(layout, size)
    *outer, last = layout.parts
    last = find(last)
    assert last.size is not None
    if size % last.size == 0:
        rest, inner = split_inner(product(outer), size // last.size)
        return rest, product([inner, last])
    rest, inner = split_inner(last, size)
    return product([*outer, rest]), inner


def _split_sum(layout: Layout, size: int) -> tuple[Layout, Layout]:
    rests, inners = zip(*(split_inner(part, size) for part in layout.parts), strict=True)
    for inner in inners[1:]:
        unify(inners[0], inner)
    return concatenation(rests), inners[0]
