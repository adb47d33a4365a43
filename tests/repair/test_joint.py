"""Refitting chains as a whole: the loss and its slope, and what it is for."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.observe.chains import Chain, chains
from modhifi_graph.observe.consumers import weight_of
from modhifi_graph.observe.ridge import RIDGE, damped
from modhifi_graph.observe.sites import sites
from modhifi_graph.repair.joint import Batch, Reading, Refit, Weights, held_out

from ..oracles.chains import BROADCAST, CONVOLUTIONS, GATED, INTERLEAVED, MIXER, MLP, STACKS, TRANSFORMER, TURNED
from ..oracles.layers import Net, run

NETS = {
    "mlp": (MLP, {"w0": (0, 1, 4, 5, 7), "w1": (0, 2, 3, 5, 6)}),
    "convolutions": (CONVOLUTIONS, {"w0": (0, 1, 4, 5, 7), "w1": (0, 2, 3, 5, 6)}),
    "transformer": (TRANSFORMER, {"w0": (0, 1, 4, 5, 7), "w2": (0, 2, 3, 6, 8, 9)}),
    "interleaved": (INTERLEAVED, {"w0": (0, 1, 4, 5, 7), "w2": (0, 2, 3, 6), "w1": (0, 1, 2, 4, 6)}),
    "broadcast": (BROADCAST, {"w0": (0, 1, 4, 5, 7), "w1": (0, 2, 3, 5)}),
    "gated": (GATED, {"w0": (0, 2, 3, 5)}),
    "stacks": (STACKS, {"w1": (0, 2, 3, 5, 6), "w2": (0, 1, 2, 4, 6, 7)}),
}


@functools.cache
def net(name: str) -> Net:
    return Net.of(NETS[name][0], samples=400)


class Problem:
    """The first chain of a dense model, asked for outputs that it does not give."""

    def __init__(self, name: str, clip: tuple[float, float] | None = None) -> None:
        model = net(name)
        graph = model.program.graph
        self.chain: Chain = chains(graph, list(sites(find_groups(couple(graph)), graph, {})))[0]
        random = torch.Generator().manual_seed(0)
        last = self.chain.sites[-1]
        self.batches = []
        for part in (slice(0, 150), slice(150, 400)):
            seen = {v: torch.from_numpy(model.values[v.name][part]) for v in self.chain.others}
            y = torch.from_numpy(model.values[last.output.name][part])
            target = y + 0.3 * torch.randn(y.shape, generator=random)
            stream = torch.randn(y.shape, generator=random) if clip else None
            x = torch.from_numpy(model.values[self.chain.sites[0].consumer.x.name][part])
            self.batches.append(Batch(x, seen, stream, target))
        self.clip = clip
        self.weights: Weights = []
        readings = []
        for site in self.chain.sites:
            weight = weight_of(site.consumer, torch.zeros(1))
            bias = torch.zeros(weight.shape[:2], dtype=torch.float64)
            if site.bias is not None and (value := site.bias[0].input(site.bias[1])) is not None:
                bias = torch.from_numpy(value.array().astype(np.float64)).reshape(bias.shape)
            self.weights.append((weight, bias))
            moments = next(m for c, m in model.all_moments().items() if c.y.name == site.consumer.y.name)
            factor = torch.linalg.cholesky(damped(moments.covariance, RIDGE))
            readings.append(Reading(factor, moments.mean, site.bias is not None))
        self.refit = Refit(self.chain, readings, self.batches, clip)

    def loss(self, weights: Weights) -> torch.Tensor:
        """By the book, in double precision, for differentiation."""
        total, rows = torch.zeros((), dtype=torch.float64), 0
        for batch in self.batches:
            x, others = batch.x.double(), {v: a.double() for v, a in batch.others.items()}
            for i, (weight, bias) in enumerate(weights):
                linear = self.refit._maps[i]
                y = linear.apply(x, weight)
                y = y + linear.shaped(bias, y)
                x = self.chain.regions[i](y, others)[0] if i < len(self.chain.regions) else y
            x = x if batch.stream is None else x + batch.stream.double()
            wrong = batch.target.double() - x
            if self.clip:
                low, _ = self.clip
                wrong = torch.where(batch.target <= low, (low - x).clamp(max=0), wrong)
            total = total + wrong.square().sum()
            rows += linear.channels(batch.target).shape[1]
        return total / rows


@pytest.mark.parametrize("name", NETS)
def test_the_loss_and_its_slope(name: str) -> None:
    problem = Problem(name)
    traces = [problem.refit._forward(batch, problem.weights) for batch in problem.batches]
    leaves = [(w.clone().requires_grad_(), b.clone().requires_grad_()) for w, b in problem.weights]
    loss = problem.loss(leaves)
    assert problem.refit._loss(traces) == pytest.approx(float(loss), rel=1e-5)
    loss.backward()
    for (weight, bias), (dw, db) in zip(leaves, problem.refit._gradient(traces, problem.weights), strict=True):
        assert weight.grad is not None
        assert bias.grad is not None
        np.testing.assert_allclose(dw, -weight.grad / 2, atol=1e-4)
        np.testing.assert_allclose(db, -bias.grad / 2, atol=1e-4)


def test_what_a_clip_hides_is_no_loss() -> None:
    problem = Problem("transformer", clip=(0.0, np.inf))
    traces = [problem.refit._forward(batch, problem.weights) for batch in problem.batches]
    assert problem.refit._loss(traces) == pytest.approx(float(problem.loss(problem.weights)), rel=1e-5)
    assert problem.refit._loss(traces) < 0.9 * Problem("transformer").refit._rows


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("clip", [None, (0.0, np.inf)])
def test_every_step_lowers_the_loss(name: str, clip: tuple[float, float] | None) -> None:
    problem = Problem(name, clip)
    found, losses = problem.refit.run(problem.weights)
    assert len(losses) > 1
    assert all(after < before for before, after in itertools.pairwise(losses))
    assert float(problem.loss(found)) == pytest.approx(losses[-1], rel=1e-4)


def test_a_change_is_the_derivative_along_the_direction() -> None:
    problem = Problem("convolutions")
    batch = problem.batches[0]
    trace = problem.refit._forward(batch, problem.weights)
    random = torch.Generator().manual_seed(1)
    direction = [
        (torch.randn(w.shape, generator=random).double(), torch.randn(b.shape, generator=random).double())
        for w, b in problem.weights
    ]
    change = problem.refit._change(trace, problem.weights, direction, batch)
    tiny = 1e-4
    there = [(w + tiny * dw, b + tiny * db) for (w, b), (dw, db) in zip(problem.weights, direction, strict=True)]
    difference = (trace.residual - problem.refit._forward(batch, there).residual) / tiny
    assert float((difference - change).square().mean() / change.square().mean()) < 1e-3


def test_without_an_activation_it_is_regression() -> None:
    """Two linear maps wide enough for anything: the error comes down to what one regression leaves."""
    model = Net.of(
        """g (float[N,6] x) => (float[N,3] y) <float[6,8] w0, float[8] b0, float[8,3] w1, float[3] b1> {
             h = Gemm(x, w0, b0)
             i = LeakyRelu<alpha = 1.0>(h)
             y = Gemm(i, w1, b1)
           }""",
        samples=300,
    )
    graph = model.program.graph
    (chain,) = chains(graph, list(sites(find_groups(couple(graph)), graph, {})))
    x = torch.from_numpy(model.feeds["x"])
    target = torch.randn(300, 3, generator=torch.Generator().manual_seed(0)) + x[:, :3] ** 2
    weights, readings = [], []
    for site in chain.sites:
        weight = weight_of(site.consumer, torch.zeros(1))
        moments = next(m for c, m in model.all_moments().items() if c.y.name == site.consumer.y.name)
        weights.append((weight, torch.zeros(weight.shape[:2], dtype=torch.float64)))
        readings.append(Reading(torch.linalg.cholesky(damped(moments.covariance, RIDGE)), moments.mean, True))
    _, losses = Refit(chain, readings, [Batch(x, {}, None, target)], None).run(weights, steps=40)
    design = np.concatenate([x.double().numpy(), np.ones((300, 1))], 1)
    left = np.linalg.lstsq(design, target.double().numpy(), rcond=None)[1].sum() / 300
    assert losses[-1] == pytest.approx(left, rel=0.02)
    assert losses[0] > 2 * left


@pytest.mark.parametrize("name", NETS)
def test_it_gets_nearer_than_one_by_one(name: str) -> None:
    model, keep = net(name), NETS[name][1]
    apart, together = (model.error(model.compensated(keep, method)) for method in ("sequential", "joint"))
    assert together < 0.98 * apart


@pytest.mark.parametrize(
    ("graph", "keep"),
    [(MIXER, {"w0": (0, 1, 4, 5, 7)}), (TURNED, {"w1": (0, 2, 3, 5, 7), "w2": (0, 1, 4, 6)})],
    ids=["mixer", "turned"],
)
def test_inputs_and_outputs_may_have_their_channels_elsewhere(graph: str, keep: dict[str, tuple[int, ...]]) -> None:
    model = Net.of(graph, samples=400)
    apart, together = (model.error(model.compensated(keep, method)) for method in ("sequential", "joint"))
    assert together < 0.98 * apart


def test_what_follows_is_refitted_to_what_the_chain_gives_now() -> None:
    """The last layer of a transformer is the regression on the stream as the refitted blocks leave it."""
    model, keep = net("transformer"), NETS["transformer"][1]
    slim = model.compensated(keep, "joint")
    seen = run(slim, model.feeds, ["s2"])["s2"].reshape(-1, 6).astype(np.float64)
    target = model.values["y"].reshape(-1, 5)
    best = np.linalg.lstsq(seen, target, rcond=None)[0]
    error = np.mean((seen @ best - target) ** 2)
    assert np.mean((run(slim, model.feeds)["y"].reshape(-1, 5) - target) ** 2) < 1.01 * error


def test_batches_may_be_cut_anyhow() -> None:
    problem = Problem("mlp")
    whole = Refit(problem.chain, problem.refit._readings, [joined(problem.batches)], None)
    a, b = whole.run(problem.weights, 3), problem.refit.run(problem.weights, 3)
    np.testing.assert_allclose(a[1], b[1], rtol=1e-5)


def joined(batches: Sequence[Batch]) -> Batch:
    return Batch(torch.cat([b.x for b in batches]), {}, None, torch.cat([b.target for b in batches]))


class TestHeldOut:
    def test_a_chain_learns_nothing_that_does_not_hold_elsewhere(self) -> None:
        """Targets of pure noise: the longer the refit, the worse it gets on what it has not seen."""
        problem = Problem("mlp")
        random = torch.Generator().manual_seed(3)
        batches = [
            Batch(b.x[:30], {}, None, b.target[:30] + 3 * torch.randn(30, b.target.shape[1], generator=random))
            for b in problem.batches
        ]
        seen, held = batches[:1], batches[1:]
        alone = Refit(problem.chain, problem.refit._readings, seen, None)
        watched = Refit(problem.chain, problem.refit._readings, seen, None, held)

        def error(weights: Weights) -> float:
            return watched._held_loss(weights, 0.0)

        overfit, kept = alone.run(problem.weights, 40)[0], watched.run(problem.weights, 40)[0]
        assert error(kept) < 0.9 * error(overfit)
        assert error(kept) <= error(problem.weights)

    def test_the_weights_that_come_back_are_the_best_on_what_is_held_out(self) -> None:
        problem = Problem("mlp")
        refit = Refit(problem.chain, problem.refit._readings, problem.batches[:1], None, problem.batches[1:])
        found, losses = refit.run(problem.weights)
        ways = [refit.run(problem.weights, steps)[0] for steps in range(len(losses))]
        assert refit._held_loss(found, 0.0) == min(refit._held_loss(weights, 0.0) for weights in ways)

    @pytest.mark.parametrize(
        ("batches", "rows", "expected"),
        [
            (20, 4, [7, 17]),  # ten and their mirror images
            (9, 4, [7]),
            (16, 4, [7, 15]),
            (1, 64, [3, 7]),
            (2, 64, [7, 15]),  # the eighth parts of both
            (2, 4, []),
        ],
    )
    def test_which_batches_are(self, batches: int, rows: int, expected: list[int]) -> None:
        problem = Problem("mlp")
        blank = torch.arange(batches * rows, dtype=torch.float32).reshape(batches, rows, 1)
        seen, held = held_out(problem.chain, [Batch(part, {}, None, part) for part in blank])
        assert sum(len(b.x) for b in (*seen, *held)) == batches * rows
        size = len(held[0].x) if held else rows
        assert [int(b.x[0, 0]) // size for b in held] == expected
        assert all(torch.equal(b.x, b.target) for b in held)

    def test_what_has_other_lengths_stays_whole(self) -> None:
        part = Batch(torch.zeros(16, 3), {}, torch.zeros(1, 3), torch.zeros(16, 3))
        assert part.parts(8) == [part]
