"""Costs: what evaluate.py counts, what a slim graph really has, and what one removal saves."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from modhifi_graph.axes.branches import find_branches
from modhifi_graph.axes.cost import Cost
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Groups, find_groups
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.passes.normalise import Normalise
from modhifi_graph.passes.slim import Slim
from modhifi_graph.plan import GroupPlan, Plan, random_plan

from ..oracles import small

# MACs as stated: evaluate.py, of the project's shared folder, counts the same for these files.
KNOWN = {
    "resnet20_cifar10.onnx": (40_551_040, 269_057),
    "resnet56_cifar10.onnx": (125_485_696, 851_009),
    "mobilenet_v2_1.0_224_float.onnx": (300_775_552, 3_489_099),
    "stories260K.onnx": (259_328, None),
}


def parsed(text: str) -> ir.Model:
    return normalised(small.build(text))


def normalised(proto: onnx.ModelProto) -> ir.Model:
    model = ir.from_proto(proto)
    Normalise()(model)
    return model


def groups_of(model: ir.Model) -> Groups:
    return find_groups(couple(lift(model).graph))


def cost_of(text: str) -> Cost:
    return Cost(groups_of(parsed(text)))


def graph(interface: str, weights: str, body: str) -> str:
    inputs, outputs = interface.split("=>")
    return f"g ({inputs}) => ({outputs}) <{weights}> {{ {body} }}"


CASES = {
    # c_out * c_in * taps * output positions
    "conv": (
        graph(
            "float[N,3,8,8] x => float[N,5,4,4] y", "float[5,3,3,3] w", "y = Conv<pads=[1,1,1,1],strides=[2,2]>(x,w)"
        ),
        5 * 3 * 9 * 16,
        135,
    ),
    "depthwise": (
        graph("float[N,6,8,8] x => float[N,6,6,6] y", "float[6,1,3,3] w", "y = Conv<group=6>(x,w)"),
        6 * 9 * 36,
        54,
    ),
    "conv_transpose": (
        graph("float[N,3,4,4] x => float[N,5,8,8] y", "float[3,5,2,2] w", "y = ConvTranspose<strides=[2,2]>(x,w)"),
        3 * 5 * 4 * 16,
        60,
    ),
    "gemm": (graph("float[N,3] x => float[N,5] y", "float[5,3] w, float[5] b", "y = Gemm<transB=1>(x,w,b)"), 15, 20),
    # a static batch counts once, other static positions each
    "gemm_static_batch": (graph("float[4,3] x => float[4,5] y", "float[3,5] w", "y = Gemm(x,w)"), 15, 15),
    "matmul_positions": (graph("float[2,7,3] x => float[2,7,5] y", "float[3,5] w", "y = MatMul(x,w)"), 7 * 15, 15),
    "matmul_dynamic": (graph("float[N,T,3] x => float[N,T,5] y", "float[3,5] w", "y = MatMul(x,w)"), 15, 15),
    "matmul_batched_weight": (
        graph("float[N,4,7,3] x => float[N,4,7,5] y", "float[4,3,5] w", "y = MatMul(x,w)"),
        4 * 7 * 15,
        60,
    ),
    "weight_first": (graph("float[N,3,7] x => float[N,5,7] y", "float[5,3] w", "y = MatMul(w,x)"), 7 * 15, 15),
    "einsum": (
        graph("float[N,7,3] x => float[N,7,4,5] y", "float[3,4,5] w", 'y = Einsum<equation="btk,khd->bthd">(x,w)'),
        7 * 60,
        60,
    ),
    "two_activations": (
        graph(
            "float[N,7,3] x => float[N,7,7] y",
            "float[3] w",
            "z = Mul(x,w) t = Transpose<perm=[0,2,1]>(z) y = MatMul(z,t)",
        ),
        0,
        3,
    ),
    "lstm": (
        graph(
            "float[T,N,3] x => float[T,1,N,5] y", "float[1,20,3] w, float[1,20,5] r", "y = LSTM<hidden_size=5>(x,w,r)"
        ),
        60 + 100,
        160,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_op_costs_what_its_loops_run(name: str) -> None:
    text, macs, params = CASES[name]
    cost = cost_of(text)
    assert (cost.macs(), cost.params()) == (macs, params)


def test_a_batch_that_windows_are_folded_into_counts_once() -> None:
    """Four windows of 3 positions each, in the first axis together with the batch of 2."""
    text = graph(
        "float[2,12,3] x => float[8,3,5] y",
        "int64[3] s = {8, 3, 3}, float[3,5] w",
        "z = Reshape(x, s) y = MatMul(z, w)",
    )
    assert cost_of(text).macs() == 12 * 15


@pytest.mark.parametrize("name", sorted(set(small.SMALL) - set(small.NOT_RUNNABLE)))
def test_a_plan_costs_what_its_slim_graph_costs(name: str) -> None:
    model = normalised(small.SMALL[name]())
    groups = groups_of(model)
    plan = random_plan(groups, 0)
    counts = {factor: len(kept) for factor, kept in plan.resolve(groups).items()}
    expected = Cost(groups)
    Slim(plan)(model)
    assert Cost(groups_of(model)).macs() == expected.macs(counts)


@pytest.mark.parametrize("name", ["dense_concat", "attention_gqa", "residual_projection", "depthwise_pointwise"])
def test_a_saving_is_the_difference_of_two_costs(name: str) -> None:
    groups = groups_of(normalised(small.SMALL[name]()))
    cost = Cost(groups)
    counts = {group.factor: max(1, group.size - i % 3) for i, group in enumerate(groups.groups)}
    assert groups.groups
    for group in groups.groups:
        for by in range(counts[group.factor]):
            fewer = {**counts, group.factor: counts[group.factor] - by}
            expected = cost.macs(counts) - cost.macs(fewer), cost.params(counts) - cost.params(fewer)
            assert cost.saving(group.factor, counts, by) == expected


WITH_BRANCHES = ("residual_projection", "shortcut_strided_slice", "c2f_split", "embedding", "shared")

SHARED = """
    g (float[N,6] x) => (float[N,5] y)
    <float[6,6] a, float[6,8] up, float[8] b, float[8,6] down, float[6,5] w> {
      s = MatMul(x, a)
      p = MatMul(s, up)
      q = Add(p, b)
      f = MatMul(q, down)
      t = Add(s, f)
      n = Relu(t)
      p2 = MatMul(n, up)
      q2 = Add(p2, b)
      f2 = MatMul(q2, down)
      u = Add(n, f2)
      y = MatMul(u, w)
    }"""


@pytest.mark.parametrize("name", WITH_BRANCHES)
def test_a_plan_without_branches_costs_what_its_slim_graph_costs(name: str) -> None:
    for seed in range(4):
        model = parsed(SHARED) if name == "shared" else normalised(small.SMALL[name]())
        groups = groups_of(model)
        plan = random_plan(groups, seed, 0.5, depth=0.6)
        counts = {factor: len(kept) for factor, kept in plan.resolve(groups).items()}
        expected = Cost(groups, plan.removed(groups))
        whole = sum(v.const_value.size for v in model.graph.initializers.values() if v.const_value is not None)
        assert Cost(groups).params() == whole
        Slim(plan)(model)
        assert Cost(groups_of(model)).macs() == expected.macs(counts)
        if name not in ("shared", "c2f_split"):  # where two readers want other slices of a constant, each gets its own
            assert Cost(groups_of(model)).params() == expected.params(counts)


@pytest.mark.parametrize("name", WITH_BRANCHES)
def test_a_bill_is_what_a_branch_saves_whatever_else_is_gone(name: str) -> None:
    groups = groups_of(parsed(SHARED) if name == "shared" else normalised(small.SMALL[name]()))
    branches = find_branches(groups).found
    assert branches
    counts = {group.factor: max(1, group.size - i % 3) for i, group in enumerate(groups.groups)}
    for first in branches:
        for cost in [Cost(groups), *(Cost(groups, [other]) for other in branches if other is not first)]:
            rest = cost.without(first)
            difference = cost.macs(counts) - rest.macs(counts), cost.params(counts) - rest.params(counts)
            assert cost.bill(first)(counts) == difference
            assert difference[0] > 0


def test_a_weight_that_two_branches_read_goes_with_the_second() -> None:
    groups = groups_of(parsed(SHARED))
    first, second = find_branches(groups).found
    whole = Cost(groups)
    assert whole.bill(first)({}) == whole.bill(second)({}) == (2 * 48, 0)
    assert whole.without(first).bill(second)({}) == (2 * 48, 48 + 8 + 48)


def test_a_group_goes_with_the_branch_it_is_in() -> None:
    groups = groups_of(parsed(small.CONVOLUTIONS["residual_projection"]))
    cost, (first, second) = Cost(groups), find_branches(groups).found
    uses = {group.name: cost.without(first).uses(group.factor) for group in groups.groups}
    assert uses == {"w0": True, "w1": False, "w2": True, "w4": True}
    assert cost.without(first).without(second).uses(groups.by_name()["w4"].factor) is False
    assert cost.without(first).saving(groups.by_name()["w1"].factor, {}) == (0, 0)


def test_a_saving_starts_from_whole_groups_by_default() -> None:
    groups = groups_of(parsed(small.SEQUENCES["mlp_gelu_erf"]))
    cost, (group,) = Cost(groups), groups.groups
    # 12 weights at 4 positions; the 12 weights and a bias
    assert cost.saving(group.factor, {}) == (48, 13)
    assert cost.governed(group.factor) == 48 * group.size


def test_a_coupled_square_weight_counts_both_sides() -> None:
    """A residual stream of 8 channels through an 8 x 8 convolution: 64 - 49 weights go with one channel."""
    text = graph(
        "float[N,3,4,4] x => float[N,5,4,4] y",
        "float[8,3,1,1] a, float[8,8,1,1] b, float[5,8,1,1] c",
        "p = Conv(x,a) q = Conv(p,b) r = Add(p,q) y = Conv(r,c)",
    )
    groups = groups_of(parsed(text))
    (group,) = groups.groups
    saved = 3 + (64 - 49) + 5
    assert Cost(groups).saving(group.factor, {}) == (16 * saved, saved)


def test_a_constant_that_two_ops_read_counts_once() -> None:
    groups = groups_of(parsed(small.CONVOLUTIONS["shared_weight"]))
    sizes = {value.name: value.array().size for value in groups.coupling.graph.values() if value.is_constant}
    assert Cost(groups).params() == sum(sizes.values())


def test_what_is_governed_are_the_ops_it_takes_part_in() -> None:
    groups = groups_of(parsed(small.CONVOLUTIONS["conv_chain"]))
    cost = Cost(groups)
    first, second = groups.groups
    convolutions = [8 * 3 * 9 * 64, 6 * 8 * 9 * 16]
    assert [cost.governed(first.factor), cost.governed(second.factor)] == [sum(convolutions), convolutions[1] + 30]
    assert cost.macs() == sum(convolutions) + 30


@pytest.mark.parametrize("name", KNOWN)
def test_real_models_cost_what_evaluate_says(shared: Path, name: str) -> None:
    model = ir.load(shared / "models" / name)
    Normalise()(model)
    cost = Cost(groups_of(model))
    macs, params = KNOWN[name]
    assert cost.macs() == macs
    assert params is None or cost.params() == params


def test_counts_of_one_group_leave_the_others_whole() -> None:
    model = parsed(small.CONVOLUTIONS["conv_chain"])
    groups = groups_of(model)
    plan = Plan((GroupPlan(groups.groups[0].name, 8, (0, 5, 7)),))
    counts = {factor: len(kept) for factor, kept in plan.resolve(groups).items()}
    assert Cost(groups).macs(counts) == 3 * 27 * 64 + 6 * 3 * 9 * 16 + 30
    assert math.isclose(Cost(groups).macs(counts) / Cost(groups).macs(), 7806 / 20766)
