"""Mode "paper": rounds that end where the budget does, weights scaled as the formula says, one plan for the dense model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

import modhifi_graph
from modhifi_graph.axes.cost import Cost
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.errors import InputError
from modhifi_graph.frontends.frontend import Optimized
from modhifi_graph.jobs.rounds import removable
from modhifi_graph.observe.ridge import RIDGE
from modhifi_graph.passes.normal_form import normalise
from modhifi_graph.plan import Plan
from modhifi_graph.prove.verification import verify_files
from modhifi_graph.scoring.hifi import CRITERIA, SETS, Claims
from modhifi_graph.select.budget import Limits

from ..oracles import modules, small
from ..oracles.layers import Net, parameter, run

MODELS = (
    "conv_chain",
    "residual_projection",
    "depthwise_pointwise",
    "grouped_conv_in3",
    "mlp_gelu_erf",
    "attention_gqa",
)


def paper(name: str, samples: int = 32, **options: Any) -> Optimized:
    proto = small.SMALL[name]()
    settings = {"percentile": 0.2, "bench_seconds": 0, "threads": 1, **options}
    return modhifi_graph.optimize(proto, small.samples(proto, 0, samples), mode="paper", **settings)


def cost_of(name: str) -> tuple[Any, Cost]:
    groups = find_groups(couple(lift(normalise(ir.from_proto(small.SMALL[name]()), name)).graph))
    return groups, Cost(groups)


class TestBudget:
    @pytest.mark.parametrize("kind", ["macs", "params"])
    @pytest.mark.parametrize("name", MODELS)
    def test_it_is_met_and_one_component_more_would_not(self, name: str, kind: str) -> None:
        result = paper(name, **{kind: 0.7})
        groups, cost = cost_of(name)
        measure = getattr(cost, kind)
        left = {factor: len(kept) for factor, kept in result.plan.resolve(groups).items()}
        assert result.report[kind] == {"before": measure(), "after": measure(left)}
        assert measure(left) <= 0.7 * measure()
        assert any(measure({**left, factor: count + 1}) > 0.7 * measure() for factor, count in left.items())
        assert not [w for w in result.report["warnings"] if "budget" in w]

    @pytest.mark.parametrize("criterion", CRITERIA)
    @pytest.mark.parametrize("sets", SETS)
    def test_the_rounds_add_up(self, criterion: str, sets: str) -> None:
        result = paper("residual_projection", macs=0.4, criterion=criterion, hifi_sets=sets)
        rounds, components = result.report["rounds"], result.report["components"]
        assert len(rounds) > 1
        assert sum(row["removed"] for row in rounds) == components["before"] - components["after"]
        assert rounds[-1]["macs"] == result.report["macs"]["after"]
        assert rounds[-1]["params"] == result.report["params"]["after"]
        assert [row["macs"] for row in rounds] == sorted({row["macs"] for row in rounds}, reverse=True)
        percentiles = [row["percentile"] for row in rounds]
        assert all(0 <= percentile <= 1 for percentile in percentiles)
        assert sets == "layer" or percentiles == sorted(percentiles)
        assert all(row["removed"] <= 0.2 * components["before"] + 1 for row in rounds)
        assert result.plan.settings["criterion"] == criterion
        assert result.plan.settings["hifi_sets"] == sets
        assert json.loads(json.dumps(result.report)) == result.report

    def test_out_of_reach(self) -> None:
        report = paper("conv_chain", macs=0.001).report
        assert [row["after"] for row in report["groups"]] == [1, 1]
        assert any(warning.startswith("the budget macs 0.001 was out of reach") for warning in report["warnings"])

    def test_limits(self) -> None:
        report = paper("conv_chain", macs=0.001, min_keep=3).report
        assert [row["after"] for row in report["groups"]] == [3, 3]
        assert [row["after"] for row in paper("conv_chain", macs=0.001, skip=("w0",)).report["groups"]] == [8, 1]
        assert [row["after"] for row in paper("conv_chain", macs=0.001, align=4).report["groups"]] == [4, 4]


class TestEmergent:
    def test_as_many_rounds_as_were_asked_for(self) -> None:
        one, three = (paper("conv_chain", rounds=n, percentile=0.7) for n in (1, 3))
        assert [len(result.report["rounds"]) for result in (one, three)] == [1, 3]
        assert [row["percentile"] for row in three.report["rounds"]] == [0.7] * 3
        assert three.report["macs"]["after"] < one.report["macs"]["after"] < one.report["macs"]["before"]
        assert three.report["rounds"][0] == one.report["rounds"][0]
        kept = {entry.name: set(entry.keep) for entry in one.plan.groups}
        assert all(set(entry.keep) <= kept.get(entry.name, set(range(99))) for entry in three.plan.groups)

    @pytest.mark.parametrize(("sets", "holder"), [("layer", "layer"), ("channel", "output channel")])
    def test_one_round_is_the_default_and_may_remove_nothing(self, sets: str, holder: str) -> None:
        result = paper("conv_chain", percentile=0.01, hifi_sets=sets)
        assert [row["removed"] for row in result.report["rounds"]] == [0]
        assert result.plan.groups == ()
        assert any(
            warning == f"at percentile 0.01 every component is in the HiFi set of some {holder}"
            for warning in result.report["warnings"]
        )


def test_a_consumer_that_cannot_be_repaired_keeps_its_inputs() -> None:
    proto = small.build("""
        g (float[N,6] x, float[5] shift) => (float[N,5] y)
        <float[6,12] w0, float[12] b0, float[12,10] w1, float[10] b1, float[10,5] w2> {
          h = Gemm(x, w0, b0)
          r = Relu(h)
          i = Gemm(r, w1, b1)
          s = Relu(i)
          y = Gemm(s, w2, shift)
        }""")
    calib = {"x": small.samples(proto, 0, 64)["x"], "shift": np.zeros(5, np.float32)}
    result = modhifi_graph.optimize(proto, calib, mode="paper", macs=0.7, bench_seconds=0, threads=1)
    first, second = result.report["groups"]
    assert first["after"] < first["before"]
    assert second["after"] == second["before"] == 10
    assert second["not_scored"].endswith("what it adds is no constant, so it cannot be repaired")


class TestRemovable:
    def claim(self, within: list[float], overall: list[float]) -> tuple[Claims, Any]:
        group = Net.named("conv_chain").group("w0")
        return Claims(group, np.arange(8), np.array(within), np.array(overall)), group

    def test_the_lowest_claim_first_then_the_lowest_in_the_layer(self) -> None:
        claim, group = self.claim([0.5, 0.25, 0.5, 0.125, 1, 1, 0.75, 1], [0.3, 0.9, 0.1, 0.9, 1, 1, 1, 1])
        assert removable([claim], 0.5, Limits(align=1)) == {group: [3, 1, 2, 0]}
        assert removable([claim], 0.49, Limits(align=1)) == {group: [3, 1]}
        assert removable([claim], 0.1, Limits(align=1)) == {}
        stopped = removable([claim], 0.5, Limits(align=1), lambda left: left[group.factor] <= 5)
        assert stopped == {group: [3, 1, 2]}

    def test_whole_steps_and_no_fewer_than_may_stay(self) -> None:
        claim, group = self.claim([0.1] * 8, list(np.arange(8) / 8))
        assert removable([claim], 1.0, Limits(align=3)) == {group: [0, 1, 2, 3, 4]}
        assert removable([claim], 1.0, Limits(align=1, min_keep=6)) == {group: [0, 1]}


class TestScaling:
    def test_every_round_scales_what_the_one_before_left(self) -> None:
        """The weights after two rounds are those after one, times delta* from regressing on the contributions there."""
        options: dict[str, Any] = {"percentile": 0.85, "only": ("w0",), "hifi_sets": "channel"}
        one, two = (paper("conv_chain", 16, rounds=n, **options) for n in (1, 2))
        first, second = (list(result.plan.groups[0].keep) for result in (one, two))
        assert set(second) < set(first) < set(range(8))
        places = [first.index(i) for i in second]
        proto = small.SMALL["conv_chain"]()
        net = Net.of(one.model)
        net.feeds.update(small.samples(proto, 0, 16))
        rows, before = (
            net.rows("w1")[0],
            parameter(net.model, "Conv", 1, 1).reshape(6, len(first), 9).astype(np.float64),
        )
        after = parameter(ir.from_proto(two.model), "Conv", 1, 1).reshape(6, len(second), 9)
        windows = rows.reshape(len(rows), len(first), 9)
        windows = windows - windows.mean(0)
        for channel in range(6):
            each = np.einsum("rct,ct->rc", windows, before[channel])
            kept, gone = each[:, places], np.delete(each, places, 1).sum(1)
            gram = kept.T @ kept / len(kept)
            damping = RIDGE * np.diag(gram).mean() * np.eye(len(gram))
            delta = 1 + np.linalg.solve(gram + damping, kept.T @ gone / len(kept))
            np.testing.assert_allclose(after[channel], delta[:, None] * before[channel][places], rtol=2e-3, atol=1e-5)

    def test_repair_pays(self) -> None:
        proto = small.SMALL["conv_chain"]()
        fresh = small.samples(proto, 1, 256)
        expected = run(proto, fresh)["y"]
        errors = []
        for method in ("none", "bias", "scalar", "lstsq"):
            slim = paper("conv_chain", 256, rounds=1, compensation=method, percentile=0.75)
            errors.append(float(np.mean((run(slim.model, fresh)["y"] - expected) ** 2) / expected.var()))
        assert errors[0] > errors[1] > errors[2] > errors[3] > 0


class TestProof:
    @pytest.mark.parametrize("name", MODELS)
    def test_the_plan_is_one_for_the_dense_model(self, name: str, tmp_path: Path) -> None:
        result = paper(name, macs=0.6)
        assert result.report["verify"]["max_abs_error"] <= result.report["verify"]["tolerance"]
        assert all(row["error"] < 1e-2 for row in result.report["rounds"])
        onnx.save(small.SMALL[name](), tmp_path / "dense.onnx")
        result.save(tmp_path / "slim.onnx")
        (tmp_path / "plan.json").write_text(json.dumps(result.plan.to_json()))
        found = verify_files(tmp_path / "dense.onnx", tmp_path / "slim.onnx", tmp_path / "plan.json", threads=1)
        assert found.max_abs_error <= found.tolerance

    def test_batch_norms_that_are_kept_get_new_statistics(self, tmp_path: Path) -> None:
        name = "batchnorm_opset15"
        with_new, with_old = (
            paper(name, macs=0.6, fold_batchnorm=False, reestimate_batchnorm=anew) for anew in (None, False)
        )
        assert with_new.plan.groups == with_old.plan.groups
        assert with_new.plan.settings["reestimate_batchnorm"] is True

        def statistics(result: Optimized) -> list[np.ndarray]:
            norm = next(node for node in ir.from_proto(result.model).graph if node.op_type == "BatchNormalization")
            return [v.const_value.numpy() for v in norm.inputs[3:5] if v is not None and v.const_value is not None]

        assert not any(np.allclose(a, b) for a, b in zip(statistics(with_new), statistics(with_old), strict=True))
        onnx.save(small.SMALL[name](), tmp_path / "dense.onnx")
        with_new.save(tmp_path / "slim.onnx")
        (tmp_path / "plan.json").write_text(json.dumps(with_new.plan.to_json()))
        found = verify_files(tmp_path / "dense.onnx", tmp_path / "slim.onnx", tmp_path / "plan.json", threads=1)
        assert found.max_abs_error <= found.tolerance

    def test_the_same_seed_gives_the_same_bytes(self) -> None:
        first, again = (paper("residual_projection", macs=0.5) for _ in range(2))
        assert first.model.SerializeToString(deterministic=True) == again.model.SerializeToString(deterministic=True)
        assert first.plan == again.plan


class TestDialects:
    @pytest.fixture(scope="class")
    @staticmethod
    def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
        pytest.importorskip("onnxscript")
        path = tmp_path_factory.mktemp("onnx") / "residual.onnx"
        example = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        torch.onnx.export(
            modules.build("residual")[0], (example,), path, dynamo=True, verbose=False, optimize=False, input_names=["x"],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), external_data=False,
        )  # fmt: skip
        return path

    @pytest.mark.parametrize("keep_batchnorm", [False, True])
    @pytest.mark.parametrize("sets", SETS)
    def test_the_same_plan_and_nearly_the_same_outputs(self, path: Path, keep_batchnorm: bool, sets: str) -> None:
        module = modules.build("residual")[0]
        x = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        settings: dict[str, Any] = {"mode": "paper", "macs": 0.5, "percentile": 0.2, "bench_seconds": 0}
        settings.update(fold_batchnorm=not keep_batchnorm, hifi_sets=sets)
        mine = modhifi_graph.optimize(module, x[:4], calib=x, **settings)
        other = modhifi_graph.optimize(str(path), {"x": x.numpy()}, **settings)
        norms = [node.op_type for node in other.model.graph.node].count("BatchNormalization")
        assert norms == (3 if keep_batchnorm else 0)
        assert mine.plan.groups == other.plan.groups != ()
        rounds, others = mine.report["rounds"], other.report["rounds"]
        assert [row["removed"] for row in rounds] == [row["removed"] for row in others]
        assert [row["percentile"] for row in rounds] == pytest.approx([row["percentile"] for row in others])
        with torch.no_grad():
            found = mine.model(x).numpy()
        (expected,) = run(other.model, {"x": x.numpy()}).values()
        np.testing.assert_allclose(found, expected, atol=1e-2 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"macs": 0.5, "rounds": 2}, "mode paper goes on until a budget is met: give macs or params, or rounds"),
        ({"keep": 0.5}, "mode paper finds out itself how much of each group stays"),
        ({"plan": Plan()}, "mode paper finds out itself how much of each group stays"),
        ({"rounds": 0}, "rounds is 0; expected at least 1"),
        ({"percentile": 1.0}, "percentile is 1; expected a fraction between 0 and 1"),
        ({"percentile": 0.0}, "percentile is 0; expected a fraction between 0 and 1"),
        ({"percentile": float("nan")}, "percentile is nan; expected a fraction between 0 and 1"),
        ({"hifi_sets": "kernel"}, "hifi_sets 'kernel' is unknown; choose one of layer, channel"),
        ({"criterion": "obs"}, "criterion 'obs' is none of mode paper's: fidelity, alpha, rowsum, energy"),
        (
            {"compensation": "sequential"},
            "compensation 'sequential' is none of mode paper's: none, bias, scalar, lstsq",
        ),
        ({"mode": "fast", "macs": 0.5}, "mode 'fast' is unknown; choose one of default, paper"),
        ({"mode": "default", "macs": 0.5, "rounds": 2}, "rounds are the paper's: give mode paper with them"),
        ({"mode": "default"}, "give exactly one of macs, params, keep, speedup, latency, fidelity and plan"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    proto = small.SMALL["conv_chain"]()
    with pytest.raises(InputError) as caught:
        modhifi_graph.optimize(proto, small.samples(proto), bench_seconds=0, **{"mode": "paper", **options})
    assert str(caught.value).startswith(message)


def test_without_inputs_they_are_synthesised() -> None:
    result = modhifi_graph.optimize(small.SMALL["conv_chain"](), mode="paper", macs=0.7, samples=20, bench_seconds=0)
    assert (result.report["calibration"]["source"], result.report["calibration"]["samples"]) == ("synthesised", 20)
    assert result.report["macs"]["after"] <= 0.7 * result.report["macs"]["before"]
