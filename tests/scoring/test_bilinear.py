"""The statistics of meetings against raw queries and keys, and repairs against closed forms and brute force."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from modhifi_graph.observe.meeting_moments import Encounter, encounter
from modhifi_graph.observe.meetings import Meeting, meetings_of
from modhifi_graph.observe.output_error import relative_error
from modhifi_graph.observe.ridge import RIDGE
from modhifi_graph.scoring import bilinear
from modhifi_graph.scoring.analysis import analyse
from modhifi_graph.scoring.bilinear import changes, folded

from ..oracles.layers import Net, run

SAMPLES = 32


def met(net: Net) -> Encounter:
    (found,) = meetings_of(net.program, net.groups, net.groups.groups, net.batches).values()
    assert isinstance(found, Meeting)
    return encounter(net.program, [found], net.batches)[found]


def operands(net: Net, each: Encounter) -> tuple[np.ndarray, np.ndarray]:
    """Queries and centred keys, (samples, heads, rows, positions)."""
    q, kt = (net.values[value.name].astype(np.float64) for value in each.meeting.operands)
    k = kt.swapaxes(2, 3)
    return q, k - k.mean(2, keepdims=True)


def logits(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    return q @ k.swapaxes(2, 3)


@pytest.mark.parametrize("name", ["attention_separate", "attention_rope", "attention_gqa", "attention_fused_split"])
def test_the_gram_is_that_of_the_contributions_to_all_logits(name: str) -> None:
    net = Net.named(name, SAMPLES)
    each = met(net)
    q, k = operands(net, each)
    size, columns = each.meeting.group.size, each.meeting.columns
    parts = np.stack([logits(q[..., columns == i], k[..., columns == i]) for i in range(size)])
    by_head = np.einsum("anhij,bnhij->hab", parts, parts) / (len(q) * q.shape[2] * k.shape[2])
    expected = np.zeros((each.meeting.units.max() + 1, size, size))
    np.add.at(expected, each.meeting.units, by_head)
    np.testing.assert_allclose(each.contributions().numpy(), expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_without_a_softmax_keys_are_not_centred() -> None:
    graph = """
        g (float[N,5,6] x) => (float[N,5,5] y) <float[6,4] wq, float[6,4] wk> {
          q = MatMul(x, wq)
          k = MatMul(x, wk)
          kt = Transpose<perm = [0,2,1]>(k)
          s = MatMul(q, kt)
          y = Relu(s)
        }"""
    net = Net.of(graph, SAMPLES)
    q, k = net.values["q"].astype(np.float64), net.values["k"].astype(np.float64)
    expected = np.mean((q @ k.swapaxes(1, 2)) ** 2)
    np.testing.assert_allclose(float(met(net).contributions().sum()), expected, rtol=1e-4)


def repaired(net: Net, each: Encounter, stays: list[int]) -> np.ndarray:
    """The logits of the dense model with the repair in its projections."""
    stepper = net.program.stepper([net.feeds])
    name = each.meeting.op.outputs[0].name
    (found,) = stepper.outcome([name], changes(folded([(each, np.array(stays))])))
    return np.asarray(found[name]).astype(np.float64)


def unseen_by_softmax(errors: np.ndarray) -> float:
    return float(np.square(errors - errors.mean(-1, keepdims=True)).mean())


@pytest.mark.parametrize("name", ["attention_separate", "attention_gqa", "attention_fused_gather"])
def test_any_matrix_is_better_than_the_best_on_what_stays_and_that_than_slicing(name: str) -> None:
    net = Net.named(name, 256)
    each = met(net)
    dense = net.values[each.meeting.op.outputs[0].name].astype(np.float64)
    (q, k), stays = operands(net, each), [0, 2]
    found = unseen_by_softmax(repaired(net, each, stays) - dense)
    sliced = unseen_by_softmax(logits(q[..., stays], k[..., stays]) - dense)
    kept = np.zeros((*q.shape[:-1], 2))
    for unit in set(each.meeting.units):
        heads = np.flatnonzero(each.meeting.units == unit)
        a, c = (np.einsum("nhrd,nhre->de", x[:, heads], x[:, heads]) for x in (q, k))
        matrix = (
            np.linalg.solve(a[np.ix_(stays, stays)], a[stays]) @ c[:, stays] @ np.linalg.inv(c[np.ix_(stays, stays)])
        )
        kept[:, heads] = q[:, heads][..., stays] @ matrix
    on_what_stays = unseen_by_softmax(logits(kept, k[..., stays]) - dense)
    assert found < 0.9 * on_what_stays
    assert on_what_stays < sliced


@pytest.mark.parametrize("name", ["attention_separate", "attention_gqa"])
def test_the_map_is_a_truncated_singular_value_decomposition(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error under the moments is the sum of the squares of the singular values that are left out."""
    monkeypatch.setattr(bilinear, "RIDGE", 1e-12)
    net = Net.named(name, SAMPLES)
    each = met(net)
    q, k = operands(net, each)
    left, right = bilinear._mixed(each, 2)
    for unit, (tq, tk) in enumerate(zip(left, right, strict=True)):
        heads = np.flatnonzero(each.meeting.units == unit)
        a, c = (np.einsum("nhrd,nhre->de", x[:, heads], x[:, heads]) / x[:, heads, :, 0].size for x in (q, k))
        off = tq @ tk.T - np.eye(4)
        # squared singular values of A^1/2 C^1/2 are the eigenvalues of A C
        values = np.sort(np.linalg.eigvals(a @ c).real)
        np.testing.assert_allclose(np.trace(a @ off @ c @ off.T), values[:2].sum(), rtol=1e-3)


