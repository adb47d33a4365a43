"""The axis algebra: what an axis of a tensor is made of, and what it means for two axes to be the same.

An axis has a *layout*, a tree over *factors*:

- a **leaf** is a factor of ``size`` positions, not yet known to be made of anything smaller;
- a **product** ``(h d)`` is row-major nesting, outermost factor first: 768 = (12 64);
- a **sum** ``[a + b]`` is concatenation: 2304 = [q + k + v].

:func:`unify` makes two layouts equal, as a type checker unifies terms (Robinson, 1965): a leaf becomes whatever it meets,
everywhere it appears; sums are cut at each other's boundaries; products are aligned from the innermost factor. Where there
is no common refinement :class:`Clash` says why, and the caller pins both sides.

The empty product is the axis of length one. A ``size`` of None is a length known only at run time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum

import numpy as np


class Kind(Enum):
    LEAF = "leaf"
    PRODUCT = "product"
    SUM = "sum"


class Clash(Exception):
    """Two layouts have no common refinement."""


class Layout:
    """A node of a layout tree. Leaves are identities: two leaves are the same factor only if they are one object.

    ``forward`` is the union-find link: a leaf that has become something else points at it. Always look through
    :func:`find` before reading ``kind`` or ``parts``.
    """

    __slots__ = ("_size", "forward", "kind", "parts")

    def __init__(self, kind: Kind, size: int | None, parts: tuple[Layout, ...] = ()) -> None:
        self.kind = kind
        self.parts = parts
        self.forward: Layout | None = None
        self._size = size

    @property
    def size(self) -> int | None:
        """Number of positions, or None while some factor's length is unknown (it may become known later)."""
        if self._size is None and (self.forward or self.parts):
            self._size = self.forward.size if self.forward else _extent(self.kind, self.parts)
        return self._size

    def __repr__(self) -> str:
        return render(self)


def leaf(size: int | None) -> Layout:
    """A fresh factor of ``size`` positions; the unit layout where that is one."""
    return product(()) if size == 1 else Layout(Kind.LEAF, size)


def product(parts: Iterable[Layout]) -> Layout:
    """Row-major nesting, outermost first. Nested products flatten, units vanish, a single factor is itself."""
    flat = tuple(_factors(parts))
    if len(flat) == 1:
        return flat[0]
    return Layout(Kind.PRODUCT, _extent(Kind.PRODUCT, flat), flat)


def concatenation(parts: Iterable[Layout]) -> Layout:
    """Concatenation, first part first. Nested sums flatten, empty parts vanish, a single part is itself."""
    flat = tuple(part for part in _terms(parts) if part.size != 0)
    if len(flat) == 1:
        return flat[0]
    return Layout(Kind.SUM, _extent(Kind.SUM, flat), flat)


def _extent(kind: Kind, parts: Sequence[Layout]) -> int | None:
    sizes = [part.size for part in parts]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return None
    return math.prod(known) if kind is Kind.PRODUCT else sum(known)


def _factors(parts: Iterable[Layout]) -> Iterator[Layout]:
    for part in map(find, parts):
        if part.kind is Kind.PRODUCT:
            yield from _factors(part.parts)
        else:
            yield part


def _terms(parts: Iterable[Layout]) -> Iterator[Layout]:
    for part in map(find, parts):
        if part.kind is Kind.SUM:
            yield from _terms(part.parts)
        else:
            yield part


def find(layout: Layout) -> Layout:
    """What ``layout`` stands for now, with path compression."""
    root = layout
    while root.forward is not None:
        root = root.forward
    while layout.forward is not None:
        layout.forward, layout = root, layout.forward
    return root


def leaves(layout: Layout) -> Iterator[Layout]:
    """Every leaf occurrence under ``layout``, left to right (a leaf that occurs twice is yielded twice)."""
    stack = [layout]
    while stack:
        node = find(stack.pop())
        if node.kind is Kind.LEAF:
            yield node
        else:
            stack.extend(reversed(node.parts))


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
    known = _extent(layout.kind, [part for part in layout.parts if part.size is not None])
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
    left, right = list(_terms([a])), list(_terms([b]))
    while left and right:
        x, y = find(left.pop(0)), find(right.pop(0))
        if x.size is None or y.size is None:
            raise Clash("a concatenated length is known only at run time")
        if x.size > y.size:
            x, rest = cut(x, y.size)
            left.insert(0, rest)
        elif y.size > x.size:
            y, rest = cut(y, x.size)
            right.insert(0, rest)
        unify(x, y)


