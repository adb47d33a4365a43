"""Residual branches: which additions have one, what is in it, and why the others have none."""

from __future__ import annotations

import functools

import onnx_ir as ir
import pytest

from modhifi_graph.axes.branches import Branches, find_branches, live
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Groups, find_groups
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.passes.normal_form import normalise

from ..oracles import small
from .graphs import activation, coupled, op, weight

INNER = "<float[6,6] a, float[6,6] b, float[6,6] c, float[6,6] d, float[6,5] w>"


def graph(body: str, inputs: str = "float[N,6] x", outputs: str = "float[N,5] y") -> str:
    return f"g ({inputs}) => ({outputs}) {INNER} {{ {body} }}"


PLAIN = "s = MatMul(x, a) p = MatMul(s, b) q = Relu(p) f = MatMul(q, c) t = Add(s, f) y = MatMul(t, w)"

FOUND = {
    "identity": (PLAIN, {"c": "MatMul Relu MatMul"}),
    "the stream comes second": (PLAIN.replace("Add(s, f)", "Add(f, s)"), {"c": "MatMul Relu MatMul"}),
    "what follows the last layer is in it": (
        "s = MatMul(x, a) p = MatMul(s, b) q = Relu(p) f = Neg(q) t = Add(s, f) y = MatMul(t, w)",
        {"b": "MatMul Relu Neg"},
    ),
    "a shortcut without weights": (
        "s = MatMul(x, a) r = Relu(s) f = MatMul(s, b) t = Add(r, f) y = MatMul(t, w)",
        {"b": "MatMul"},
    ),
    "a projection beside a deeper block": (
        "s = MatMul(x, a) p = MatMul(s, b) q = MatMul(p, c) g = MatMul(s, d) t = Add(q, g) y = MatMul(t, w)",
        {"c": "MatMul MatMul"},
    ),
    "two after each other": (
        "s = MatMul(x, a) f = MatMul(s, b) t = Add(s, f) r = Relu(t) g = MatMul(r, c) u = Add(t, g) y = MatMul(u, w)",
        {"b": "MatMul", "c": "Relu MatMul"},
    ),
    "one within another": (
        "s = MatMul(x, a) p = MatMul(s, b) g = MatMul(p, c) q = Add(p, g) f = MatMul(q, d) t = Add(s, f) y = MatMul(t, w)",
        {"c": "MatMul", "d": "MatMul MatMul Add MatMul"},
    ),
    "two side by side, added to the stream in turn": (
        "s = MatMul(x, a) n = Relu(s) f = MatMul(n, b) g = MatMul(n, c) e = Add(s, f) t = Add(e, g) y = MatMul(t, w)",
        {"b": "MatMul", "c": "MatMul"},
    ),
    "what two branches share is in neither": (
        "s = MatMul(x, a) n = Relu(s) f = MatMul(n, b) e = Add(f, s) g = MatMul(n, c) t = Add(g, e) y = MatMul(t, w)",
        {"b": "MatMul", "c": "MatMul"},
    ),
    "a weight that two branches share": (
        "s = MatMul(x, a) f = MatMul(s, b) t = Add(s, f) r = Relu(t) g = MatMul(r, b) u = Add(t, g) y = MatMul(u, w)",
        {"b": "MatMul", "b#2": "Relu MatMul"},
    ),
}  # fmt: skip

REFUSED = {
    "something in it is an output": (
        graph(PLAIN, outputs="float[N,5] y, float[N,6] p"),
        "neither summand comes without a contraction from what the other is made of",
    ),
    "something in it is read elsewhere": (
        graph(
            "s = MatMul(x, a) p = MatMul(s, b) q = Add(p, s) f = MatMul(q, c) t = Add(s, f) z = Mul(t, p) y = MatMul(z, w)"
        ),
        "'p', which the branch makes, is read elsewhere or an output",
    ),
    "a length in it is read elsewhere": (
        graph(
            "s = MatMul(x, a) p = MatMul(s, b) q = Add(p, s) f = MatMul(q, c) t = Add(s, f) n = Size(p) "
            "k = Cast<to = 1>(n) z = Mul(t, k) y = MatMul(z, w)"
        ),
        "'p', which the branch makes, is read elsewhere or an output",
    ),
    "the sum is an output": (graph(PLAIN, outputs="float[N,5] y, float[N,6] t"), "the sum is an output of the graph"),
    "two layers alike": (
        graph("s = MatMul(x, a) f = MatMul(s, b) g = MatMul(s, c) t = Add(f, g) y = MatMul(t, w)"),
        "either summand could be the stream",
    ),
    "two inputs": (
        graph(
            "p = MatMul(x, a) q = MatMul(p, b) r = MatMul(z, c) t = Add(q, r) y = MatMul(t, w)",
            "float[N,6] x, float[N,6] z",
        ),
        "neither summand comes without a contraction from what the other is made of",
    ),
    "a sum that is broadcast": (
        graph(
            "s = MatMul(x, a) m = ReduceMean<axes = [0], keepdims = 1>(s) f = MatMul(m, b) t = Add(s, f) y = MatMul(t, w)",
            "float[3,6] x",
            "float[3,5] y",
        ),
        "a summand is broadcast",
    ),
}  # fmt: skip


