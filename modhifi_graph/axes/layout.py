"""The axis algebra: what an axis of a tensor is made of.

An axis has a *layout*, a tree over *factors*:

- a **leaf** is a factor of ``size`` positions, not yet known to be made of anything smaller;
- a **product** ``(h d)`` is row-major nesting, outermost factor first: 768 = (12 64);
- a **sum** ``[a + b]`` is concatenation: 2304 = [q + k + v].

The empty product is the axis of length one. A ``size`` of None is a length known only at run time. What it means for
two axes to be the same is in :mod:`modhifi_graph.axes.unify`.
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
            self._size = self.forward.size if self.forward else extent(self.kind, self.parts)
        return self._size

    def __repr__(self) -> str:
        return render(self)


def leaf(size: int | None) -> Layout:
    """A fresh factor of ``size`` positions; the unit layout where that is one."""
    return product(()) if size == 1 else Layout(Kind.LEAF, size)


def product(parts: Iterable[Layout]) -> Layout:
    """Row-major nesting, outermost first. Nested products flatten, units vanish, a single factor is itself."""
    flat = tuple(factors(parts))
    if len(flat) == 1:
        return flat[0]
    return Layout(Kind.PRODUCT, extent(Kind.PRODUCT, flat), flat)


def concatenation(parts: Iterable[Layout]) -> Layout:
    """Concatenation, first part first. Nested sums flatten, empty parts vanish, a single part is itself."""
    flat = tuple(part for part in terms(parts) if part.size != 0)
    if len(flat) == 1:
        return flat[0]
    return Layout(Kind.SUM, extent(Kind.SUM, flat), flat)


def extent(kind: Kind, parts: Sequence[Layout]) -> int | None:
    """The size of a product or sum of ``parts``; None while one of theirs is unknown."""
    sizes = [part.size for part in parts]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return None
    return math.prod(known) if kind is Kind.PRODUCT else sum(known)


def factors(parts: Iterable[Layout]) -> Iterator[Layout]:
    """The factors of the product of ``parts``, with nested products flattened."""
    for part in map(find, parts):
        if part.kind is Kind.PRODUCT:
            yield from factors(part.parts)
        else:
            yield part


def terms(parts: Iterable[Layout]) -> Iterator[Layout]:
    """The parts of the concatenation of ``parts``, with nested sums flattened."""
    for part in map(find, parts):
        if part.kind is Kind.SUM:
            yield from terms(part.parts)
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


def nested_twice(layout: Layout) -> set[Layout]:
    """Leaves that occur in two factors of one product (``(c c)``, an outer product): no position has one component."""
    layout = find(layout)
    found: set[Layout] = set()
    seen: set[Layout] = set()
    for part in layout.parts:
        found |= nested_twice(part)
        inside = set(leaves(part)) if layout.kind is Kind.PRODUCT else set()
        found |= inside & seen
        seen |= inside
    return found


def kept(layout: Layout, keep: Mapping[Layout, np.ndarray]) -> np.ndarray:
    """The positions of an axis that survive, in order.

    ``keep`` maps a leaf to the positions of it that stay, in the order they are to have; a leaf it does not name stays
    whole. ValueError where the axis has a length known only at run time.
    """
    layout = find(layout)
    size = layout.size
    if size is None:
        raise ValueError(f"{render(layout)} has a length known only at run time")
    if layout.kind is Kind.LEAF:
        return keep[layout] if layout in keep else np.arange(size)
    if layout.kind is Kind.SUM:
        starts = np.cumsum([0, *(part.size or 0 for part in layout.parts)])
        return np.concatenate([start + kept(part, keep) for start, part in zip(starts, layout.parts, strict=False)])
    positions = np.zeros(1, dtype=np.int64)
    for part in layout.parts:
        positions = (positions[:, None] * (part.size or 0) + kept(part, keep)).ravel()
    return positions


def owners(layout: Layout, factor: Layout) -> np.ndarray:
    """For each position of an axis, the position within ``factor`` it belongs to, or -1 where it belongs to none.

    A factor that is nested in itself (:func:`nested_twice`) owns nothing unambiguously, and is never a group.
    """
    layout = find(layout)
    if layout.kind is Kind.LEAF:
        return np.arange(layout.size or 0) if layout is factor else np.full(layout.size or 0, -1)
    if layout.kind is Kind.SUM:
        return np.concatenate([owners(part, factor) for part in layout.parts])
    result = np.full(1, -1)
    for part in layout.parts:
        inner = owners(part, factor)
        result = np.where(inner[None, :] >= 0, inner[None, :], result[:, None]).ravel()
    return result


def run_length(layout: Layout, factor: Layout) -> int:
    """How many neighbouring positions of an axis belong to one of ``factor`` (in a sum: a divisor of all); 0 for none."""
    layout = find(layout)
    if layout.kind is Kind.LEAF:
        return int(layout is factor)
    if layout.kind is Kind.SUM:
        return math.gcd(*(run_length(part, factor) for part in layout.parts))
    found = 0
    for part in layout.parts:
        found = run_length(part, factor) or found * (part.size or 0)
    return found


def length(layout: Layout, counts: Mapping[Layout, int]) -> int | None:
    """The length of an axis when every leaf in ``counts`` has that many positions left; None where that is open."""
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
    if layout.kind is Kind.SUM:
        return "[" + " + ".join(render(part, names) for part in terms([layout])) + "]"
    inner = [render(part, names) for part in factors([layout]) if part.size != 1]
    return "(" + " ".join(inner) + ")" if len(inner) > 1 else inner[0] if inner else "1"
