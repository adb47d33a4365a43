"""What is pinned when a whole graph is coupled, and what it says."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modhifi_graph.axes.coupling import Pinned, couple
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.passes.normalise import Normalise

from ..oracles import small
from .graphs import activation, constant, coupled, op, reasons, weight, written


def linear(name: str, x, y, rows: int, columns: int):
    return op("MatMul", [x, weight(name, rows, columns)], [y])


def test_the_interface_is_pinned_by_name():
    x, y = activation("x", 2, 6), activation("y", 2, 5)
    coupling = coupled(linear("w", x, y, 6, 5), inputs=[x], outputs=[y])
    assert reasons(coupling, x, 1) == {"the graph's input 'x'"}
    assert reasons(coupling, y, 1) == {"the graph's output 'y'"}


def test_an_op_that_nobody_knows_is_a_boundary_on_both_sides():
    x, y = activation("x", 2, 6), activation("y", 2, 6)
    mystery = op("Mystery", [x], [y], domain="com.acme")
    coupling = coupled(mystery)
    why = {"nothing is known about ops of domain 'com.acme'"}
    assert reasons(coupling, x, 1) == reasons(coupling, y, 1) == why
    assert str(coupling.pins[0][1]) == "nothing is known about ops of domain 'com.acme' (Mystery 'mystery')"
    coupling = coupled(op("NonZero", [x], [y]))
    assert reasons(coupling, x, 1) == reasons(coupling, y, 0) == {"nothing is known about this op"}


@pytest.mark.parametrize(
    "kind",
    ["ScatterND", "ScatterElements", "GatherElements", "OneHot", "NonZero", "Range", "Attention",
     "RotaryEmbedding", "Loop", "Scan", "MaxUnpool", "Compress", "Unique", "DeformConv", "Col2Im", "STFT", "DFT"],
)  # fmt: skip
def test_ops_without_an_exact_rule_are_boundaries(kind):
    x, y = activation("x", 4, 6), activation("y", 4, 6)
    coupling = coupled(op(kind, [x], [y]))
    assert reasons(coupling, x, 0) == reasons(coupling, y, 1) == {"nothing is known about this op"}


def test_what_a_subgraph_reads_is_pinned():
    x, y, taken = activation("x", 2), activation("y", 2, 6), activation("taken", 2, 6)
    branch = op("If", [x], [y])
    branch.captured = (taken,)
    assert reasons(coupled(branch), taken, 1) == {"read by a subgraph"}


def test_two_ops_that_read_one_constant_are_not_coupled():
    zero = weight("zero", 4)
    a, b, c, d = (activation(name, 2, 4) for name in "abcd")
    coupling = coupled(op("Add", [a, zero], [b]), op("Add", [c, zero], [d]))
    assert coupling.axes(a)[1] is not coupling.axes(c)[1]
    first, second = (coupling.operand(each, 1)[0] for each in coupling.graph.ops)
    assert first is not second


def test_an_op_that_is_not_as_the_standard_has_it_is_declined():
    x, y = activation("x", 2, 6), activation("y", 6, 2)
    coupling = coupled(op("Transpose", [x], [y], perm=[0, 7]))
    assert reasons(coupling, x, 1) == {"it is not as the standard has it: list index out of range"}
    coupling = coupled(op("Transpose", [x], [activation("z", 2)], perm=[0, 1]))
    assert reasons(coupling, x, 1) == {"2 axes do not fit 1"}


def test_broadcasting_against_an_unknown_length_pins_what_it_may_stretch_to():
    """It may be one at run time, and then it has no heads to lose."""
    scores, mask, y = activation("s", 2, 4, 5), activation("m", 2, "maybe", 5), activation("y", 2, 4, 5)
    coupling = coupled(op("Add", [scores, mask], [y]))
    assert reasons(coupling, scores, 1) == {"broadcast against a length known only at run time"}


@pytest.mark.parametrize("kind", ["Add", "Expand"])
def test_an_axis_of_length_one_stretches_without_coupling(kind):
    x, y = activation("x", 2, 1), activation("y", 2, 6)
    other = weight("w", 2, 6) if kind == "Add" else constant("size", [2, 6])
    coupling = coupled(op(kind, [x, other], [y]))
    assert written(coupling, x) == ["2", "1"]
    assert reasons(coupling, y, 1) == set()


@pytest.mark.parametrize(
    ("entry", "pinned"), [(-1, False), (0, False), (24, True)], ids=["inferred", "copied", "computed"]
)
def test_a_target_that_is_computed_at_run_time(entry, pinned):
    """(batch 4) nests four heads in the batch: an entry of -1 still says it when a head is gone, a number does not."""
    x, shape, part = activation("x", "batch", 4, "time", 6), activation("shape", 4), activation("part", 1)
    target, y = activation("target", 3), activation("y", None, "time", 6)
    for value in (shape, part, target):
        value.dtype = np.dtype(np.int64)
    first = constant("first", [entry]) if not pinned else activation("first", 1)
    coupling = coupled(
        op("Shape", [x], [shape]),
        op("Slice", [shape, constant("s", [2]), constant("e", [3])], [part]),
        op("Concat", [first, part, constant("six", [6])], [target], axis=0),
        op("Reshape", [x, target], [y]),
    )
    assert written(coupling, y) == ["(? 4)", "?", "6"]
    assert ("nested in a length computed at run time" in reasons(coupling, x, 1)) is pinned


def test_a_length_that_scales_is_pinned_and_one_that_shapes_is_not():
    x, shape, number, y = activation("x", 2, 6), activation("shape", 2), activation("n", 2), activation("y", 2, 6)
    shape.dtype = np.dtype(np.int64)
    z = activation("z", 2, 6)
    coupling = coupled(op("Shape", [x], [shape]), op("Reshape", [y, shape], [z]))
    assert reasons(coupling, x, 1) == set()
    coupling = coupled(op("Shape", [x], [shape]), op("Cast", [shape], [number], to=1))
    assert reasons(coupling, x, 1) == {"its length is read at run time"}
    coupling = coupled(op("Shape", [x], [shape]), outputs=[shape])
    assert reasons(coupling, x, 1) == {"its length is read at run time"}
    coupling = coupled(op("Size", [x], [number]))
    assert reasons(coupling, x, 1) == {"its length is read at run time"}


def test_a_reason_names_its_op():
    assert str(Pinned("reduced over", op("ReduceMean", [], []))) == "reduced over (ReduceMean 'reducemean')"
    assert str(Pinned("the graph's input 'x'")) == "the graph's input 'x'"


def test_every_small_model_couples_without_a_word_about_the_standard():
    for name, build in small.SMALL.items():
        model = ir.from_proto(build())
        Normalise()(model)
        assert not [str(why) for _, why in couple(lift(model).graph).pins if "standard" in why.reason], name
