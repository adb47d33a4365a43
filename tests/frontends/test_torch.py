"""Modules in, modules out: what comes back runs, trains, saves and exports, and is what the ONNX path makes of it."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import modhifi_graph  # noqa: E402
from modhifi_graph import InputError, Keep, Macs, Params  # noqa: E402
from modhifi_graph.plan import Plan  # noqa: E402

from ..oracles import modules  # noqa: E402


def images(count: int = 64, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def residual() -> torch.nn.Module:
    return modules.build("residual")[0]


@pytest.fixture(scope="module")
def slim(residual):
    return modhifi_graph.optimize(residual, images(4), calib=images(), budget=Macs(0.5), bench_seconds=0.05)


class TestOptimize:
    def test_the_report(self, slim) -> None:
        report = slim.report
        assert 0.35 < report["macs"]["after"] / report["macs"]["before"] <= 0.5
        assert report["verify"]["max_abs_error"] < report["verify"]["tolerance"]
        assert report["fidelity"] > 0.3
        assert report["latency_ms"]["before"]["n"] >= 30
        assert report["bytes"]["after"] < report["bytes"]["before"]

    def test_what_was_handed_in_is_as_it_was(self, residual, slim) -> None:
        fresh = modules.build("residual")[0]
        for (name, mine), theirs in zip(residual.state_dict().items(), fresh.state_dict().values(), strict=True):
            assert torch.equal(mine, theirs), name
        assert not residual.training

    def test_compensation_brings_it_nearer(self, residual, slim) -> None:
        plain = modhifi_graph.optimize(
            residual, images(4), calib=images(), plan=slim.plan, compensation="none", bench_seconds=0
        )
        x = images(seed=2)
        with torch.no_grad():
            dense = residual(x)
            errors = [float((m(x) - dense).square().mean() / dense.var()) for m in (slim.module, plain.module)]
        assert errors[0] < 0.6 * errors[1]

    def test_parameters_have_their_names(self, residual, slim) -> None:
        names = dict(slim.module.named_parameters()).keys()
        kept = {name for name in dict(residual.named_parameters()) if "norm" not in name}
        assert kept <= names
        assert names - kept == {"stem.bias", "conv1.bias", "conv2.bias"}, "what folding a batch norm adds"

    def test_it_trains(self, slim) -> None:
        module = copy.deepcopy(slim.module)
        optimizer = torch.optim.SGD(module.parameters(), lr=1e-2)
        x, losses = images(16), []
        for _ in range(5):
            loss = module(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.9 * losses[0]

    def test_it_trains_as_a_module_does(self) -> None:
        """Modes, frozen weights, gradients, parameter groups by name, a state dict there and back."""
        dense = modules.build("residual")[0]
        dense.point.requires_grad_(False)
        module = modhifi_graph.optimize(dense, images(1), calib=images(), budget=Macs(0.5), bench_seconds=0).module
        assert {child.training for child in module.modules()} == {dense.training}
        module.train()
        assert all(child.training for child in module.modules())
        frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
        assert frozen == {"point.weight", "point.bias"}
        before = copy.deepcopy(module.state_dict())
        decayed = [parameter for name, parameter in module.named_parameters() if name.endswith("weight")]
        others = [parameter for name, parameter in module.named_parameters() if not name.endswith("weight")]
        optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": others}], lr=1e-2)
        module(images(16)).square().mean().backward()
        optimizer.step()
        changed = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == set(before) - frozen
        assert not any(child.training for child in module.eval().modules())
        answer = module(images(4))
        module.load_state_dict(before)
        assert not torch.allclose(module(images(4)), answer)

    def test_one_sample_as_the_example_leaves_the_batch_open(self, residual, slim, tmp_path: Path) -> None:
        """torch.export alone would take the one for a constant, and the module could not be trained in batches."""
        one = modhifi_graph.optimize(residual, images(1), calib=images(), budget=Macs(0.5), bench_seconds=0)
        assert one.plan.groups == slim.plan.groups
        x = images(7, seed=2)
        with torch.no_grad():
            torch.testing.assert_close(one.module(x), slim.module(x))
            one.save(tmp_path / "one.pt2")
            torch.testing.assert_close(torch.export.load(tmp_path / "one.pt2").module()(x), slim.module(x))

    def test_one_sample_where_the_module_takes_no_more(self) -> None:
        class Single(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.up, self.down = torch.nn.Linear(6, 12), torch.nn.Linear(12, 6)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.down(self.up(x.reshape(1, 6)).relu())

        slim = modhifi_graph.optimize(Single(), torch.ones(1, 6), budget=Keep(0.5), bench_seconds=0)
        assert slim.module(torch.ones(1, 6)).shape == (1, 6)
        assert slim.exported_program.module()(torch.ones(1, 6)).shape == (1, 6)

    def test_it_is_exported_where_it_was_moved_to(self, slim) -> None:
        moved = dataclasses.replace(slim, model=copy.deepcopy(slim.module).to("meta"))
        assert {p.device.type for p in moved.exported_program.parameters()} == {"meta"}

    def test_it_saves_and_loads_and_can_be_optimised_again(self, slim, tmp_path: Path) -> None:
        slim.save(tmp_path / "slim.pt2")
        loaded = torch.export.load(tmp_path / "slim.pt2").module()
        x = images(7)
        with torch.no_grad():
            torch.testing.assert_close(loaded(x), slim.module(x))
        again = modhifi_graph.optimize(str(tmp_path / "slim.pt2"), calib=images(), params=0.8, bench_seconds=0)
        assert again.report["params"]["after"] <= 0.8 * slim.report["params"]["after"]

    def test_it_becomes_onnx(self, slim, tmp_path: Path) -> None:
        onnxruntime = pytest.importorskip("onnxruntime")
        slim.to_onnx(tmp_path / "slim.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "slim.onnx", providers=["CPUExecutionProvider"])
        x = images(4)
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, slim.module(x).numpy(), atol=1e-5)

    def test_budgets(self, residual) -> None:
        for budget, figure in ((Params(0.6), "params"), (Keep(0.5), "components")):
            report = modhifi_graph.optimize(
                residual, images(4), calib=images(), budget=budget, compensation="none", bench_seconds=0
            ).report
            assert report[figure]["after"] <= budget.fraction * report[figure]["before"] + 1
        with pytest.raises(InputError, match="exactly one"):
            modhifi_graph.optimize(residual, images(4), budget=Macs(0.5), macs=0.5)


@pytest.fixture(scope="module")
def onnx_path(residual, tmp_path_factory) -> Path:
    pytest.importorskip("onnxscript")
    path = tmp_path_factory.mktemp("onnx") / "residual.onnx"
    torch.onnx.export(
        residual, (images(4),), path, dynamo=True, verbose=False, input_names=["x"],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), external_data=False,
    )  # fmt: skip
    return path


class TestTheSameAsOnnx:
    """The ONNX file of the same module: the same groups, plan and outputs."""

    def test_a_plan_without_a_branch_goes_both_ways(self, residual, onnx_path: Path) -> None:
        """Also as JSON; what both dialects leave of the graph computes the same before and after the repair."""
        onnxruntime = pytest.importorskip("onnxruntime")
        plan = Plan.from_json(json.loads(json.dumps(Plan(branches=("conv2.weight",)).to_json())))
        for compensation in ("none", "sequential"):
            options = {"plan": plan, "compensation": compensation, "bench_seconds": 0}
            mine = modhifi_graph.optimize(residual, images(4), calib=images(), **options)
            other = modhifi_graph.optimize(str(onnx_path), {"x": images().numpy()}, **options)
            assert mine.report["branches"] == other.report["branches"] == ["conv2.weight"]
            assert mine.report["macs"] == other.report["macs"]
            assert not [name for name, _ in mine.module.named_parameters() if name.startswith(("conv1", "conv2"))]
            session = onnxruntime.InferenceSession(other.model.SerializeToString(), providers=["CPUExecutionProvider"])
            x = images(16, seed=3)
            (found,) = session.run(None, {"x": x.numpy()})
            with torch.no_grad():
                expected = mine.module(x).numpy()
            np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())

    def test_depth_competes_in_modules_too(self, residual, onnx_path: Path) -> None:
        one = modhifi_graph.optimize(residual, images(4), calib=images(), macs=0.3, depth=True, bench_seconds=0)
        other = modhifi_graph.optimize(str(onnx_path), {"x": images().numpy()}, macs=0.3, depth=True, bench_seconds=0)
        assert one.plan == other.plan
        assert one.report["macs"]["after"] <= 0.3 * one.report["macs"]["before"]

    def test_the_same_plan_and_nearly_the_same_weights(self, slim, onnx_path: Path) -> None:
        onnxruntime = pytest.importorskip("onnxruntime")
        other = modhifi_graph.optimize(str(onnx_path), {"x": images().numpy()}, macs=0.5, bench_seconds=0)
        assert other.plan.groups == slim.plan.groups
        session = onnxruntime.InferenceSession(other.model.SerializeToString(), providers=["CPUExecutionProvider"])
        x = images(16, seed=3)
        (found,) = session.run(None, {"x": x.numpy()})
        with torch.no_grad():
            expected = slim.module(x).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())

    def test_a_plan_travels_both_ways(self, slim, residual, onnx_path: Path) -> None:
        there = modhifi_graph.optimize(str(onnx_path), plan=slim.plan, compensation="none", bench_seconds=0)
        assert there.report["macs"] == slim.report["macs"]
        back = modhifi_graph.optimize(residual, images(4), plan=there.plan, compensation="none", bench_seconds=0)
        assert back.report["macs"] == slim.report["macs"]


class TestCalls:
    """Arguments, keyword arguments and dicts of outputs stay what they are."""

    def test_keyword_arguments_and_a_dict_of_outputs(self) -> None:
        module, _, kwargs = modules.build("grouped")
        calib = [{"tokens": torch.randn(8, 5, 12), "scale": kwargs["scale"]} for _ in range(3)]
        slim = modhifi_graph.optimize(module, kwargs, calib=calib, budget=Keep(0.6), bench_seconds=0)
        with torch.no_grad():
            answer = slim.module(**kwargs)
            assert answer.keys() == {"out", "mean"}
            assert answer["out"].shape == module(**kwargs)["out"].shape
        assert slim.exported_program.module()(**kwargs)["out"].shape == answer["out"].shape

    def test_a_loader_with_labels(self, residual) -> None:
        data = torch.utils.data.TensorDataset(images(20), torch.zeros(20))
        loader = torch.utils.data.DataLoader(data, batch_size=8)
        slim = modhifi_graph.optimize(residual, images(4), calib=loader, budget=Macs(0.6), bench_seconds=0)
        assert slim.plan.settings["samples"] == 20

    def test_samples_and_seed(self, residual) -> None:
        plans = [
            modhifi_graph.optimize(
                residual, images(4), calib=images(600), budget=Macs(0.6), samples=200, seed=seed,
                compensation="none", bench_seconds=0,
            ).plan
            for seed in (0, 0)
        ]  # fmt: skip
        assert plans[0] == plans[1]
        assert plans[0].settings["samples"] == 200

    def test_a_fixed_batch(self, residual) -> None:
        exported = torch.export.export(residual, (images(4),))
        slim = modhifi_graph.optimize(exported, calib=images(30), budget=Macs(0.6), bench_seconds=0)
        assert slim.plan.settings["samples"] == 28, "seven batches of four"


class TestErrors:
    def test_no_example(self, residual) -> None:
        with pytest.raises(InputError, match="needs example inputs"):
            modhifi_graph.optimize(residual, budget=Macs(0.5))

    def test_what_cannot_be_exported(self) -> None:
        class Branches(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x if x.sum() > 0 else -x

        with pytest.raises(InputError, match=r"torch\.export cannot export it"):
            modhifi_graph.optimize(Branches(), torch.ones(2, 3), budget=Macs(0.5))

    def test_a_file_that_is_no_program(self, tmp_path: Path) -> None:
        (tmp_path / "no.pt2").write_bytes(b"nothing")
        with pytest.raises(InputError, match="is not an exported program"):
            modhifi_graph.optimize(str(tmp_path / "no.pt2"), budget=Macs(0.5))
        with pytest.raises(InputError, match="there is no such file"):
            modhifi_graph.optimize(str(tmp_path / "missing.pt2"), budget=Macs(0.5))

    def test_a_file_with_code_in_it_runs_none(self, residual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A weight that is pickled as a call: PyTorch's reader alone would make the call."""
        from torch.export.pt2_archive import _package

        struck = tmp_path / "struck"

        class Strike:
            def __reduce__(self):
                return Path.touch, (struck,)

        save = torch.save
        with monkeypatch.context() as patched:
            patched.setattr(_package, "_should_use_pickle", lambda tensor: True)
            patched.setattr(torch, "save", lambda thing, *rest, **more: save(Strike(), *rest, **more))
            torch.export.save(torch.export.export(residual, (images(4),)), tmp_path / "evil.pt2")
        monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
        with pytest.raises(InputError, match="read safely"):
            modhifi_graph.optimize(str(tmp_path / "evil.pt2"), calib=images(8), budget=Macs(0.5))
        assert not struck.exists()
        assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
        with contextlib.suppress(Exception):
            torch.export.load(tmp_path / "evil.pt2")
        assert struck.exists(), "the file is as dangerous as it was meant to be"

    def test_empty_calibration(self, residual) -> None:
        with pytest.raises(InputError, match="are empty"):
            modhifi_graph.optimize(residual, images(4), calib=[], budget=Macs(0.5))

    def test_devices(self, residual) -> None:
        with pytest.raises(InputError, match="cannot be used here"):
            modhifi_graph.optimize(residual, images(4), budget=Macs(0.5), device="nowhere")
        with pytest.raises(InputError, match="cannot be used here"):
            modhifi_graph.optimize("sample:digits-cnn", macs=0.5, device="nowhere")


