"""What a graph costs: multiply-accumulates of one sample and parameters, as functions of how many components are kept.

Every axis length is a polynomial in the sizes of the groups that make it up: a product of factors multiplies, a
concatenation adds. So the cost of an op is one too (the product of the axes that its rule names), and so is that of
the whole graph, with few terms: pairs of groups that meet in one weight. What removing components saves is read off
the terms that hold the group, O(groups that it meets), without looking at any op.

What counts: Conv, ConvTranspose, Gemm, MatMul and Einsum with one constant operand, once for every position known
before run time, and LSTM, GRU and RNN once (a single step). The batch counts once, and so does every length known only
at run time: the figure is for one sample, or one token.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from modhifi_graph.axes.binding import Binding
from modhifi_graph.axes.branches import Branch, live
from modhifi_graph.axes.coupling import Coupling
from modhifi_graph.axes.groups import Groups
from modhifi_graph.axes.layout import Kind, Layout, find, leaves
from modhifi_graph.graph import Graph, Op, Value

Polynomial = dict[tuple[Layout, ...], int]
"""Coefficients by monomial: a sorted tuple of factors, each as often as its power; the empty tuple is the constant."""

NOT_COUNTED = {"Conv": ("n", "s"), "ConvTranspose": ("n", "t")}
"""Names that are no loop of the op: a convolution runs over output positions, a transposed one over inputs."""

PRODUCTS = ("Gemm", "MatMul", "Einsum")
RECURRENT = {"LSTM": (1, 2), "GRU": (1, 2), "RNN": (1, 2)}
"""The slots of a recurrence's weights."""


class _Term(NamedTuple):
    """One monomial as a function of one factor: coefficient * count ** power * the product of the others.

    The others come with their sizes, which hold where no count is given.
    """

    coefficient: int
    power: int
    others: tuple[tuple[Layout, int], ...]


class Bill:
    """MACs and parameters of some ops as functions of how many components of each group are kept."""

    def __init__(self, macs: Polynomial, params: Polynomial) -> None:
        self._macs, self._params = macs, params

    def __call__(self, counts: Mapping[Layout, int]) -> tuple[int, int]:
        return evaluate(self._macs, counts), evaluate(self._params, counts)


