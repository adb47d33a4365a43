"""Scores of whole models: against brute force, between dialects, and as files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import modhifi_graph
from modhifi_graph import InputError, Scores, samples, score
from modhifi_graph.scoring.scores import component_inputs

from ..oracles.layers import Net


@pytest.fixture(scope="module")
def vit() -> Scores:
    return score("sample:digits-vit", samples=60, threads=1)


@pytest.mark.parametrize("name", ["residual_projection", "grouped_conv_in2", "swiglu"])
def test_scores_are_those_of_the_activations(name: str) -> None:
    net = Net.named(name, samples=16)
    found = score(net.model, net.feeds, threads=1, rows=10**6)
    assert found.samples == 16
    assert [group.name for group in found.groups] == [group.name for group in net.groups.groups]
    for group in found.groups:
        expected = {criterion: np.zeros(group.size) for criterion in group.scores}
        for layer in group.layers:
            consumer = net.consumers[layer.name]
            rows, weight = net.rows(consumer), consumer.weight().astype(np.float64)
            rows = rows - rows.mean(1, keepdims=True)
            blocks = component_inputs(consumer, net.group(group.name)).numpy()
            assert layer.rows == rows.shape[1]
            energy = sum((rows[g] @ weight[g].T).var(0).sum() for g in range(len(rows)))
            for g in range(len(rows)):
                y = rows[g] @ weight[g].T
                for i, block in enumerate(blocks):
                    a = rows[g][:, block] @ weight[g][:, block].T
                    q, r, total = (a**2).mean(0), (a * y).mean(0), (y**2).mean(0)
                    expected["energy"][i] += q.sum() / energy
                    expected["rowsum"][i] += r.sum() / energy
                    expected["fidelity"][i] += (r**2 / q).sum() / energy
                    expected["alpha"][i] += (r / q * total).sum() / energy / group.size
        for criterion, values in group.scores.items():
            np.testing.assert_allclose(values, expected[criterion] / len(group.layers), rtol=1e-3, atol=1e-5)


def test_sets_and_curves_agree(vit: Scores) -> None:
    for group in vit.groups:
        assert sorted(group.order) == list(range(group.size))
        assert (np.diff(group.curve) >= -1e-12).all()
        assert group.curve[-1] == pytest.approx(1, abs=1e-6)
        count = group.smallest(0.8)
        assert group.fidelity.fidelity(group.order[:count]) >= 0.8
        assert count == 1 or group.fidelity.fidelity(group.order[: count - 1]) < 0.8
        assert group.to_json()["smallest"]["0.8"] == count
        (layer,) = group.layers
        assert layer.shared.fidelity(group.order[:2]) == pytest.approx(group.fidelity.fidelity(group.order[:2]))
        assert layer.shared.fidelity([0, 1]) <= layer.fidelity.fidelity([0, 1]) <= layer.least_squares.fidelity([0, 1])


def test_a_file_holds_every_array_and_the_same_bytes_each_time(vit: Scores, tmp_path: Path) -> None:
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    vit.save(paths[0])
    score("sample:digits-vit", samples=60, threads=1).save(paths[1])
    with np.load(paths[0]) as one, np.load(paths[1]) as other:
        assert one.files == other.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name])
        for group in vit.groups:
            np.testing.assert_array_equal(one[f"{group.name}/rowsum"], group.scores["rowsum"])
            np.testing.assert_array_equal(one[f"{group.name}/order"], group.order)
            (layer,) = group.layers
            rowsum, total = (one[f"{group.name}/{layer.name}/{what}"] for what in ("rowsum", "total"))
            assert rowsum.shape == (group.size, len(total))
            np.testing.assert_allclose(rowsum.sum() / total.sum(), group.scores["rowsum"].sum(), rtol=1e-5)


def test_a_module_has_the_scores_of_its_onnx_file(tmp_path: Path) -> None:
    module = torch.nn.Sequential(
        torch.nn.Linear(6, 12), torch.nn.LayerNorm(12), torch.nn.Linear(12, 9), torch.nn.ReLU(), torch.nn.Linear(9, 3)
    ).eval()
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "model.onnx"
    torch.onnx.export(module, (x,), path, dynamo=True, verbose=False)
    ours = score(module, x, inputs=x[:2], bounds=True)
    theirs = score(path, x.numpy(), bounds=True, threads=1)
    assert len(ours.groups) == len(theirs.groups) == 1
    for criterion, values in ours.groups[0].scores.items():
        np.testing.assert_allclose(values, theirs.groups[0].scores[criterion], rtol=1e-4, atol=1e-6)
    assert ours.groups[0].order == theirs.groups[0].order
    assert ours.bounds is not None
    assert theirs.bounds is not None
    np.testing.assert_allclose(ours.bounds.layers[0].gains, theirs.bounds.layers[0].gains, rtol=1e-2)
    assert ours.bounds.norms[0].smallest == pytest.approx(theirs.bounds.norms[0].smallest, rel=1e-4)


def test_only_what_was_asked_for_is_scored(vit: Scores) -> None:
    name = vit.groups[1].name
    few = score("sample:digits-vit", samples=60, threads=1, only=[name], rows=50)
    assert [group.name for group in few.groups] == [name]
    assert few[name].layers[0].rows < vit[name].layers[0].rows
    assert any("rows only, an error of about" in warning for warning in few.warnings)
    with pytest.raises(InputError, match="has no scores"):
        few[vit.groups[0].name]


def test_a_file_that_is_no_model_and_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(samples.__file__.encode())
    with pytest.raises(InputError, match=r"model\.onnx"):
        score(path)
    with pytest.raises(InputError, match="rows is 0"):
        score("sample:digits-vit", rows=0)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_pictures_have_the_same_bytes_each_time(vit: Scores, suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        vit.plot(path)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    if suffix == ".svg":
        lines = re.findall(r'<g id="line2d_\d+">\s*<path d="([^"]*)"[^>]*clip-path', first.decode())
        assert len(lines) == 2 * len(vit.groups) + 1, "a spectrum and a curve for each group, and the line at 0.8"


def test_pictures_are_refused_before_any_work(vit: Scores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"written as \.png"):
        vit.plot(tmp_path / "scores.jpeg")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(InputError, match=re.escape("pip install 'modhifi-graph[plot]'")):
        vit.plot(tmp_path / "scores.png")
    assert list(tmp_path.iterdir()) == []


def test_the_package_exports_it() -> None:
    assert modhifi_graph.score is score
    assert modhifi_graph.SubsetFidelity.__name__ == "SubsetFidelity"
    from modhifi_graph.scoring import Contributions, Moments, Subset, SubsetFidelity

    assert {c.__name__ for c in (Contributions, Moments, Subset, SubsetFidelity)} == {
        "Contributions",
        "Moments",
        "Subset",
        "SubsetFidelity",
    }