def test_the_command_line_takes_exported_programs(residual, tmp_path: Path) -> None:
    from modhifi_graph import cli

    torch.export.save(torch.export.export(residual, (images(4),), dynamic_shapes=({0: torch.export.Dim.AUTO},)),
                      tmp_path / "dense.pt2")  # fmt: skip
    np.savez(tmp_path / "calib.npz", x=images().numpy())
    arguments = ["optimize", str(tmp_path / "dense.pt2"), "--calib", str(tmp_path / "calib.npz"), "--macs", "0.5", "-o",
                 str(tmp_path / "slim.pt2"), "--plan-out", str(tmp_path / "plan.json"), "--bench-seconds", "0.05"]  # fmt: skip
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 0
    slim = torch.export.load(tmp_path / "slim.pt2").module()
    assert slim(images(5)).shape == (5, 5)
    assert modhifi_graph.Plan.load(tmp_path / "plan.json").settings["samples"] == 64


def test_bfloat16_stays_bfloat16() -> None:
    module, _, _ = modules.build("residual")
    wide = modhifi_graph.optimize(module, images(4), calib=images(), budget=Macs(0.6), bench_seconds=0)
    half = modhifi_graph.optimize(
        module.bfloat16(), images(4).bfloat16(), calib=images().bfloat16(), budget=Macs(0.6), bench_seconds=0
    )
    assert {p.dtype for p in half.module.parameters()} == {torch.bfloat16}
    assert half.report["macs"] == wide.report["macs"]
    assert abs(half.report["fidelity"] - wide.report["fidelity"]) < 0.02