class Cost:
    """MACs and parameters of a graph as functions of how many components of each group are kept.

    ``counts`` maps the factor of a group to the number of its components that stay; groups it leaves out are whole. The ops
    of ``removed`` branches, and what only they need, cost nothing. Building takes O(ops + pairs of groups that share a
    weight).

    Attributes
    ----------
    of_op : dict
        The multiply-accumulates of every op that has any.

    Examples
    --------
    >>> cost = Cost(groups)                                          # doctest: +SKIP
    >>> cost.macs(), cost.macs({group.factor: 8})                    # doctest: +SKIP
    >>> macs, params = cost.saving(group.factor, {group.factor: 8})  # doctest: +SKIP
    """

    def __init__(self, groups: Groups, removed: Collection[Branch] = ()) -> None:
        self._groups, self._removed = groups, tuple(removed)
        self._prunable = {group.factor for group in groups.groups}
        self._rank = {group.factor: i for i, group in enumerate(groups.groups)}
        self._lengths: dict[Layout, Polynomial] = {}
        self._batch = _batch_factors(groups.coupling)
        coupling = groups.coupling
        weights = _constants(coupling.graph)
        self._left = live(coupling.graph, removed) if removed else set(coupling.graph.ops)
        self.of_op: dict[Op, Polynomial] = {}
        for op in coupling.graph.ops:
            if op in self._left and (polynomial := self._op(coupling, op, weights)):
                self.of_op[op] = polynomial
        self._macs, self._params = total(self.of_op.values()), self._constants(self._left)
        self._terms = {factor: (_terms(self._macs, factor), _terms(self._params, factor)) for factor in self._prunable}

    def macs(self, counts: Mapping[Layout, int] | None = None) -> int:
        """Multiply-accumulates of one sample."""
        return evaluate(self._macs, counts or {})

    def params(self, counts: Mapping[Layout, int] | None = None) -> int:
        """Elements of all constants; one that several ops read counts once."""
        return evaluate(self._params, counts or {})

    def total(self, counts: Mapping[Layout, int] | None = None) -> tuple[int, int]:
        """Both."""
        return self.macs(counts), self.params(counts)

    def saving(self, factor: Layout, counts: Mapping[Layout, int], by: int = 1) -> tuple[int, int]:
        """MACs and parameters saved by removing ``by`` more components of one group from what ``counts`` keeps."""
        now = counts.get(factor, _size(factor))
        macs, params = self._terms[factor]
        return _difference(macs, counts, now, now - by), _difference(params, counts, now, now - by)

    def without(self, branch: Branch) -> Cost:
        """What is left once one more branch is gone."""
        return Cost(self._groups, (*self._removed, branch))

    def bill(self, branch: Branch) -> Bill:
        """What removing one more branch saves, whatever is kept elsewhere."""
        left = live(self._groups.coupling.graph, (*self._removed, branch))
        macs = total(polynomial for op, polynomial in self.of_op.items() if op not in left)
        return Bill(macs, _less(self._params, self._constants(left)))

    def uses(self, factor: Layout) -> bool:
        """Whether any component of a group is still counted: its parameters have not all gone with branches."""
        return any(self._terms[factor])

    def operand(self, op: Op, slot: int) -> Polynomial:
        """The elements of one operand of an op."""
        return self._size(self._groups.coupling, op, slot)

    def elements(self, value: Value) -> Polynomial:
        """The elements of an activation, for one sample."""
        result: Polynomial = {(): 1}
        for layout in self._groups.coupling.axes(value) or ():
            result = self._times(result, self._positions(layout))
        return result

    def governed(self, factor: Layout) -> int:
        """Multiply-accumulates, with everything whole, of the ops in which a factor takes part."""
        ops = (p for p in self.of_op.values() if any(factor in monomial for monomial in p))
        return sum(evaluate(polynomial, {}) for polynomial in ops)

    def _constants(self, left: Collection[Op]) -> Polynomial:
        """The elements of all constants that some ops read."""
        coupling = self._groups.coupling
        return total(self._size(coupling, op, slot) for op, slot in _first_uses(coupling.graph, left))

    def _op(self, coupling: Coupling, op: Op, weights: set[Value]) -> Polynomial | None:
        """None for an op that has no multiply-accumulates, or none with a constant."""
        constant = [slot for slot, value in enumerate(op.inputs) if value in weights]
        if op.domain or not constant:
            return None
        if op.kind in RECURRENT:
            return total(self._size(coupling, op, slot) for slot in RECURRENT[op.kind] if slot in constant)
        if op.kind in PRODUCTS:
            slot = next((slot for slot in constant if slot < 2), None)
        else:
            slot = 1 if op.kind in NOT_COUNTED and 1 in constant else None
        if slot is None or all(value in weights for value in op.inputs if value is not None):
            return None
        binding = coupling.bindings.get(op)
        if binding is None:
            return self._size(coupling, op, slot)
        return self._loops(binding, op, slot)

    def _loops(self, binding: Binding, op: Op, weight: int) -> Polynomial:
        """The product of the lengths of every name in the op's line."""
        skipped = NOT_COUNTED.get(op.kind, ())
        own = binding.spec.names(binding.spec.inputs[weight])
        result: Polynomial = {(): 1}
        for name, layout in binding.factors.items():
            if name not in skipped:
                result = self._times(result, self._length(layout) if name in own else self._positions(layout))
        for name, layouts in binding.runs.items():
            for layout in layouts if name not in skipped else ():
                result = self._times(result, self._positions(layout))
        return result

    def _positions(self, layout: Layout) -> Polynomial:
        """The length of an axis that no weight has, for one sample: the batch in it counts once."""
        factors = set(leaves(layout))
        if not factors & self._batch:
            return self._length(layout)
        product = find(layout)
        parts = product.parts if product.kind is Kind.PRODUCT else ()
        result: Polynomial = {(): 1}
        for part in parts:
            if not set(leaves(part)) & self._batch:
                result = self._times(result, self._length(part))
        return result

    def _size(self, coupling: Coupling, op: Op, slot: int) -> Polynomial:
        """Elements of one operand."""
        result: Polynomial = {(): 1}
        for layout in coupling.operand(op, slot) or ():
            result = self._times(result, self._length(layout))
        return result

    def _length(self, layout: Layout) -> Polynomial:
        layout = find(layout)
        if layout not in self._lengths:
            self._lengths[layout] = self._new_length(layout)
        return self._lengths[layout]

    def _new_length(self, layout: Layout) -> Polynomial:
        if layout.kind is Kind.LEAF:
            if layout in self._prunable:
                return {(layout,): 1}
            return {(): 1 if layout.size is None else layout.size}
        if layout.kind is Kind.SUM:
            return {(): 1} if layout.size is None else total(self._length(part) for part in layout.parts)
        result: Polynomial = {(): 1}
        for part in layout.parts:
            result = self._times(result, self._length(part))
        return result

    def _times(self, a: Polynomial, b: Polynomial) -> Polynomial:
        if len(b) == 1 and () in b:
            a, b = b, a
        if len(a) == 1 and () in a:
            scale = a[()]
            return b if scale == 1 else {monomial: scale * coefficient for monomial, coefficient in b.items()}
        result: dict[tuple[Layout, ...], int] = defaultdict(int)
        for left, first in a.items():
            for right, second in b.items():
                result[tuple(sorted(left + right, key=self._rank.__getitem__))] += first * second
        return dict(result)