def test_all_directions_are_no_change() -> None:
    net = Net.named("attention_separate", SAMPLES)
    each = met(net)
    dense = net.values[each.meeting.op.outputs[0].name]
    np.testing.assert_allclose(repaired(net, each, [0, 1, 2, 3]), dense, atol=1e-4 * np.abs(dense).max())


def test_a_bias_follows_its_projection() -> None:
    """The repaired logits are Q M K^T of the dense queries and keys, biases included."""
    net = Net.named("attention_fused_split", SAMPLES)
    each = met(net)
    q, kt = (net.values[value.name].astype(np.float64) for value in each.meeting.operands)
    left, right = bilinear._mixed(each, 3)
    expected = np.einsum("nhid,hdr,her,nhej->nhij", q, left, right, kt)
    np.testing.assert_allclose(repaired(net, each, [0, 1, 3]), expected, atol=1e-4 * np.abs(expected).max())


def test_a_rotary_pair_is_scaled_as_least_squares_has_it() -> None:
    """Every head's factor for the pair that stays, against a regression of the logits on its contribution."""
    net = Net.named("attention_rope", 256)
    each = met(net)
    assert not each.meeting.mixes
    (q, k), pair = operands(net, each), each.meeting.columns == 1
    dense, part = logits(q, k), logits(q[..., pair], k[..., pair])
    (factors,) = bilinear._scaled(each, np.array([1]))
    expected = np.einsum("nhij,nhij->h", part, dense) / np.einsum("nhij,nhij->h", part, part)
    np.testing.assert_allclose(factors[:, 1, 1], expected, rtol=5 * RIDGE)
    np.testing.assert_array_equal(factors[:, 0, 0], 0)
    seen = repaired(net, each, [1])
    scaled = (expected[:, None, None] * part) - dense
    np.testing.assert_allclose(unseen_by_softmax(seen - dense), unseen_by_softmax(scaled), rtol=1e-2)
    assert unseen_by_softmax(seen - dense) < unseen_by_softmax(part - dense)


def lowrank(seed: int = 0) -> Net:
    """Queries of four dimensions a head of which two are combinations of the others."""
    net = Net.named("attention_separate", 256)
    random = np.random.default_rng(seed)
    for name, bias in (("wq", "bq"), ("wk", None)):
        mix = np.concatenate([np.eye(2), random.standard_normal((2, 2))], 1)
        for each in (name, bias):
            if each is not None:
                value = net.model.graph.initializers[each]
                array = value.const_value.numpy()
                heads = array.reshape(*array.shape[:-1], 3, 4)[..., :2] @ mix
                value.const_value = ir.tensor(heads.reshape(array.shape).astype(np.float32), name=each)
    return Net(net.model, net.feeds)


