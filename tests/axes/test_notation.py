"""Reading the lines of the rules."""

import pytest

from modhifi_graph.axes.notation import Axis, Run, parse
from modhifi_graph.axes.rules import RULES


def test_a_line():
    spec = parse("n (g i) *s, (g o) i *k, - -> n (g o) *t, -")
    assert spec.inputs == (
        (Axis(("n",)), Axis(("g", "i")), Run("s")),
        (Axis(("g", "o")), Axis(("i",)), Run("k")),
        None,
    )
    assert spec.outputs == ((Axis(("n",)), Axis(("g", "o")), Run("t")), None)


def test_the_names_of_an_operand():
    spec = parse("n (g i) *s, - -> 4")
    assert spec.names(spec.inputs[0]) == {"n", "g", "i", "s"}
    assert spec.names(spec.inputs[1]) == frozenset()
    assert spec.names(spec.outputs[0]) == {"4"}


def test_a_scalar_has_no_axes():
    assert parse("a,  -> a").inputs == ((Axis(("a",)),), ())


@pytest.mark.parametrize(
    ("line", "reason"), [("n c", "needs an arrow"), ("n (c -> n", "cannot read"), ("n c! -> n", "cannot read")]
)
def test_what_is_not_a_line(line, reason):
    with pytest.raises(ValueError, match=reason):
        parse(line)


@pytest.mark.parametrize("kind", [kind for kind, rule in RULES.items() if isinstance(rule.spec, str)])
def test_every_fixed_line_can_be_read_and_relates_all_outputs(kind):
    """An output that a rule says nothing about could shrink unseen."""
    rule = RULES[kind]
    spec = parse(rule.spec)
    assert None not in spec.outputs
    mentioned = frozenset().union(*map(spec.names, (*spec.inputs, *spec.outputs)))
    assert set(rule.attributes.values()) <= mentioned
    if isinstance(rule.fixed, dict):
        assert rule.fixed.keys() <= mentioned