def _batch_factors(coupling: Coupling) -> set[Layout]:
    """The factors of the first axis of every input: samples."""
    axes = [coupling.axes(value) for value in coupling.graph.inputs]
    return {factor for axis in axes if axis for factor in leaves(axis[0])}


def _constants(graph: Graph) -> set[Value]:
    """Constants and what is computed from nothing else, such as a dequantised or transposed weight."""
    constant = {value for value in graph.values() if value.is_constant}
    for op in graph.ops:
        given = [value for value in op.inputs if value is not None]
        if given and not op.captured and all(value in constant for value in given):
            constant.update(op.outputs)
    return constant


def _first_uses(graph: Graph, left: Collection[Op]) -> Iterable[tuple[Op, int]]:
    """Every constant once, as the first op that is left to read it sees it."""
    seen: set[Value] = set()
    for op in filter(left.__contains__, graph.ops):
        for slot, value in enumerate(op.inputs):
            if value is not None and value.is_constant and value not in seen:
                seen.add(value)
                yield op, slot


def total(polynomials: Iterable[Polynomial]) -> Polynomial:
    """The sum of some polynomials."""
    total: dict[tuple[Layout, ...], int] = defaultdict(int)
    for polynomial in polynomials:
        for monomial, coefficient in polynomial.items():
            total[monomial] += coefficient
    return dict(total)


def _less(whole: Polynomial, part: Polynomial) -> Polynomial:
    """The difference of two polynomials, without terms that cancel out."""
    left = {monomial: n - part.get(monomial, 0) for monomial, n in whole.items()}
    left |= {monomial: -n for monomial, n in part.items() if monomial not in whole}
    return {monomial: n for monomial, n in left.items() if n}


def evaluate(polynomial: Polynomial, counts: Mapping[Layout, int]) -> int:
    """Its value where ``counts`` are kept of the groups."""
    return sum(
        coefficient * math.prod(counts.get(factor, _size(factor)) for factor in monomial)
        for monomial, coefficient in polynomial.items()
    )


def _size(factor: Layout) -> int:
    """The size of a group's factor, which is always known."""
    assert factor.size is not None
    return factor.size


def _terms(polynomial: Polynomial, factor: Layout) -> tuple[_Term, ...]:
    found = []
    for monomial, coefficient in polynomial.items():
        if factor in monomial:
            power = Counter(monomial)[factor]
            others = tuple((other, _size(other)) for other in monomial if other is not factor)
            found.append(_Term(coefficient, power, others))
    return tuple(found)


def _difference(terms: Sequence[_Term], counts: Mapping[Layout, int], now: int, then: int) -> int:
    saved = 0
    for coefficient, power, others in terms:
        for other, size in others:
            coefficient *= counts.get(other, size)
        saved += coefficient * (now - then if power == 1 else now**power - then**power)
    return saved