@functools.cache
def found(text: str) -> tuple[Groups, Branches]:
    groups = find_groups(couple(lift(normalise(ir.from_proto(small.build(text)), "m")).graph))
    return groups, find_branches(groups)


@pytest.mark.parametrize("case", FOUND)
def test_what_is_found(case: str) -> None:
    body, expected = FOUND[case]
    branches = found(graph(body))[1]
    assert {b.name: " ".join(op.kind for op in b.ops) for b in branches.found} == expected
    assert all(b.value in b.ops[-1].outputs and b.stream is not b.value for b in branches.found)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_and_why(case: str) -> None:
    text, reason = REFUSED[case]
    branches = found(text)[1]
    assert reason in [refused.reason for refused in branches.refused]
    assert "c" not in branches.by_name()


def test_an_addition_without_layers_beside_it_is_none() -> None:
    """Nothing with a weight is in either summand: there is nothing to refuse."""
    body = "s = MatMul(x, a) p = Relu(s) q = Neg(s) t = Add(p, q) y = MatMul(t, w)"
    branches = found(graph(body))[1]
    assert (branches.found, branches.refused) == ((), ())


def test_a_value_that_is_an_output_is_no_branch() -> None:
    assert found(graph(PLAIN, outputs="float[N,5] y, float[N,6] f"))[1].found == ()


@pytest.mark.parametrize(
    ("left", "right", "reason"),
    [
        ((None, 6), (None, 6), "a length of the sum is known only at run time"),
        (("n", 6), ("m", 6), "a length of the sum is known only at run time"),
        (("n", 6), ("n", 1), "a summand is broadcast"),
        (("n", 6), ("n", 6), None),
    ],
)
def test_both_summands_must_be_known_to_have_one_shape(left: tuple, right: tuple, reason: str | None) -> None:
    s, f, t, y = activation("s", *left), activation("f", *right), activation("t", *left), activation("y", left[0], 5)
    groups = find_groups(
        coupled(
            op("MatMul", [s, weight("c", 6, right[1])], [f]),
            op("Add", [s, f], [t]),
            op("MatMul", [t, weight("w", 6, 5)], [y]),
            inputs=[s],
            outputs=[y],
        )
    )
    branches = find_branches(groups)
    assert [refused.reason for refused in branches.refused] == ([reason] if reason else [])
    assert [branch.name for branch in branches.found] == ([] if reason else ["c"])


def test_what_a_subgraph_reads_stays() -> None:
    text = """
        g (float[N,6] x) => (float[N,5] y)
        <float[6,6] a, float[6,6] b, float[6,6] c, float[6,5] w, float zero = {0}> {
          s = MatMul(x, a)
          p = MatMul(s, b)
          r = Add(p, s)
          f = MatMul(r, c)
          t = Add(s, f)
          m = ReduceMean<keepdims = 0>(x)
          condition = Greater(m, zero)
          z = If (condition) <
            then_branch = g1 () => (float[N,6] u) { u = Mul(t, p) },
            else_branch = g2 () => (float[N,6] v) { v = Neg(p) }>
          y = MatMul(z, w)
        }"""
    branches = found(text)[1]
    assert [r.reason for r in branches.refused if r.addition.outputs[0].name == "t"] == [
        "the sum is read by a subgraph"
    ]
    assert not branches.found


class TestAfterwards:
    NESTED = FOUND["one within another"][0]

    def test_what_is_left(self) -> None:
        groups, branches = found(graph(self.NESTED))
        inner, outer = branches.found
        everything = groups.coupling.graph.ops
        assert live(groups.coupling.graph, ()) == set(everything)
        assert live(groups.coupling.graph, [inner]) == set(everything) - {*inner.ops, inner.addition}
        for removed in ([outer], [outer, inner]):
            assert live(groups.coupling.graph, removed) == set(everything) - {*outer.ops, outer.addition}

    def test_what_only_removed_branches_shared_goes_with_them(self) -> None:
        groups, branches = found(graph(FOUND["two side by side, added to the stream in turn"][0]))
        every = set(groups.coupling.graph.ops)
        gone = sorted(op.kind for op in every - live(groups.coupling.graph, branches.found))
        assert gone == ["Add", "Add", "MatMul", "MatMul", "Relu"]