def test_what_has_only_so_many_dimensions_loses_nothing() -> None:
    net = lowrank()
    group = next(g.name for g in net.groups.groups if any(not c.weighted for c in g.consumers))
    plain = net.error(net.compensated({group: (2, 3)}, "none"))
    assert plain > 1e-3
    assert net.error(net.compensated({group: (2, 3)}, "sequential")) < 1e-3 * plain


@pytest.mark.parametrize(
    ("name", "share"),
    # random keys have nothing in common that a factor could use: what is left of rotary pairs gains little here
    [("attention_separate", 0.9), ("attention_fused_gather", 0.9), ("attention_gqa", 0.9), ("attention_rope", 0.9999)],
)
def test_the_slim_models_logits_are_nearer_than_plainly_sliced_ones(name: str, share: float) -> None:
    net = Net.named(name, 256)
    each = met(net)
    keep = {each.meeting.group.name: (0,) if name == "attention_rope" else (0, 2)}
    logit = each.meeting.op.outputs[0].name
    errors = [
        unseen_by_softmax(run(net.compensated(keep, method), net.feeds, [logit])[logit] - net.values[logit])
        for method in ("none", "sequential")
    ]
    assert errors[1] < share * errors[0]


def test_a_chain_that_ends_in_queries_aims_at_what_makes_up_for_those_that_went() -> None:
    """Refitted as a whole the queries' two layers come nearer to the dense logits, not to the dense queries."""
    net = Net.of(
        """
        g (float[N,5,6] x) => (float[N,5,6] y)
        <float[6,10] w0, float[10] b0, float[10,8] wq, float[8] bq, float[6,8] wk, float[6,8] wv, float[8,6] wo,
         int64[4] four = {0,0,2,4}, int64[3] three = {0,0,8}> {
          h = MatMul(x, w0)
          hb = Add(h, b0)
          r = Relu(hb)
          qm = MatMul(r, wq)
          qb = Add(qm, bq)
          km = MatMul(x, wk)
          vm = MatMul(x, wv)
          q4 = Reshape(qb, four)
          k4 = Reshape(km, four)
          v4 = Reshape(vm, four)
          q = Transpose<perm = [0,2,1,3]>(q4)
          k = Transpose<perm = [0,2,3,1]>(k4)
          v = Transpose<perm = [0,2,1,3]>(v4)
          s = MatMul(q, k)
          p = Softmax<axis = -1>(s)
          a = MatMul(p, v)
          at = Transpose<perm = [0,2,1,3]>(a)
          f = Reshape(at, three)
          y = MatMul(f, wo)
        }""",
        400,
    )
    keep = {met(net).meeting.group.name: (0, 1, 3), "w0": (0, 2, 3, 5, 6, 8, 9)}
    none, apart, together = (
        unseen_by_softmax(run(net.compensated(keep, method), net.feeds, ["s"])["s"] - net.values["s"])
        for method in ("none", "sequential", "joint")
    )
    assert together < 0.95 * apart < 0.95 * none


def test_batches_add_up() -> None:
    net = Net.named("attention_gqa", SAMPLES)
    each = met(net)
    whole = Encounter(each.meeting)
    whole.add(*(torch.from_numpy(net.values[value.name]) for value in each.meeting.operands))
    np.testing.assert_allclose(each.gram.numpy(), whole.gram.numpy(), rtol=1e-5, atol=1e-4)
    assert (each.pairs, each.rows, each.keys) == (whole.pairs, whole.rows, whole.keys)
    assert each.pairs == SAMPLES * 25


def test_the_price_is_the_error_of_the_repaired_model() -> None:
    """Nothing but queries and keys lose dimensions: the price is measured with nothing but their projections changed."""
    net = Net.named("attention_separate", 64)
    each = met(net)
    group = each.meeting.group
    (ranking,) = analyse(net.program, net.groups, net.batches, wanted=lambda g: g is group, threads=1).rankings
    stepper = net.program.stepper(net.batches, threads=1)
    reference = stepper.outcome(["y"], {})
    prices = np.cumsum(ranking.costs)
    for count in (1, 2, 3):
        stays = np.setdiff1d(np.arange(4), ranking.order[:count])
        error = relative_error(reference, stepper.outcome(["y"], changes(folded([(each, stays)]))))
        assert error > 0
        np.testing.assert_allclose(prices[count - 1], error, rtol=1e-3)
