"""Where outputs end up: which additions are residual streams, and what a layer's output is worth."""

from __future__ import annotations

import numpy as np
import pytest

from modhifi_graph.observe.residual_streams import Destination, destinations, worth

from ..oracles.layers import Net


def found(source: str) -> dict[str, tuple[set[str], set[str], bool]]:
    """By weight: the additions joined, the weights of the layers fed, and whether the output leaves the graph."""
    net = Net.of(source) if "{" in source else Net.named(source)
    names = {consumer: weight for weight, consumer in net.consumers.items()}
    where = destinations(net.groups.coupling.graph, net.layers)
    return {names[c]: ({v.name for v in d.joins}, {names[f] for f in d.feeds}, d.leaves) for c, d in where.items()}


def test_a_chain_feeds_and_does_not_join() -> None:
    assert found("conv_chain") == {
        "w0": (set(), {"w1"}, False),
        "w1": (set(), {"w2"}, False),
        "w2": (set(), set(), True),
    }


def test_residual_branches_join_at_their_additions() -> None:
    assert found("residual_projection") == {
        "w0": (set(), {"w1", "w3"}, False),
        "w1": (set(), {"w2"}, False),
        "w2": ({"a"}, set(), False),
        "w3": ({"a"}, set(), False),
        "w4": (set(), {"w5"}, False),
        "w5": ({"b"}, set(), False),
        "w6": (set(), set(), True),
    }


def test_the_stream_itself_joins_the_next_addition() -> None:
    weights = found("""
        g (float[N,4,6] x) => (float[N,4,5] y)
        <float[6,8] w0, float[8,7] w1, float[7,8] w2, float[8] b2, float[8,5] w3> {
          s = MatMul(x, w0)
          m = MatMul(s, w1)
          r = Relu(m)
          n = MatMul(r, w2)
          o = Add(b2, n)
          a = Add(s, o)
          y = MatMul(a, w3)
        }""")
    assert weights["w0"] == ({"a"}, {"w1"}, False)
    assert weights["w2"] == ({"a"}, set(), False), "an addition of a constant is a bias, no stream"


def test_swiglu_feeds_through_its_gate() -> None:
    assert found("swiglu") == {
        "gate": (set(), {"down"}, False),
        "up": (set(), {"down"}, False),
        "down": ({"y"}, set(), False),
    }


def test_rotary_embedding_adds_no_stream() -> None:
    """q cos + turned(q) sin: products with constants, so the addition looks like a residual one from q's side."""
    weights = found("""
        g (float[N,5,12] x, float[5,4] cosine, float[5,4] sine) => (float[N,5,12] y)
        <float[12,12] wq, float[12,12] wk, float[12,12] wv, float[12,12] wo, int64[4] four = {0,0,3,4},
         int64[3] three = {0,0,12}, int64[2] halves = {2,2}, float minus = {-1}> {
          qm = MatMul(x, wq)
          km = MatMul(x, wk)
          vm = MatMul(x, wv)
          q4 = Reshape(qm, four)
          k4 = Reshape(km, four)
          v4 = Reshape(vm, four)
          q = Transpose<perm = [0,2,1,3]>(q4)
          k = Transpose<perm = [0,2,1,3]>(k4)
          v = Transpose<perm = [0,2,1,3]>(v4)
          low, high = Split<axis = 3>(q, halves)
          negative = Mul(high, minus)
          turned = Concat<axis = 3>(negative, low)
          q_cos = Mul(q, cosine)
          q_sin = Mul(turned, sine)
          qr = Add(q_cos, q_sin)
          kt = Transpose<perm = [0,1,3,2]>(k)
          s = MatMul(qr, kt)
          p = Softmax<axis = -1>(s)
          a = MatMul(p, v)
          at = Transpose<perm = [0,2,1,3]>(a)
          f = Reshape(at, three)
          o = MatMul(f, wo)
          y = Add(x, o)
        }""")
    assert weights["wq"] == (set(), {"wo"}, False)
    assert weights["wk"] == weights["wv"] == (set(), {"wo"}, False)
    assert weights["wo"] == ({"y"}, set(), False)


