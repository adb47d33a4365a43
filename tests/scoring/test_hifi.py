"""HiFi sets and the claims on components, against sets formed channel by channel from raw activations."""

from __future__ import annotations

import functools

import numpy as np
import onnx_ir as ir
import pytest
import torch

from modhifi_graph.axes.groups import Group
from modhifi_graph.observe.windows import Window, windows
from modhifi_graph.passes.normal_form import normalise
from modhifi_graph.scoring.analysis import scorable
from modhifi_graph.scoring.hifi import CRITERIA, Claims, claims, is_centred, shares, standings
from modhifi_graph.scoring.scores import Contributions
from modhifi_graph.scoring.subset import SubsetFidelity

from ..oracles import small
from ..oracles.layers import Net

CONCATENATED = """
    g (float[N,3,6,6] x) => (float[N,5,6,6] y)
    <float[6,3,3,3] w0, float[6] b0, float[4,6,3,3] w1, float[4] b1, float[5,10,1,1] w2, float[5] b2> {
      c0 = Conv<pads = [1,1,1,1]>(x, w0, b0)
      r0 = Relu(c0)
      c1 = Conv<pads = [1,1,1,1]>(r0, w1, b1)
      r1 = Relu(c1)
      c = Concat<axis = 1>(r0, r1)
      y = Conv(c, w2, b2)
    }"""


@functools.cache
def net(name: str) -> Net:
    return Net.of(CONCATENATED, samples=16) if name == "concatenated" else Net.named(name, samples=16)


def found_claims(
    model: Net, criterion: str, sets: str = "channel", worth: dict[str, float] | None = None
) -> dict[str, Claims]:
    """The claims on every group of a dense model."""
    members = {g: [c.y.name for c in consumers] for g, consumers in scorable(model.groups)[0].items()}
    seen = []
    for window in windows(model.groups, model.program.graph, {}):
        moments = model.moments(window.dense)
        seen.append((window, torch.from_numpy(window.dense.weight().astype(np.float64)), moments))
    return {c.group.name: c for c in claims(seen, members, {}, criterion, sets, worth)}


def window_of(model: Net, weight: str) -> Window:
    return next(w for w in windows(model.groups, model.program.graph, {}) if w.dense.op is model.consumers[weight].op)


def scores(model: Net, weight: str, groups: list[Group], criterion: str, centred: bool) -> np.ndarray:
    """The paper's score of every component of some groups for every output channel, from its contribution to every row."""
    consumer, rows = model.consumers[weight], model.rows(weight)[0]
    w = consumer.weight().astype(np.float64)[0]
    rows = rows - rows.mean(0) if centred else rows
    total = rows @ w.T
    found = []
    for group in groups:
        columns = consumer.columns(group.factor)
        for i in range(group.size):
            part = rows[:, columns == i] @ w[:, columns == i].T
            energy, rowsum = (part**2).mean(0), (part * total).mean(0)
            found.append(
                {
                    "energy": energy,
                    "rowsum": rowsum,
                    "alpha": rowsum / energy,
                    "fidelity": rowsum**2 / energy / (total**2).mean(0),
                }[criterion]
            )
    return np.stack(found)


def given_up(scores: np.ndarray, percentile: float) -> set[int]:
    """The components that are in no output channel's HiFi set: the complement of the union, set by set."""
    count = len(scores)
    hifi: set[int] = set()
    for channel in scores.T:
        lowest_first = sorted(range(count), key=lambda i: channel[i])
        hifi |= set(lowest_first[int(np.floor(percentile * count + 1e-9)) :])
    return set(range(count)) - hifi


def energies(model: Net, weight: str, centred: bool) -> np.ndarray:
    """The energy of every output channel."""
    rows = model.rows(weight)[0]
    rows = rows - rows.mean(0) if centred else rows
    return ((rows @ model.consumers[weight].weight().astype(np.float64)[0].T) ** 2).mean(0)


def layer_gives_up(scores: np.ndarray, eta: float) -> set[int]:
    """The components outside the smallest set of highest scores that holds more than a share eta of their sum."""
    left = [*np.argsort(-scores)]
    chosen: list[int] = []
    while sum(np.maximum(scores[chosen], 0)) <= eta * np.maximum(scores, 0).sum():
        chosen.append(int(left.pop(0)))
    return set(range(len(scores))) - set(chosen)


PERCENTILES = [0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9]


