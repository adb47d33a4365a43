"""What a removal does to the outputs, and how local costs are fitted to it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from modhifi_graph.fidelity.scores import Ranking, rank
from modhifi_graph.fidelity.sensitivity import calibrated, measure, relative_error

from .layers import Net, run


def test_relative_error_is_the_mean_over_outputs_of_error_over_variance() -> None:
    random = np.random.default_rng(0)
    a = [{"p": random.standard_normal((4, 3)), "q": 10 * random.standard_normal((4, 2, 5))} for _ in range(3)]
    b = [{name: array + 0.1 * random.standard_normal(array.shape) for name, array in batch.items()} for batch in a]
    expected = []
    for name in ("p", "q"):
        x, y = (np.concatenate([batch[name].ravel() for batch in batches]) for batches in (a, b))
        expected.append(((x - y) ** 2).mean() / x.var())
    np.testing.assert_allclose(relative_error(a, b), np.mean(expected))
    assert relative_error(a, a) == 0


@pytest.mark.parametrize("name", ["conv_chain", "residual_projection", "two_outputs", "attention_gqa", "swiglu"])
def test_prices_are_the_errors_of_the_refitted_model(name: str) -> None:
    """Against the model with those weights written into it, and the outputs' means restored by a bias."""
    net = Net.named(name, samples=32)
    moments = net.all_moments()
    rankings = {}
    for group in net.groups.groups:
        members = [c for c in net.layers if c.contraction.op in {k.op for k in group.consumers}]
        if len(members) == len(group.consumers):
            ranking = rank(group, members, [moments[c] for c in members], [1.0] * len(members), "obs", stops=(1, 2))
            rankings[ranking] = members
    assert rankings
    prices = measure(net.program, list(rankings), rankings, moments, net.batches, threads=1)
    for ranking, members in rankings.items():
        assert sorted(prices[ranking]) == sorted({1, 2} & set(range(1, ranking.group.size)))
        for count, price in prices[ranking].items():
            changed = net.model.clone()
            for consumer, weight in zip(members, ranking.snapshots[count], strict=True):
                _write(changed, consumer, weight, moments[consumer].mean)
            np.testing.assert_allclose(
                price, relative_error([net.outputs], [run(changed, net.feeds)]), rtol=1e-3, atol=1e-9
            )


def _write(model: ir.Model, consumer: object, weight: torch.Tensor, mean: torch.Tensor) -> None:
    """Insert the weight, and an addition of what keeps the mean of the output."""
    node = next(n for n in model.graph if n.outputs[0].name == consumer.y.name)  # type: ignore[attr-defined]
    slot = consumer.contraction.other  # type: ignore[attr-defined]
    old = node.inputs[slot]
    assert old is not None
    assert old.const_value is not None
    array = consumer.parameter(weight.numpy(), old.const_value.numpy())  # type: ignore[attr-defined]
    before = torch.from_numpy(consumer.weight().astype(np.float64))  # type: ignore[attr-defined]
    shift = torch.einsum("gop,gp->go", before - weight, mean).reshape(-1).numpy().astype(np.float32)
    if node.op_type == "Conv":
        shift = shift.reshape(1, -1, *[1] * (array.ndim - 2))
    constants = []
    for name, value in ((f"{node.name}_w", array), (f"{node.name}_s", shift)):
        constants.append(ir.Value(name=name, const_value=ir.tensor(value, name=name)))
        model.graph.initializers[name] = constants[-1]
    node.replace_input_with(slot, constants[0])
    output = node.outputs[0]
    name = output.name
    add = ir.node("Add", [output, constants[1]])
    add.outputs[0].shape, add.outputs[0].type = output.shape, output.type
    ir.convenience.replace_all_uses_with(output, add.outputs[0], replace_graph_outputs=True)
    add.replace_input_with(0, output)
    output.name, add.outputs[0].name = f"{name}_before", name
    model.graph.insert_after(node, add)


class TestCalibrated:
    def ranking(self, consumers: int) -> Ranking:
        net = Net.named("residual_projection")
        group = next(g for g in net.groups.groups if (len(g.consumers) > 1) == (consumers > 1) and g.size > 5)
        return Ranking(group, tuple(range(group.size - 1)), np.linspace(0.1, 1, group.size - 1))

    def test_the_running_sum_passes_through_the_measured_prices(self) -> None:
        ranking = self.ranking(consumers=1)
        prices = {1: 0.02, 3: 0.5, 5: 0.9}
        found = np.cumsum(calibrated(ranking, prices).costs)
        for count, price in prices.items():
            np.testing.assert_allclose(found[count - 1], price)
        assert np.all(np.diff(found) >= 0)

    def test_a_group_that_several_layers_read_keeps_its_proportions(self) -> None:
        ranking = self.ranking(consumers=2)
        prices = {1: 0.02, 3: 0.5, 5: 0.9}
        found = np.cumsum(calibrated(ranking, prices).costs)
        ratios = [found[count - 1] / price for count, price in prices.items()]
        np.testing.assert_allclose(ratios, ratios[0])

    def test_between_two_counts_the_scale_is_geometric(self) -> None:
        ranking = self.ranking(consumers=1)
        local = np.cumsum(ranking.costs)
        found = np.cumsum(calibrated(ranking, {1: 2 * local[0], 3: 8 * local[2]}).costs)
        np.testing.assert_allclose(found[1], max(found[0], 4 * local[1]))
        np.testing.assert_allclose(found[3:], 8 * local[3:])

    def test_without_measurements_it_is_what_it_was(self) -> None:
        ranking = self.ranking(consumers=1)
        assert calibrated(ranking, {}) is ranking

    def test_prices_never_fall(self) -> None:
        ranking = self.ranking(consumers=1)
        costs = calibrated(ranking, {1: 0.5, 3: 0.1, 5: 0.9}).costs
        assert np.all(costs >= 0)
        np.testing.assert_allclose(costs[0], 0.5)
