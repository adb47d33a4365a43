"""Forgetting a class, from end to end: what is forgotten, what is not, what is told, and what is refused."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import modhifi_graph
from modhifi_graph import InputError, cli, samples
from modhifi_graph.exporters.onnxruntime import Engine
from modhifi_graph.frontends.frontend import Optimized
from modhifi_graph.jobs.unlearn import sample_sets, unlearn

VIT, CNN = "sample:digits-vit", "sample:digits-cnn"
DIGIT = 8


def answers(model: Any, x: np.ndarray) -> np.ndarray:
    engine = Engine.compile(model, threads=1)
    return engine.run({samples.INPUT: x})[engine.outputs[0]]


@functools.cache
def dense(name: str) -> np.ndarray:
    sample = samples.load(name)
    return answers(onnx.load(sample.path), sample.test)


@functools.cache
def forgotten(name: str = VIT, mode: str = "edit", **options: Any) -> Optimized:
    return unlearn(name, *sample_sets(name, DIGIT, 1), mode=mode, threads=1, **options)


def figures(name: str, result: Optimized) -> tuple[float, float, float]:
    """Percent: forget top-1, and remaining top-1 before and after, on test images."""
    sample = samples.load(name)
    mine = sample.labels == DIGIT
    after, before = answers(result.model, sample.test).argmax(1), dense(name).argmax(1)
    right = [100 * float((found == sample.labels)[~mine].mean()) for found in (before, after)]
    return 100 * float((after[mine] == DIGIT).mean()), right[0], right[1]


def serialised(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


class TestEdit:
    @pytest.mark.parametrize("name", [VIT, CNN])
    def test_the_digit_is_gone_and_the_others_are_not(self, name: str) -> None:
        forget, before, after = figures(name, forgotten(name))
        assert forget <= 1
        assert after >= before - 1

    def test_the_report(self) -> None:
        report = forgotten().report
        assert report["class"] == DIGIT
        assert report["forget"]["before"] == 100
        assert report["forget"]["after"] == 0
        assert report["remain"]["agreement"] > 99
        assert report["layers"][-1] == "logits"
        assert len(report["layers"]) == 2
        assert report["error"] < 1e-4
        assert report["warnings"] == []
        json.dumps(report)

    def test_nothing_changes_where_the_forget_set_counts_nothing(self) -> None:
        found = forgotten(mu=0.0, depth=0)
        np.testing.assert_allclose(answers(found.model, samples.load(VIT).test), dense(VIT), atol=2e-4)

    def test_the_same_seed_gives_the_same_bytes(self) -> None:
        again = unlearn(VIT, *sample_sets(VIT, DIGIT, 1), threads=1)
        assert serialised(again.model) == serialised(forgotten().model)

    def test_only_the_last_layers_change(self) -> None:
        before = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(samples.load(VIT).path).graph.initializer}
        after = {i.name: onnx.numpy_helper.to_array(i) for i in forgotten().model.graph.initializer}
        changed = [n for n in before.keys() & after.keys() if not np.array_equal(before[n], after[n])]
        assert 2 <= len(changed) <= 4  # two weights and their biases, where these have kept their names

    def test_the_last_layer_alone_without_what_remains(self) -> None:
        found = unlearn(VIT, sample_sets(VIT, DIGIT, 1)[0], threads=1)
        forget, before, after = figures(VIT, found)
        assert forget <= 1
        assert after >= before - 5
        assert "remain" not in found.report
        assert len(found.report["layers"]) == 1
        assert found.report["warnings"][0].startswith("no samples of what remains")

    def test_membership_of_unseen_samples(self) -> None:
        sample = samples.load(VIT)
        never = {samples.INPUT: sample.test[sample.labels == DIGIT]}
        found = forgotten_with(never).report["membership"]
        assert set(found) == {"before", "after"}
        for aucs in found.values():
            assert all(0 <= value <= 1 for value in aucs.values())
        members = sample_sets(VIT, DIGIT, 1)[0][samples.INPUT]
        loss = [
            -np.log(_softmax(answers(onnx.load(sample.path), x))[:, DIGIT]) for x in (members, never[samples.INPUT])
        ]
        pairs = (loss[0][:, None] < loss[1][None]).mean() + (loss[0][:, None] == loss[1][None]).mean() / 2
        assert found["before"]["loss"] == pytest.approx(pairs, abs=2e-3)


def forgotten_with(unseen: dict[str, np.ndarray]) -> Optimized:
    return unlearn(VIT, *sample_sets(VIT, DIGIT, 1), unseen=unseen, threads=1)


def _softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


class TestOtherModes:
    def test_plain_shrinks_the_scores_of_the_class(self) -> None:
        found = forgotten(mode="plain")
        sample = samples.load(VIT)
        mine = sample.labels == DIGIT
        scores = answers(found.model, sample.test)
        assert np.square(scores[mine]).mean() < 0.5 * np.square(dense(VIT)[mine]).mean()
        assert figures(VIT, found)[2] > 98

    @pytest.mark.parametrize("mode", ["zero", "negate"])
    def test_the_published_ones_change_kernels_everywhere(self, mode: str) -> None:
        found = forgotten(mode=mode, fraction=0.02)
        assert found.report["fraction"] == 0.02
        assert "layers" not in found.report
        before = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(samples.load(VIT).path).graph.initializer}
        after = {i.name: onnx.numpy_helper.to_array(i) for i in found.model.graph.initializer}
        wide = [
            n for n in before.keys() & after.keys() if before[n].ndim == 2 and not np.array_equal(before[n], after[n])
        ]
        assert len(wide) >= 4


def test_pruned_on_what_remains_first() -> None:
    found = forgotten(macs=0.8)
    assert found.report["macs"]["after"] <= 0.8 * found.report["macs"]["before"]
    assert found.report["forget"] == {"samples": found.report["forget"]["samples"], "before": 100.0, "after": 0.0}
    assert found.plan.groups
    forget, before, after = figures(VIT, found)
    assert forget <= 1
    assert after >= before - 2


def test_modules_and_files_are_edited_alike(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from ..oracles import modules

    module = modules.build("residual")[0]
    x = torch.randn(300, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        module.head.bias -= module(x).mean(0)  # so that every class is seen
        label = int(module(x).argmax(1).bincount().argmax())
        mine = module(x).argmax(1) == label
    path = tmp_path / "residual.onnx"
    torch.onnx.export(
        module, (x[:2],), path, dynamo=True, input_names=["x"], output_names=["y"],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), external_data=False, verbose=False,
    )  # fmt: skip
    mine_np = mine.numpy()
    fresh = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for mode in ("edit", "plain", "zero"):
        options: dict[str, Any] = {"mode": mode, "fraction": 0.2, "threads": 1}
        edited = unlearn(module, x[mine], x[~mine], inputs=x[:4], **options)
        file = unlearn(str(path), {"x": x.numpy()[mine_np]}, {"x": x.numpy()[~mine_np]}, **options)
        with torch.no_grad():
            here = edited.module(fresh).numpy()  # type: ignore[attr-defined]
            before = module(fresh).numpy()
        there = Engine.compile(file.model, threads=1).run({"x": fresh.numpy()})["y"]
        assert np.abs(here - before).max() > 0.05
        np.testing.assert_allclose(here, there, atol=2e-3 * np.abs(here).max())
        assert edited.report["class"] == file.report["class"] == label


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"mode": "erase"}, "mode 'erase' is unknown; choose one of edit, plain, zero, negate"),
            ({"score": "luck"}, "score 'luck' is unknown"),
            ({"mu": -1.0}, "mu is -1"),
            ({"mu": float("nan")}, "mu is nan"),
            ({"depth": -1}, "depth is -1"),
            ({"fraction": 0.0}, "fraction is 0"),
            ({"label": 10}, "there is no class 10; its classes are 0 to 9"),
            ({"macs": 0.5, "remain": None}, "pruning needs samples of what remains"),
        ],
    )
    def test_options(self, options: dict[str, Any], message: str) -> None:
        forget, remain = sample_sets(VIT, DIGIT, 1)
        with pytest.raises(InputError, match=message):
            unlearn(VIT, forget, **{"remain": remain, "threads": 1, **options})

    def test_samples_that_do_not_fit(self) -> None:
        with pytest.raises(InputError, match=r"^the samples to forget: calibration: the graph has no input x"):
            unlearn(VIT, {"x": np.zeros((4, 1, 32, 32), np.float32)})

    def test_a_module_with_no_samples(self) -> None:
        torch = pytest.importorskip("torch")
        linear, x = torch.nn.Linear(4, 3), torch.randn(6, 4)
        with pytest.raises(InputError, match="the samples that remain: there are none"):
            unlearn(linear, x, x[:0])

    def test_a_model_that_is_no_classifier(self) -> None:
        from ..oracles import small

        model = small.build(
            "g (float[N,3,6,6] x) => (float[N,4,6,6] y) <float[4,3,1,1] w, float[4] b> { y = Conv(x, w, b) }"
        )
        with pytest.raises(InputError, match="only classifiers can unlearn a class"):
            unlearn(model, small.samples(model, 0, 8))

    def test_another_class_than_the_samples_show(self) -> None:
        found = unlearn(VIT, *sample_sets(VIT, DIGIT, 1), label=3, threads=1)
        assert found.report["warnings"][0].startswith("only 0 % of the samples to forget were taken for class 3")


class TestCommand:
    def call(self, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as stopped:
            cli.main(["unlearn", *map(str, arguments)])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    def test_json_and_the_file(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        forget, remain = sample_sets(VIT, DIGIT, 1)
        np.savez(tmp_path / "f.npz", **forget)
        np.savez(tmp_path / "r.npz", **remain)
        out = tmp_path / "o.onnx"
        code, told, _ = self.call(
            capsys, VIT, "--forget", tmp_path / "f.npz", "--remain", tmp_path / "r.npz", "-o", out, "--json",
            "--threads", "1",
        )  # fmt: skip
        assert code == 0
        assert json.loads(told)["forget"]["after"] == 0
        assert serialised(onnx.load(out)) == serialised(forgotten().model)

    def test_a_table_for_people(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        code, told, _ = self.call(capsys, VIT, "--class", DIGIT, "-o", tmp_path / "o.onnx", "--threads", 1)
        assert code == 0
        for text in (f"class {DIGIT}, edit", "forget set taken for it, %", "other answers unchanged, %", "Wrote"):
            assert text in told

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([VIT], "give --forget"),
            ([VIT, "--class", "12"], "there is no class 12 among its images"),
            ([VIT, "--forget", "missing.npz"], "the samples to forget: missing.npz: there is no such file"),
        ],
    )
    def test_one_line_for_what_is_wrong(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], message: str
    ) -> None:
        out = tmp_path / "o.onnx"
        code, _, told = self.call(capsys, *arguments, "-o", out)
        assert code == 2
        assert message in told
        assert "\n" not in told.strip()
        assert not out.exists()


def test_it_is_public() -> None:
    assert modhifi_graph.unlearn is unlearn