@pytest.mark.parametrize("criterion", CRITERIA)
class TestUnion:
    def test_one_consumer(self, criterion: str) -> None:
        model, some = net("conv_chain"), 0
        for weight, name in (("w1", "w0"), ("w2", "w1")):
            group = model.group(name)
            expected = scores(model, weight, [group], criterion, centred=True)
            claim = found_claims(model, criterion)[name]
            for percentile in PERCENTILES:
                gone = set(claim.components[claim.within <= percentile].tolist())
                assert gone == given_up(expected, percentile)
                some += len(gone)
        assert some > 0

    def test_coupled_consumers_keep_the_union(self, criterion: str) -> None:
        """r0 of the residual model is read by a convolution of the branch and by the projection, which has no bias."""
        model = net("residual_projection")
        group = model.group("w0")
        assert len(group.consumers) == 2
        branch = scores(model, "w1", [group], criterion, centred=True)
        projection = scores(model, "w3", [group], criterion, centred=False)
        claim = found_claims(model, criterion)["w0"]
        for percentile in PERCENTILES:
            gone = set(claim.components[claim.within <= percentile].tolist())
            assert gone == given_up(branch, percentile) & given_up(projection, percentile)

    def test_what_is_concatenated_competes(self, criterion: str) -> None:
        model = net("concatenated")
        first, second = model.group("w0"), model.group("w1")
        joint = scores(model, "w2", [first, second], criterion, centred=True)
        alone = scores(model, "w1", [first], criterion, centred=True)
        found = found_claims(model, criterion)
        for percentile in PERCENTILES:
            gone = given_up(joint, percentile)
            assert set(np.flatnonzero(found["w1"].within <= percentile)) == {i - 6 for i in gone if i >= 6}
            expected = {i for i in gone if i < 6} & given_up(alone, percentile)
            assert set(np.flatnonzero(found["w0"].within <= percentile)) == expected


@pytest.mark.parametrize("criterion", ["fidelity", "rowsum", "energy"])
class TestLayers:
    def totals(self, model: Net, weight: str, names: list[str], criterion: str, centred: bool) -> np.ndarray:
        found = scores(model, weight, [model.group(name) for name in names], criterion, centred)
        summed: np.ndarray = (found @ energies(model, weight, centred)) if criterion == "fidelity" else found.sum(1)
        return summed

    def test_one_consumer(self, criterion: str) -> None:
        model, some = net("conv_chain"), 0
        for weight, name in (("w1", "w0"), ("w2", "w1")):
            expected = self.totals(model, weight, [name], criterion, centred=True)
            claim = found_claims(model, criterion, "layer")[name]
            for percentile in PERCENTILES:
                gone = set(np.flatnonzero(claim.within < percentile))
                assert gone == layer_gives_up(expected, 1 - percentile)
                some += len(gone)
        assert some > 0

    def test_coupled_consumers_keep_the_union(self, criterion: str) -> None:
        model = net("residual_projection")
        branch = self.totals(model, "w1", ["w0"], criterion, centred=True)
        projection = self.totals(model, "w3", ["w0"], criterion, centred=False)
        claim = found_claims(model, criterion, "layer")["w0"]
        for percentile in PERCENTILES:
            expected = layer_gives_up(branch, 1 - percentile) & layer_gives_up(projection, 1 - percentile)
            assert set(np.flatnonzero(claim.within < percentile)) == expected

    def test_what_is_concatenated_competes(self, criterion: str) -> None:
        model = net("concatenated")
        joint = self.totals(model, "w2", ["w0", "w1"], criterion, centred=True)
        claim = found_claims(model, criterion, "layer")["w1"]
        for percentile in PERCENTILES:
            expected = {i - 6 for i in layer_gives_up(joint, 1 - percentile) if i >= 6}
            assert set(np.flatnonzero(claim.within < percentile)) == expected


def test_a_layer_claims_in_proportion_to_its_share_of_a_stream() -> None:
    model = net("residual_projection")
    group = model.group("w0")
    branch, projection = (model.consumers[weight].y.name for weight in ("w1", "w3"))
    plain = found_claims(model, "fidelity", "layer")["w0"].within
    alone = [
        found_claims(model, "fidelity", "layer", {branch: a, projection: b})["w0"].within for a, b in ((1, 0), (0, 1))
    ]
    np.testing.assert_allclose(np.maximum(*alone), plain)
    assert not np.allclose(*alone)
    weighted = found_claims(model, "fidelity", "layer", {branch: 0.25, projection: 0.5})["w0"].within
    np.testing.assert_allclose(weighted, np.maximum(0.25 * alone[0], 0.5 * alone[1]))
    assert len(weighted) == group.size


