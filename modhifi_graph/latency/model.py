"""Predicts the time of an engine from the widths of its groups: the sum of its pieces, scaled to the whole.

A piece is timed at a dozen widths and between them taken for ``a + b macs + c elements``, with coefficients that are not
negative: work, memory and what it costs to start. A dozen whole engines say by what each is to be multiplied: there a piece
finds its data in the cache, or has to move it to another layout first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from modhifi_graph.axes.branches import Branch
from modhifi_graph.axes.cost import Cost, Polynomial, evaluate, total
from modhifi_graph.axes.groups import Groups
from modhifi_graph.axes.layout import Layout
from modhifi_graph.dialects.onnx import Lifted, lift
from modhifi_graph.latency.pieces import Piece, pieces
from modhifi_graph.latency.timer import Pieces, Timer, Whole
from modhifi_graph.latency.widths import configurations, mixtures, plan_of
from modhifi_graph.passes.slim import Slim
from modhifi_graph.progress import Progress, silent

Counts = Mapping[Layout, int]

DRAWN = 0.1
"""A scale that is off the common one by all of it costs as much as an engine that is off by so much."""


@dataclass(frozen=True, eq=False)
class Law:
    """What a piece takes: ``coefficients`` (a, b, c) in milliseconds for its multiply-accumulates and elements."""

    piece: Piece
    macs: Polynomial
    elements: Polynomial
    coefficients: tuple[float, float, float]

    def __call__(self, counts: Counts) -> float:
        return sum(self.terms(counts))

    def terms(self, counts: Counts) -> tuple[float, float, float]:
        """What starting, multiplying and moving take of it."""
        a, b, c = self.coefficients
        return a, b * evaluate(self.macs, counts), c * evaluate(self.elements, counts)

    @property
    def factors(self) -> set[Layout]:
        return {factor for polynomial in (self.macs, self.elements) for monomial in polynomial for factor in monomial}


class LatencyModel:
    """Milliseconds of an engine as a function of how many components of each group are kept.

    It answers what :class:`modhifi_graph.axes.cost.Cost` does of multiply-accumulates.

    Attributes
    ----------
    laws : of every piece that was timed, scaled.
    engine : how they were timed; see :meth:`modhifi_graph.exporters.backend.Engine.describe`.
    """

    def __init__(self, laws: Sequence[Law], engine: Mapping[str, object]) -> None:
        self.laws, self.engine = tuple(laws), engine
        self._of: dict[Layout, list[Law]] = {}
        for law in self.laws:
            for factor in law.factors:
                self._of.setdefault(factor, []).append(law)

    def total(self, counts: Counts | None = None) -> tuple[float]:
        """The whole engine."""
        return (sum(law(counts or {}) for law in self.laws),)

    def saving(self, factor: Layout, counts: Counts, by: int = 1) -> tuple[float]:
        """What removing ``by`` more components of one group from what ``counts`` keeps saves."""
        size = factor.size or 0
        less = {**counts, factor: counts.get(factor, size) - by}
        return (sum(law(counts) - law(less) for law in self._of.get(factor, ())),)

    def without(self, branch: Branch) -> LatencyModel:
        """What is left once a branch is gone. Work on single numbers behind it may stay; it does not count."""
        gone = set(branch.ops)
        return LatencyModel([law for law in self.laws if law.piece.ops[0] not in gone], self.engine)

    def bill(self, branch: Branch) -> Callable[[Counts], tuple[float]]:
        """What removing a branch saves, whatever is kept elsewhere."""
        gone = set(branch.ops)
        return LatencyModel([law for law in self.laws if law.piece.ops[0] in gone], self.engine).total

    def uses(self, factor: Layout) -> bool:
        """Whether the widths of a group still make a difference."""
        return factor in self._of


def measured(
    dense: Lifted,
    groups: Groups,
    feeds: Mapping[str, np.ndarray],
    timer: Timer,
    whole: Whole,
    step: int,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> LatencyModel:
    """Time the pieces of a model on ``feeds``, and the ``whole``, at the widths of :mod:`modhifi_graph.latency.widths`."""
    cost = Cost(groups)
    own = {piece.name: piece for piece in pieces(dense.graph)}
    laws = {name: _terms(piece, cost) for name, piece in own.items()}
    rows: dict[str, list[tuple[float, float, float]]] = {}
    alike, mixed = configurations(groups.groups, step, seed), mixtures(groups.groups, step, seed)
    for number, counts in enumerate(alike):
        slim = at_widths(dense, groups, counts)
        for name, milliseconds in Pieces(slim, feeds).times(timer).items():
            if name in laws:
                macs, elements = (evaluate(polynomial, counts) for polynomial in laws[name])
                rows.setdefault(name, []).append((macs, elements, milliseconds))
        progress("latency", number + 1, len(alike) + len(mixed))
    timer.save()
    taken: list[float] = []
    for number, counts in enumerate(mixed):
        taken.append(whole(ir.to_proto(at_widths(dense, groups, counts).model)))
        progress("latency", len(alike) + number + 1, len(alike) + len(mixed))
    found = [Law(own[name], *laws[name], _fit(np.array(seen))) for name, seen in rows.items()]
    return LatencyModel(_scaled(found, mixed, taken), timer.engine)


def _scaled(laws: Sequence[Law], chosen: Sequence[Counts], whole: Sequence[float]) -> list[Law]:
    """The laws in the proportion in which starting, multiplying and moving count in whole engines.

    Widths change the last two together. So they are drawn to the scale that would be best for both: where a dozen engines
    cannot tell them apart, neither is left out.
    """
    parts = np.array([np.sum([law.terms(counts) for law in laws], axis=0) for counts in chosen])
    seen = parts / np.array(whole)[:, None]
    together = _nonnegative(np.column_stack([seen[:, 0], seen[:, 1:].sum(1)]))[1]
    drawn = np.eye(3)[1:] / max(together, 1e-30)
    a, b, c = _nonnegative(np.vstack([seen, DRAWN * drawn]), np.append(np.ones(len(seen)), [DRAWN, DRAWN]))
    return [
        replace(law, coefficients=(a * start, b * macs, c * elements))
        for law in laws
        for start, macs, elements in [law.coefficients]
    ]


def at_widths(dense: Lifted, groups: Groups, counts: Counts) -> Lifted:
    """The model at some widths."""
    slim = dense.model.clone()
    Slim(plan_of(groups.groups, counts))(slim)
    return lift(slim)


def _terms(piece: Piece, cost: Cost) -> tuple[Polynomial, Polynomial]:
    """A piece's multiply-accumulates, and the elements that it reads and writes."""
    constants = {v for op in piece.ops for v in (*op.inputs, *op.captured) if v is not None and v.is_constant}
    weights = total(cost.operand(op, slot) for op in piece.ops for slot, v in enumerate(op.inputs) if v in constants)
    flows = total(cost.elements(value) for value in (*piece.inputs, *piece.outputs))
    return total(cost.of_op[op] for op in piece.ops if op in cost.of_op), total([weights, flows])


def _fit(rows: np.ndarray) -> tuple[float, float, float]:
    """The coefficients with the smallest relative error, none of them negative."""
    times = np.maximum(rows[:, 2], 1e-4)
    a, b, c = _nonnegative(np.column_stack([np.ones(len(rows)), rows[:, :2]]) / times[:, None])
    return float(a), float(b), float(c)


def _nonnegative(design: np.ndarray, target: np.ndarray | None = None) -> np.ndarray:
    """The x >= 0 for which ``design x`` is nearest to a target, or to one: the best of all choices of the few columns."""
    target = np.ones(len(design)) if target is None else target
    scale = np.maximum(np.abs(design).max(0), 1e-30)
    best, least = np.zeros(design.shape[1]), np.inf
    for count in range(1, design.shape[1] + 1):
        for columns in map(list, itertools.combinations(range(design.shape[1]), count)):
            part = (design / scale)[:, columns]
            found = np.linalg.lstsq(part, target, rcond=None)[0]
            error = float(np.square(part @ found - target).sum())
            if (found >= 0).all() and error < least:
                best, least = np.zeros(design.shape[1]), error
                best[columns] = found / scale[columns]
    return best