def test_attention_masks_add_no_stream() -> None:
    weights = found("""
        g (float[N,5,12] x, float[N,1,5,5] mask) => (float[N,5,12] y)
        <float[12,12] wq, float[12,12] wk, float[12,12] wv, float[12,12] wo, int64[4] four = {0,0,3,4},
         int64[3] three = {0,0,12}> {
          qm = MatMul(x, wq)
          km = MatMul(x, wk)
          vm = MatMul(x, wv)
          q4 = Reshape(qm, four)
          k4 = Reshape(km, four)
          v4 = Reshape(vm, four)
          q = Transpose<perm = [0,2,1,3]>(q4)
          kt = Transpose<perm = [0,2,3,1]>(k4)
          v = Transpose<perm = [0,2,1,3]>(v4)
          s = MatMul(q, kt)
          masked = Add(s, mask)
          p = Softmax<axis = -1>(masked)
          a = MatMul(p, v)
          at = Transpose<perm = [0,2,1,3]>(a)
          f = Reshape(at, three)
          o = MatMul(f, wo)
          y = Add(x, o)
        }""")
    for name in ("wq", "wk", "wv"):
        assert weights[name] == (set(), {"wo"}, False)
    assert weights["wo"] == ({"y"}, set(), False)


def test_an_output_that_leaves_also_feeds() -> None:
    weights = found("two_outputs")
    assert weights["w1"] == (set(), {"w2"}, True)
    assert weights["w0"] == (set(), {"w1"}, False)


class TestWorth:
    @pytest.fixture
    def net(self) -> Net:
        return Net.named("residual_projection")

    def shares(self, net: Net, own: dict[str, float], streams: dict[str, float]) -> dict[str, float]:
        """What each layer counts, as a share of a stream."""
        names = {consumer: weight for weight, consumer in net.consumers.items()}
        where = destinations(net.groups.coupling.graph, net.layers)
        energies = {c: own[names[c]] for c in net.layers}
        found = worth(net.layers, where, energies, streams)
        return {names[c]: found[c] * energies[c] for c in net.layers}

    def test_a_branch_counts_its_share_and_its_feeders_as_much(self, net: Net) -> None:
        own = {"w0": 5.0, "w1": 1.0, "w2": 2.0, "w3": 6.0, "w4": 7.0, "w5": 1.0, "w6": 3.0}
        shares = self.shares(net, own, {"a": 8.0, "b": 10.0})
        expected = {"w0": 0.75, "w1": 0.25, "w2": 0.25, "w3": 0.75, "w4": 0.1, "w5": 0.1, "w6": 1.0}
        assert shares == pytest.approx(expected)

    def test_no_share_is_more_than_the_whole(self, net: Net) -> None:
        own = {"w0": 5.0, "w1": 1.0, "w2": 20.0, "w3": 6.0, "w4": 7.0, "w5": 1.0, "w6": 3.0}
        shares = self.shares(net, own, {"a": 8.0, "b": 0.0})
        assert shares["w2"] == shares["w1"] == shares["w5"] == 1.0

    def test_a_dead_layer_breaks_nothing(self, net: Net) -> None:
        own = dict.fromkeys(("w0", "w1", "w2", "w3", "w4", "w5", "w6"), 0.0)
        assert all(np.isfinite(share) for share in self.shares(net, own, {"a": 0.0, "b": 0.0}).values())

    def test_what_leads_nowhere_counts_fully(self, net: Net) -> None:
        nowhere = {c: Destination((), (), False) for c in net.layers}
        found = worth(net.layers, nowhere, dict.fromkeys(net.layers, 4.0), {})
        assert set(found.values()) == {0.25}