def contributions(rowsum: list[list[float]], energy: list[list[float]], total: list[float]) -> Contributions:
    """One part, components by output channels."""
    one = [torch.tensor(array, dtype=torch.float64)[None] for array in (rowsum, energy)]
    return Contributions(*one, torch.tensor(total, dtype=torch.float64)[None, None])


class TestShares:
    def test_the_share_held_by_what_scores_no_higher(self) -> None:
        found = contributions([[1, 1], [3, 9], [2, 4]], [[1, 1], [1, 1], [1, 1]], [6, 14])
        share, overall = shares(found, "rowsum")
        np.testing.assert_allclose(share, [2 / 20, 1, 8 / 20])
        np.testing.assert_allclose(overall, [1 / 3, 1, 2 / 3])

    def test_a_score_below_zero_holds_nothing_and_goes_first(self) -> None:
        found = contributions([[1, 1], [-3, 1], [2, 4]], [[1, 1], [1, 1], [1, 1]], [6, 14])
        share, overall = shares(found, "rowsum")
        np.testing.assert_allclose(share, [2 / 8, 0, 1])
        np.testing.assert_allclose(overall, [2 / 3, 1 / 3, 1])

    def test_what_contributes_nothing_claims_nothing(self) -> None:
        found = contributions([[0, 0], [1, 2]], [[1e-30, 1e-30], [1, 1]], [1, 2])
        for criterion in CRITERIA:
            assert shares(found, criterion)[0].tolist() == [0, 1]

    def test_it_is_the_fidelity_where_contributions_are_uncorrelated(self) -> None:
        weight = np.random.default_rng(0).normal(size=(1, 4, 6))
        variance = np.random.default_rng(1).uniform(0.1, 2, 6)
        blocks = torch.arange(6)[:, None]
        found = Contributions.of(torch.from_numpy(weight), torch.diag(torch.from_numpy(variance))[None], blocks)
        layer = SubsetFidelity.of(weight, np.diag(variance))
        share = shares(found, "fidelity")[0].numpy()
        for i in range(6):
            assert share[i] == pytest.approx(layer.fidelity(np.flatnonzero(share <= share[i])))


class TestStandings:
    def test_within_the_channel_and_within_the_layer(self) -> None:
        found = contributions([[1, 1], [3, 9], [2, 5]], [[1, 1], [1, 1], [1, 1]], [6, 15])
        within, overall = standings(found, "rowsum")
        np.testing.assert_allclose(within[0], [[1 / 3, 1 / 3], [1, 1], [2 / 3, 2 / 3]])
        np.testing.assert_allclose(overall[0], [[1 / 6, 2 / 6], [4 / 6, 1], [3 / 6, 5 / 6]])

    def test_a_channel_that_never_varies_has_no_say(self) -> None:
        found = contributions([[1, 3], [0, 1]], [[1, 1], [1e-30, 1]], [1e-30, 4])
        within, _ = standings(found, "fidelity")
        np.testing.assert_array_equal(within[0], [[0, 1], [0, 0.5]])

    def test_what_contributes_nothing_is_in_no_hifi_set(self) -> None:
        found = contributions([[0, 0], [1, 2]], [[1e-30, 1e-30], [1, 1]], [1, 2])
        for criterion in CRITERIA:
            assert standings(found, criterion)[0][0, 0].tolist() == [0, 0]


class TestCentred:
    def test_a_bias_takes_up_the_mean(self) -> None:
        model = net("residual_projection")
        assert [is_centred(window_of(model, w)) for w in ("w1", "w2", "w3", "w5")] == [True, True, False, False]

    def test_so_does_a_batch_norm(self) -> None:
        proto = small.build("""
            g (float[N,3,8,8] x) => (float[N,5,8,8] y)
            <float[8,3,3,3] w0, float[6,8,1,1] w1, float[6] gain, float[6] bias, float[6] mean, float[6] variance,
             float[5,6,1,1] w2> {
              c0 = Conv<pads = [1,1,1,1]>(x, w0)
              r0 = Relu(c0)
              c1 = Conv(r0, w1)
              n = BatchNormalization(c1, gain, bias, mean, variance)
              r1 = Relu(n)
              y = Conv(r1, w2)
            }""")
        model = Net(normalise(ir.from_proto(proto), "model", fold_batchnorm=False), {})
        assert [is_centred(window_of(model, w)) for w in ("w0", "w1", "w2")] == [False, True, False]