def cut(layout: Layout, at: int) -> tuple[Layout, Layout]:
    """The first ``at`` positions and the others, refining factors so that both are layouts (0 < at < size)."""
    layout = find(layout)
    if layout.size is None or not 0 < at < layout.size:
        raise Clash(f"cannot cut an axis of length {layout.size} at {at}")
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
        assert part.size is not None
        if at < part.size:
            if at:
                first, part = cut(part, at)
                before.append(first)
            return concatenation(before), concatenation([part, *parts])
        before.append(part)
        at -= part.size
    raise AssertionError("a cut lies inside its axis")


def _cut_inside_element(outer: Layout, inner: Layout, whole: int, inside: int) -> tuple[Layout, Layout]:
    """Cut ``(outer inner)`` within its element number ``whole``: that element is split off and cut by itself."""
    first, second = cut(inner, inside)
    assert outer.size is not None
    before, rest = cut(outer, whole) if whole else (None, outer)
    _, after = cut(rest, 1) if outer.size - whole > 1 else (rest, None)
    left = ([product([before, inner])] if before is not None else []) + [first]
    right = [second] + ([product([after, inner])] if after is not None else [])
    return concatenation(left), concatenation(right)


def _unify_products(a: Layout, b: Layout) -> None:
    """Align from the innermost factor, from the outermost where a length is unknown; one factor may be all that is left."""
    left, right = list(_factors([a])), list(_factors([b]))
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
        left, right = list(_factors(left)), list(_factors(right))
    if any(rest.size != 1 for rest in left + right):
        raise Clash(f"{render(a)} and {render(b)} nest differently")


def _align_inner(left: list[Layout], right: list[Layout], a: Layout, b: Layout) -> None:
    x, y = left.pop(), right.pop()
    assert x.size is not None and y.size is not None
    if max(x.size, y.size) % min(x.size, y.size):
        raise Clash(f"{render(a)} and {render(b)} nest differently")
    if x.size > y.size:
        rest, x = split_inner(x, y.size)
        left.append(rest)
    elif y.size > x.size:
        rest, y = split_inner(y, x.size)
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


def kept(layout: Layout, keep: Mapping[Layout, np.ndarray]) -> np.ndarray:
    """The positions of an axis that survive, in order.

    ``keep`` maps a leaf to the sorted positions of it that stay; a leaf it does not name stays whole.
    """
    layout = find(layout)
    if layout.kind is Kind.LEAF:
        return keep[layout] if layout in keep else np.arange(layout.size or 0)
    if layout.kind is Kind.SUM:
        start, pieces = 0, []
        for part in layout.parts:
            pieces.append(start + kept(part, keep))
            start += find(part).size or 0
        return np.concatenate(pieces)
    positions = np.zeros(1, dtype=np.int64)
    for part in layout.parts:
        positions = (positions[:, None] * (find(part).size or 0) + kept(part, keep)).ravel()
    return positions


def owners(layout: Layout, factor: Layout) -> np.ndarray:
    """For each position of an axis, the position within ``factor`` it belongs to, or -1 where it belongs to none.

    A factor that is nested in itself owns nothing unambiguously; layouts never nest a factor in itself.
    """
    layout = find(layout)
    if layout.kind is Kind.LEAF:
        return np.arange(layout.size) if layout is factor else np.full(layout.size or 0, -1)
    if layout.kind is Kind.SUM:
        return np.concatenate([owners(part, factor) for part in layout.parts])
    result = np.full(1, -1)
    for part in layout.parts:
        inner = owners(part, factor)
        result = np.where(inner[None, :] >= 0, inner[None, :], result[:, None]).ravel()
    return result


def length(layout: Layout, counts: Mapping[Layout, int]) -> int | None:
    """The length of an axis when every leaf in ``counts`` has that many positions left; None if known only at run time."""
    layout = find(layout)
    if layout.kind is Kind.LEAF:
        return counts.get(layout, layout.size)
    lengths = [length(part, counts) for part in layout.parts]
    known = [n for n in lengths if n is not None]
    if len(known) < len(lengths):
        return None
    return sum(known) if layout.kind is Kind.SUM else math.prod(known)


def render(layout: Layout, names: Mapping[Layout, str] | None = None) -> str:
    """The layout in the notation of the rules: ``[(12 64) + 8]``; ``names`` labels leaves."""
    layout = find(layout)
    if layout.kind is Kind.LEAF:
        label = (names or {}).get(layout)
        return f"{label}:{layout.size}" if label else str(layout.size if layout.size is not None else "?")
    inner: Sequence[str] = [render(part, names) for part in layout.parts]
    if layout.kind is Kind.SUM:
        return "[" + " + ".join(inner) + "]"
    return "(" + " ".join(inner) + ")" if inner else "1"
