"""One pass over the calibration inputs, against all activations at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modhifi_graph.observe import observe as module
from modhifi_graph.observe.observe import RunningVariance, observe, rows_wanted, sample_rows

from ..oracles.layers import Net


@pytest.mark.parametrize("name", ["residual_projection", "grouped_conv_in2", "attention_gqa", "dynamic_reshape"])
def test_moments_are_those_of_every_row(name: str) -> None:
    net = Net.named(name, samples=16)
    found = observe(net.program, net.batches, net.layers, threads=1)
    assert found.samples == 16
    assert list(found.moments) == net.layers
    for consumer, moments in found.moments.items():
        rows = net.rows(consumer)
        mean = rows.mean(1)
        centred = rows - mean[:, None]
        covariance = centred.transpose(0, 2, 1) @ centred / rows.shape[1]
        assert moments.count == rows.shape[1]
        np.testing.assert_allclose(moments.mean.numpy(), mean, atol=1e-5 * max(1, np.abs(mean).max()))
        np.testing.assert_allclose(moments.covariance.numpy(), covariance, atol=1e-5 * covariance.max())


def test_energies_are_variances_summed_over_channels() -> None:
    net = Net.named("residual_projection", samples=16)
    found = observe(net.program, net.batches, net.layers, {"a": 1, "b": 1, "y": 1}, threads=1).energy
    assert set(found) == {"a", "b", "y"}
    for name, energy in found.items():
        array = net.values[name].astype(np.float64)
        np.testing.assert_allclose(energy, array.var((0, 2, 3)).sum(), rtol=1e-5)


def test_many_positions_are_sampled_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEWEST_ROWS_PER_INPUT", 0)
    monkeypatch.setattr(module, "MOST_ROWS_PER_INPUT", 10**6)
    net = Net.named("conv_chain", samples=16)
    consumer = net.consumers["w1"]
    x = net.values["r0"][:4]  # 16 positions for each of 4 samples

    def rows(seed: int, wanted: int) -> tuple[np.ndarray, np.ndarray]:
        monkeypatch.setattr(module, "ROWS", wanted)
        picked, picks = sample_rows(consumer, torch.from_numpy(x), 4, np.random.default_rng(seed))
        return picked.numpy(), picks.numpy()

    few, picks = rows(0, 100)
    assert few.shape == (1, 4 * 7, 72), "26 rows of this batch, in whole positions"
    assert sorted(set(picks.tolist())) == picks.tolist()
    every, _ = rows(0, 10**6)
    assert every.shape == (1, 64, 72)
    np.testing.assert_array_equal(few[0].reshape(4, 7, 72), every[0].reshape(4, 16, 72)[:, picks])
    np.testing.assert_array_equal(rows(0, 100)[1], picks)
    assert not np.array_equal(rows(1, 100)[1], picks)


def test_rows_follow_the_inputs_within_limits() -> None:
    assert [rows_wanted(p) for p in (9, 64, 576, 4096, 4608)] == [9216, 65536, 65536, 65536, 73728]


def test_scalars_do_not_count_as_samples() -> None:
    net = Net.of("""
        g (float scale, float[N,6] x) => (float[N,5] y) <float[6,5] w> {
          h = Mul(x, scale)
          y = MatMul(h, w)
        }""")
    batches = [{"scale": np.full((), 2, dtype=np.float32), "x": net.feeds["x"][:20]} for _ in range(3)]
    assert observe(net.program, batches, net.layers, threads=1).samples == 60


def test_an_input_of_the_graph_can_be_a_consumers_input_and_a_stream() -> None:
    net = Net.named("swiglu", samples=8)
    found = observe(net.program, net.batches, net.layers, {"y": -1}, threads=1)
    rows = net.feeds["x"].reshape(-1, 6).astype(np.float64)
    np.testing.assert_allclose(found.moments[net.consumers["gate"]].mean[0], rows.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.energy["y"], net.values["y"].reshape(-1, 6).var(0).sum(), rtol=1e-5)


@pytest.mark.parametrize(("axis", "shape"), [(1, (8, 3, 4, 4)), (-1, (8, 4, 3)), (-2, (8, 3, 5))])
def test_running_variance(axis: int, shape: tuple[int, ...]) -> None:
    arrays = [np.random.default_rng(seed).standard_normal(shape).astype(np.float32) + seed for seed in range(3)]
    running = RunningVariance(axis)
    for array in arrays:
        running.add(torch.from_numpy(array))
    flat = np.concatenate([np.moveaxis(a, axis, -1).reshape(-1, shape[axis]) for a in arrays]).astype(np.float64)
    np.testing.assert_allclose(running.total, flat.var(0).sum(), rtol=1e-5)
    np.testing.assert_allclose(running.mean, flat.mean(0), atol=1e-6)


def test_what_has_no_channels_counts_as_one() -> None:
    array = np.random.default_rng(0).standard_normal((4, 3, 5)).astype(np.float32)
    running = RunningVariance(None)
    running.add(torch.from_numpy(array))
    assert running.mean.shape == (1,)
    np.testing.assert_allclose([float(running.mean), running.total], [array.mean(), array.var()], rtol=1e-5)


def test_progress() -> None:
    net = Net.named("conv_chain", samples=8)
    seen: list[tuple[int, int]] = []
    observe(net.program, net.batches, net.layers, threads=1, progress=lambda a, b: seen.append((a, b)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_few_rows_come_from_evenly_spaced_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_A_VISIT", 32)
    net = Net.named("conv_chain", samples=32)  # four batches of eight, 16 or fewer positions each
    seen: list[int] = []

    def sampled(*given: object) -> object:
        seen.append(1)
        return sample_rows(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "sample_rows", sampled)
    found = observe(net.program, net.batches, net.layers, wanted_rows=lambda inputs: 64, threads=1).moments
    counts = [found[layer].count for layer in net.layers]
    assert len(seen) == 2 + 2 + 4, (
        "two batches give 64 rows in whole positions, and where each has 8 rows all are looked at"
    )
    assert counts == [80, 80, 32]


def test_consumers_that_read_the_same_share_their_moments() -> None:
    net = Net.named("swiglu", samples=8)
    found = observe(net.program, net.batches, net.layers, threads=1).moments
    assert found[net.consumers["gate"]] is found[net.consumers["up"]]
    assert found[net.consumers["gate"]] is not found[net.consumers["down"]]


def test_a_stack_of_matrices_shares_its_moments_with_no_plain_one() -> None:
    graph = """
        g (float[N,3,4,6] x) => (float[N,3,4,5] y, float[N,3,4,5] z) <float[3,6,5] stack, float[6,5] plain> {
          y = MatMul(x, stack)
          z = MatMul(x, plain)
        }"""
    net = Net.of(graph, samples=8)
    found = observe(net.program, net.batches, net.layers, threads=1).moments
    stack, plain = found[net.consumers["stack"]], found[net.consumers["plain"]]
    assert (stack.count, plain.count) == (8 * 4, 8 * 12)
    np.testing.assert_allclose(stack.mean, net.feeds["x"].mean((0, 2)), atol=1e-6)
    np.testing.assert_allclose(plain.mean, net.feeds["x"].mean((0, 1, 2))[None], atol=1e-6)


def test_turns_hold_just_as_many_visits() -> None:
    for batches in range(1, 12):
        for visits in range(1, batches + 1):
            for place in range(5):
                due = [module._is_due(place + number, visits, batches) for number in range(batches)]
                assert sum(due) == visits
