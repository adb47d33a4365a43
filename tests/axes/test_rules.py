"""Every rule, on a piece of graph of its own (see `pieces`).

What is expected is the groups, by name and size, or why there are none; where there are groups, slim must equal mask,
and permuted must equal original.
"""

from __future__ import annotations

import functools

import pytest

from modhifi_graph.axes.layout import leaves
from modhifi_graph.axes.movement import MOVEMENT
from modhifi_graph.axes.rules import ELEMENTWISE, RULES

from ..oracles.equivalence import Case
from .moves import MOVES
from .pieces import PIECES

ALL = {**PIECES, **MOVES}
LINES = [(kind, number) for kind, pieces in ALL.items() for number in range(len(pieces))]


@functools.lru_cache(maxsize=4)
def case_of(kind: str, number: int) -> Case:
    return ALL[kind][number].case()


ATEN_ONLY = {"Pointwise", "ScaledDotProductAttention", "GroupedMatMul", "Stack", "Unbind", "Roll"}
"""Kinds that ONNX does not have; their cases are in `tests/dialects/test_aten.py` and `tests/passes/fx`."""


def test_every_rule_has_a_case_and_no_op_has_two_rules():
    assert PIECES.keys() == RULES.keys() - ATEN_ONLY
    assert MOVES.keys() == MOVEMENT.keys() - ATEN_ONLY
    assert all(ALL.values())
    assert not RULES.keys() & MOVEMENT.keys()
    assert len(set(ELEMENTWISE)) == len(ELEMENTWISE)


@pytest.mark.parametrize(("kind", "number"), LINES)
def test_the_groups_that_a_rule_gives(kind, number):
    piece, case = ALL[kind][number], case_of(kind, number)
    assert piece.folds != any(op.kind == kind for op in case.groups.coupling.graph.ops)
    assert {group.name: group.size for group in case.groups.groups} == (piece.groups or {})
    if piece.reason is not None:
        (channels,) = leaves(case.groups.coupling.axes(case.groups.coupling.graph.ops[0].outputs[0])[1])
        assert any(piece.reason in str(why) for why in case.groups.reasons[channels])


@pytest.mark.parametrize(("kind", "number"), [line for line in LINES if ALL[line[0]][line[1]].groups])
def test_slim_equals_mask_and_order_does_not_matter(kind, number):
    case = case_of(kind, number)
    for seed, fraction in ((0, 0.5), (1, 0.2)):
        assert case.slim_against_mask(seed, fraction) < 1e-4
    assert case.permuted_against_original(0) < 1e-4
