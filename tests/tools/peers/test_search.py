"""Contenders are brought to a speed-up by their own knobs, whatever these do."""

from __future__ import annotations

import pytest

from tools.peers.search import TOLERANCE, Try, bring, nearest


@pytest.mark.parametrize("target", [1.25, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("power", [0.6, 1.0, 2.0])
def test_the_target_is_reached_whatever_the_knob_does(target: float, power: float) -> None:
    made = bring(lambda fraction: 1 / (0.1 + 0.9 * fraction**power), target)
    assert abs(nearest(made, target).speedup / target - 1) <= TOLERANCE
    assert made[0].fraction == pytest.approx(1 / target)


def test_a_knob_that_moves_in_steps_ends_at_the_nearest() -> None:
    made = bring(lambda fraction: 1.0 if fraction > 0.42 else 2.2, 1.5)
    assert len(made) <= 8
    assert nearest(made, 1.5) == Try(next(one.fraction for one in made if one.speedup == 2.2), 2.2)
    assert {one.speedup for one in made} == {1.0, 2.2}


def test_what_is_out_of_reach_is_given_up() -> None:
    made = bring(lambda fraction: 1.1, 2.0, tries=30)
    assert len(made) < 15 and made[-1].fraction == 0.01
