"""What a removal does to the outputs, and how local costs are fitted to it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from modhifi_graph.axes.branches import find_branches
from modhifi_graph.observe.output_error import output_error, relative_error
from modhifi_graph.scoring.analysis import analyse
from modhifi_graph.scoring.scores import Ranking, rank
from modhifi_graph.scoring.sensitivity import REPAIRED, calibrated, measure, measure_branches

from ..oracles.layers import Net, run


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


@pytest.mark.parametrize(
    "name", ["conv_chain", "residual_projection", "two_outputs", "attention_gqa", "swiglu", "experts"]
)
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
    if consumer.stacked:  # type: ignore[attr-defined]
        shift = shift.reshape(len(array), 1, -1)
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


@pytest.mark.parametrize(
    ("name", "axes"),
    [("residual_projection", {"w2": 1, "w5": 1}), ("embedding", {"w1": -1}), ("shortcut_strided_slice", {"w2": 1})],
)
def test_the_price_of_a_branch_is_the_error_without_it_but_for_its_mean(name: str, axes: dict[str, int]) -> None:
    """Against the model without the branch, in which the mean of every channel is added to the stream."""
    net = Net.named(name, samples=32)
    branches = find_branches(net.groups).by_name()
    assert set(branches) == set(axes)
    analysis = analyse(net.program, net.groups, net.batches, branches=list(branches.values()), threads=1)
    assert {branch.name for branch in analysis.branches} == set(axes)
    for branch, price in analysis.branches.items():
        value, total = net.values[branch.value.name], net.values[branch.sum.name]
        channel = axes[branch.name] % value.ndim
        mean = value.mean(tuple(i for i in range(value.ndim) if i != channel), keepdims=True)
        assert np.abs(mean).max() > 0.1
        biased = (
            name != "embedding"
        )  # a product without a bias: zeros take the place of the branch, and nothing is taken off
        without = _with_value(net, branch.sum.name, total - value + (mean if biased else 0))
        np.testing.assert_allclose(
            price, (REPAIRED if biased else 1.0) * output_error(net.program.graph)([net.outputs], [without]), rtol=1e-3
        )
    assert measure_branches(net.program, {}, net.batches, threads=1) == {}


def test_a_branch_whose_channels_lie_along_no_axis_is_replaced_by_one_number() -> None:
    net = Net.of("""
        g (float[N,4,6] x) => (float[N,4,5] y)
        <float[6,6] a, float[6,6] b, float[6,5] w, int64[2] flat = {-1,24}, int64[3] whole = {-1,4,6}, float[24] order,
         float[6] bias> {
          s = MatMul(x, a)
          m = MatMul(s, b)
          p = Add(m, bias)
          q = Reshape(p, flat)
          o = Mul(q, order)
          f = Reshape(o, whole)
          t = Add(s, f)
          y = MatMul(t, w)
        }""")
    (branch,) = find_branches(net.groups).found
    (price,) = analyse(net.program, net.groups, net.batches, branches=[branch], threads=1).branches.values()
    total, value = net.values["t"], net.values["f"]
    candidates = [value.mean(), value.mean((0, 1), keepdims=True)]
    prices = [relative_error([net.outputs], [_with_value(net, "t", total - value + mean)]) for mean in candidates]
    assert min(abs(price / (REPAIRED * other) - 1) for other in prices) < 1e-3


def _with_value(net: Net, name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs where a value is replaced by what is given."""
    model = net.model.clone()
    node = next(n for n in model.graph if n.outputs[0].name == name)
    constant = ir.Value(name="given", const_value=ir.tensor(array.astype(np.float32), name="given"))
    constant.shape, constant.type = ir.Shape(array.shape), ir.TensorType(ir.DataType.FLOAT)
    model.graph.initializers["given"] = constant
    ir.convenience.replace_all_uses_with(node.outputs[0], constant)
    return run(model, net.feeds)


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
