"""Every criterion, against contributions computed sample by sample from raw activations."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import pytest

from modhifi_graph.axes.groups import Group
from modhifi_graph.observe.consumers import Consumer
from modhifi_graph.observe.moments import Moments
from modhifi_graph.scoring.scores import (
    CRITERIA,
    RIDGE,
    component_inputs,
    component_scores,
    output_energy,
    rank,
    refitted,
)

from ..oracles.layers import Net

LAYERS = ("conv_chain", "grouped_conv_in2", "grouped_conv_in3", "flatten_gemm_transb1", "mlp_gelu_erf", "attention_gqa")


@functools.cache
def net(name: str) -> Net:
    return Net.named(name, samples=16)


@dataclass(frozen=True)
class Layer:
    """A group at one of its consumers, with what every component contributes to every output in every row."""

    group: Group
    consumer: Consumer
    moments: Moments
    contributions: np.ndarray  # components, parts, rows, outputs; centred
    output: np.ndarray  # parts, rows, outputs; centred

    @property
    def rowsum(self) -> np.ndarray:
        """E<y_c, A_ci>, (components, parts, outputs)."""
        return (self.contributions * self.output).mean(2)

    @property
    def energy(self) -> np.ndarray:
        """E||A_ci||^2."""
        return (self.contributions**2).mean(2)

    @property
    def total(self) -> np.ndarray:
        """E||y_c||^2, (parts, outputs)."""
        return (self.output**2).mean(1)


@functools.cache
def layers(name: str) -> list[Layer]:
    found = []
    for weight, consumer in net(name).consumers.items():
        rows, w = net(name).rows(weight), consumer.weight().astype(np.float64)
        rows = rows - rows.mean(1, keepdims=True)
        output = np.einsum("grp,gop->gro", rows, w)
        for group in net(name).groups.groups:
            columns = consumer.columns(group.factor)
            if consumer.contraction in group.consumers:
                each = [rows * (columns == i) for i in range(group.size)]
                parts = np.stack([np.einsum("grp,gop->gro", x, w) for x in each])
                found.append(Layer(group, consumer, net(name).moments(weight), parts, output))
    assert found
    return found


@pytest.mark.parametrize("name", LAYERS)
class TestScores:
    def test_energy_is_the_diagonal_of_q(self, name: str) -> None:
        for layer in layers(name):
            found = component_scores(layer.consumer, layer.moments, layer.group, "energy")
            np.testing.assert_allclose(found, layer.energy.sum((1, 2)), rtol=1e-5, atol=1e-20)
            q = np.einsum("igro,jgro->ij", layer.contributions, layer.contributions) / layer.output.shape[1]
            np.testing.assert_allclose(found, np.diag(q), rtol=1e-5, atol=1e-20)

    def test_rowsum(self, name: str) -> None:
        for layer in layers(name):
            found = component_scores(layer.consumer, layer.moments, layer.group, "rowsum")
            np.testing.assert_allclose(found, layer.rowsum.sum((1, 2)), rtol=1e-5, atol=1e-6 * layer.total.sum())
            q = np.einsum("igro,jgro->ij", layer.contributions, layer.contributions) / layer.output.shape[1]
            np.testing.assert_allclose(found, q.sum(1), rtol=1e-5, atol=1e-6 * layer.total.sum())

    def test_rowsums_add_up_to_the_energy_of_the_output(self, name: str) -> None:
        for layer in layers(name):
            found = component_scores(layer.consumer, layer.moments, layer.group, "rowsum")
            np.testing.assert_allclose(found.sum(), output_energy(layer.consumer, layer.moments), rtol=1e-6)
            np.testing.assert_allclose(found.sum(), layer.total.sum(), rtol=1e-5)

    def test_fidelity_is_what_one_component_reconstructs_at_best(self, name: str) -> None:
        for layer in layers(name):
            found = component_scores(layer.consumer, layer.moments, layer.group, "fidelity")
            alpha = layer.rowsum / np.maximum(layer.energy, 1e-30)
            best = layer.output[None] - alpha[:, :, None] * layer.contributions
            explained = layer.total - (best**2).mean(2)
            np.testing.assert_allclose(found, explained.sum((1, 2)), rtol=1e-4, atol=1e-6 * layer.total.sum())
            share = found / layer.total.sum()
            assert np.all((share >= 0) & (share <= 1))
            scaled = best + (alpha * 0.02)[:, :, None] * layer.contributions
            assert np.all((scaled**2).mean(2) >= (best**2).mean(2) - 1e-12)

    def test_alpha(self, name: str) -> None:
        for layer in layers(name):
            found = component_scores(layer.consumer, layer.moments, layer.group, "alpha")
            expected = layer.rowsum / np.maximum(layer.energy, 1e-30) * layer.total / layer.group.size
            np.testing.assert_allclose(found, expected.sum((1, 2)), rtol=1e-4, atol=1e-5 * np.abs(expected).max())

    def test_magnitude_is_the_squared_norm_of_the_weights(self, name: str) -> None:
        for layer in layers(name):
            found = component_scores(layer.consumer, layer.moments, layer.group, "magnitude")
            columns, weight = layer.consumer.columns(layer.group.factor), layer.consumer.weight()
            expected = [(weight[:, :, columns == i].astype(np.float64) ** 2).sum() for i in range(layer.group.size)]
            np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_refitting_is_damped_least_squares(self, name: str) -> None:
        for layer in layers(name):
            gone = list(range(0, layer.group.size, 2))
            found = refitted(layer.consumer, layer.moments, layer.group, gone).numpy()
            stay = np.flatnonzero(~np.isin(layer.consumer.columns(layer.group.factor), gone))
            weight = layer.consumer.weight().astype(np.float64)
            for part, covariance in enumerate(layer.moments.covariance.numpy()):
                damping = max(1e-12, RIDGE * np.diag(covariance).mean())
                lost = np.setdiff1d(np.arange(len(covariance)), stay)
                damped = covariance[np.ix_(stay, stay)] + damping * np.eye(len(stay))
                expected = np.zeros_like(weight[part])
                cross = weight[part][:, lost] @ covariance[np.ix_(lost, stay)]
                expected[:, stay] = weight[part][:, stay] + np.linalg.solve(damped, cross.T).T
                np.testing.assert_allclose(found[part], expected, rtol=1e-5, atol=1e-7)


def test_components_own_the_inputs_their_columns_say() -> None:
    for layer in layers("attention_gqa"):
        owned, columns = (
            component_inputs(layer.consumer, layer.group).numpy(),
            layer.consumer.columns(layer.group.factor),
        )
        for i, positions in enumerate(owned):
            np.testing.assert_array_equal(positions, np.flatnonzero(columns == i))


class TestRanking:
    def ranked(self, criterion: str, seed: int = 0) -> tuple[list[Layer], tuple[int, ...], np.ndarray, dict]:
        """The stream of a residual network: a group that four layers read, scaled differently."""
        model = net("residual_projection")
        group = next(g for g in model.groups.groups if g.size == 8)
        members = [layer for layer in layers("residual_projection") if layer.group is group]
        scales = [float(i + 1) for i in range(len(members))]
        ranking = rank(
            group, [m.consumer for m in members], [m.moments for m in members], scales, criterion, seed, (3,)
        )
        return members, ranking.order, ranking.costs, dict(ranking.snapshots)

    @pytest.mark.parametrize("criterion", [c for c in CRITERIA if c not in ("obs", "random")])
    def test_scores_of_all_consumers_add_up(self, criterion: str) -> None:
        members, order, costs, snapshots = self.ranked(criterion)
        assert len(members) > 1
        scores = sum(
            (i + 1) * component_scores(m.consumer, m.moments, m.group, criterion) for i, m in enumerate(members)
        )
        expected = np.argsort(scores, kind="stable")
        assert order == tuple(expected[:-1])
        np.testing.assert_allclose(costs, np.maximum(np.sort(scores)[:-1], 1e-12))
        for member, found in zip(members, snapshots[3], strict=True):
            np.testing.assert_array_equal(found, refitted(member.consumer, member.moments, member.group, order[:3]))

    def test_obs_costs_are_shares_of_the_loss(self) -> None:
        members, order, costs, snapshots = self.ranked("obs")
        assert sorted({*order} | {i for i in range(members[0].group.size) if i not in order}) == list(range(8))
        assert len(order) == 7
        # Three removals in: what was paid is the damped error of the snapshots, summed over consumers by their scales.
        loss = 0.0
        for scale, (member, weight) in enumerate(zip(members, snapshots[3], strict=True), 1):
            difference = member.consumer.weight().astype(np.float64) - weight.numpy()
            for part, covariance in enumerate(member.moments.covariance.numpy()):
                damped = covariance + RIDGE * np.diag(covariance).mean() * np.eye(len(covariance))
                loss += scale * np.trace(difference[part] @ damped @ difference[part].T)
        np.testing.assert_allclose(costs[:3].sum(), loss, rtol=1e-6)

    def test_random_depends_on_the_seed_alone(self) -> None:
        orders = [self.ranked("random", seed)[1] for seed in (0, 0, 1)]
        assert orders[0] == orders[1] != orders[2]
        np.testing.assert_allclose(self.ranked("random")[2], np.full(7, 1 / 8))


def test_a_dead_channel_scores_nothing() -> None:
    model = Net.named("conv_chain", samples=16)
    bias = model.model.graph.initializers["b0"]
    bias.const_value = ir.tensor(np.array([0, 0, -1e6, 0, 0, 0, 0, 0], dtype=np.float32), name="b0")
    group, consumer, moments = model.group("w0"), model.consumers["w1"], model.moments("w1")
    for criterion in ("energy", "rowsum", "fidelity"):
        scores = component_scores(consumer, moments, group, criterion)
        assert scores.argmin() == 2
        assert abs(scores[2]) < 1e-20 < scores[np.arange(8) != 2].min()
    assert rank(group, [consumer], [moments], [1.0], "obs").order[0] == 2
