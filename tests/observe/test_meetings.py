"""Where two activations meet: which channels of which projection they come from, and what can be folded back."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects import aten
from modhifi_graph.dialects.aten_module import functional
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.observe.meetings import Meeting, meetings_of
from modhifi_graph.passes.normal_form import normalise
from modhifi_graph.scoring.analysis import analyse
from tools import zoo

from ..oracles.layers import Net


def meeting(net: Net) -> Meeting | str:
    """The only one of a model."""
    (found,) = meetings_of(net.program, net.groups, net.groups.groups, net.batches).values()
    return found


def heads(count: int, width: int, start: int = 0) -> np.ndarray:
    return start + np.arange(count * width).reshape(count, width)


CHANNELS = {
    "attention_separate": (heads(3, 4), heads(3, 4)),
    "attention_fused_gather": (heads(3, 4), heads(3, 4, 12)),
    "attention_fused_split": (heads(3, 4), heads(3, 4, 12)),
    "attention_gqa": (heads(6, 4), np.repeat(heads(2, 4), 3, 0)),
    "attention_rope": (heads(3, 4),),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_each_position_of_each_head_is_a_channel_of_its_projection(name: str) -> None:
    found = meeting(Net.named(name, samples=8))
    assert isinstance(found, Meeting)
    assert found.mixes == (len(CHANNELS[name]) == 2)
    for side, channels in zip(found.sides, CHANNELS[name], strict=True):
        np.testing.assert_array_equal(side.channels, channels)


def test_queries_that_share_keys_share_maps() -> None:
    found = meeting(Net.named("attention_gqa", samples=8))
    assert isinstance(found, Meeting)
    assert found.units.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("name", "softmax"), [("attention_separate", 0.5), ("attention_fused_gather", 1.0), ("attention_fused_split", 0.5)]
)
def test_what_the_logits_are_multiplied_with(name: str, softmax: float) -> None:
    found = meeting(Net.named(name, samples=8))
    assert isinstance(found, Meeting)
    assert found.softmax == pytest.approx(softmax)


def attention(queries: str, after: str = "p = Softmax<axis = -1>(s)", extra: str = "") -> Net:
    """Two heads of width 4; ``queries`` takes ``qt`` (N, 2, 5, 4) to ``q``."""
    return Net.of(
        f"""
        g (float[N,5,6] x) => (float[N,5,6] y)
        <float[6,8] wq, float[6,8] wk, float[6,8] wv, float[8,6] wo, int64[4] four = {{0,0,2,4}},
         int64[3] three = {{0,0,8}}, float[4] gain, float[4] b, float two = {{2}}{extra}> {{
          qm = MatMul(x, wq)
          km = MatMul(x, wk)
          vm = MatMul(x, wv)
          q4 = Reshape(qm, four)
          k4 = Reshape(km, four)
          v4 = Reshape(vm, four)
          qt = Transpose<perm = [0,2,1,3]>(q4)
          kt = Transpose<perm = [0,2,3,1]>(k4)
          v = Transpose<perm = [0,2,1,3]>(v4)
          {queries}
          s = MatMul(q, kt)
          {after}
          a = MatMul(p, v)
          at = Transpose<perm = [0,2,1,3]>(a)
          f = Reshape(at, three)
          y = MatMul(f, wo)
        }}""",
        samples=8,
    )


@pytest.mark.parametrize(
    ("queries", "sides"),
    [
        ("q = Mul(qt, two)", 2),
        ("q = Neg(qt)", 2),
        ("q = Add(qt, qt)", 2),
        ("q = Mul(qt, gain)", 1),
        ("e = Mul(gain, qt)\n q = Sub(qt, e)", 1),
        ("e = Relu(qt)\n q = Mul(e, gain)", 1),  # keys can still be scaled
    ],
)
def test_what_commutes_with_the_way_can_be_folded(queries: str, sides: int) -> None:
    found = meeting(attention(queries))
    assert isinstance(found, Meeting)
    assert len(found.sides) == sides


@pytest.mark.parametrize("queries", ["q = Mul(qt, qt)", "q = Add(qt, b)", "q = Relu(qt)", "q = Div(gain, qt)"])
def test_nothing_is_folded_through_what_is_not_linear(queries: str) -> None:
    """The queries' way is not linear: only the keys can be scaled."""
    found = meeting(attention(queries))
    assert isinstance(found, Meeting)
    assert [side.projection.consumer.op.inputs[1].name for side in found.sides] == ["wk"]  # type: ignore[union-attr]


def test_channels_that_others_read_are_left_alone() -> None:
    """The queries are also the values: another basis for them would change what is attended to."""
    net = attention("q = Identity(qt)", after="p = Softmax<axis = -1>(s)")
    text = "q = Identity(qt)\n w = Mul(kt, two)\n ks = MatMul(q, w)\n s2 = Softmax<axis = -1>(ks)"
    both = attention(text, after="t = Softmax<axis = -1>(s)\n p = Add(t, s2)")
    assert isinstance(meeting(net), Meeting)
    reasons = meetings_of(both.program, both.groups, both.groups.groups, both.batches).values()
    assert len(reasons) == 2
    assert all(isinstance(reason, str) and "on the way" in reason for reason in reasons)


@pytest.mark.parametrize(
    "after", ["p = Relu(s)", "p = Softmax<axis = 2>(s)", "e = Mul(s, mask)\n p = Softmax<axis = -1>(e)"]
)
def test_only_a_softmax_over_the_keys_ignores_what_they_share(after: str) -> None:
    found = meeting(attention("q = Identity(qt)", after, ", float[5,5] mask"))
    assert isinstance(found, Meeting)
    assert found.softmax is None


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_both_dialects_rank_alike(name: str) -> None:
    inputs = zoo.samples(name, batch=8)
    exported = torch.export.export(zoo.module(name), tuple(torch.from_numpy(array) for array in inputs.values()))
    module = aten.lift(functional(exported))
    graph = lift(normalise(ir.from_proto(zoo.export(name)), name))
    found = []
    for program in (graph, module):
        groups = find_groups(couple(program.graph))
        names = [value.name for value in program.graph.inputs]
        feeds = [dict(zip(names, inputs.values(), strict=True))]
        feeds = [{n: torch.from_numpy(a) for n, a in f.items()} for f in feeds] if program is module else feeds
        analysis = analyse(program, groups, feeds, threads=1, wanted=lambda g: g.kind in ("heads", "head dims"))
        assert not analysis.unscored
        found.append({ranking.group.name: ranking for ranking in analysis.rankings})
    assert found[0].keys() == found[1].keys()
    for key, ranking in found[0].items():
        assert ranking.order == found[1][key].order
        np.testing.assert_allclose(ranking.costs, found[1][key].costs, rtol=0.02, atol=1e-6)
