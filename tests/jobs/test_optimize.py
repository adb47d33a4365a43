"""The main job from end to end: what comes back, what is promised, and what is refused."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modhifi_graph.errors import InputError
from modhifi_graph.exporters.onnxruntime import Engine
from modhifi_graph.jobs.optimize import Optimized, optimize
from modhifi_graph.models.opening import open_model
from modhifi_graph.options.options import made
from modhifi_graph.passes.compensate import METHODS
from modhifi_graph.plan import GroupPlan, Plan
from modhifi_graph.prove.verification import verify_files
from modhifi_graph.scoring.scores import CRITERIA

from ..oracles import small

DIGITS = "sample:digits-cnn"
FEW: dict[str, Any] = {"keep": 0.5, "samples": 60, "only": ("*stage3*",), "bench_seconds": 0, "threads": 1}
"""The last two of the seven groups of the sample: measuring and repairing all of them takes a minute."""

ALWAYS = {
    "macs", "params", "bytes", "components", "groups", "branches", "pinned", "fidelity", "calibration", "warnings",
    "verify", "seconds", "plan",
}  # fmt: skip


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return Engine.compile(model, threads=1).run(feeds)


def serialised(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


@functools.cache
def model(name: str = "conv_chain") -> onnx.ModelProto:
    return small.SMALL[name]()


def feeds(name: str = "conv_chain", samples: int = 64, seed: int = 0) -> dict[str, np.ndarray]:
    return small.samples(model(name), seed, samples)


def quick(source: Any = None, calib: Any = None, name: str = "conv_chain", **options: Any) -> Optimized:
    """Optimise a small model; half of the multiply-accumulates by default."""
    if not {"macs", "params", "keep", "plan"} & options.keys():
        options["macs"] = 0.5
    source, calib = model(name) if source is None else source, feeds(name) if calib is None else calib
    return optimize(source, calib, bench_seconds=0, threads=1, **options)


@pytest.fixture(scope="module")
def digits() -> Optimized:
    return optimize(DIGITS, **FEW)


class TestDigits:
    def test_the_report(self, digits: Optimized) -> None:
        report = digits.report
        assert report.keys() == ALWAYS | {"accuracy"}
        assert json.loads(json.dumps(report)) == report
        assert report["macs"]["before"] == 180_749_248
        assert 0.9 * 180_749_248 < report["macs"]["after"] < 0.97 * 180_749_248
        assert report["params"]["after"] < report["params"]["before"]
        assert report["bytes"]["after"] == digits.model.ByteSize() < report["bytes"]["before"]
        assert report["accuracy"]["before"] == pytest.approx(99.17, abs=0.2)
        assert report["accuracy"]["after"] > 96
        assert 0.95 < report["fidelity"] < 1
        assert report["verify"]["max_abs_error"] <= report["verify"]["tolerance"] < 1e-2
        assert report["verify"]["runs"] == 2
        assert list(report["seconds"]) == [
            "load", "inputs", "couple", "score", "plan", "slim", "verify", "compensate", "check", "time",
        ]  # fmt: skip
        assert report["plan"] == digits.plan.to_json()
        assert report["plan"]["settings"] == {
            "keep": 0.5, "criterion": "obs", "compensation": "joint", "seed": 0, "samples": 60,
            "fold_batchnorm": True,
        }  # fmt: skip

    def test_groups_add_up(self, digits: Optimized) -> None:
        rows = digits.report["groups"]
        assert len(rows) == 7
        for when in ("before", "after"):
            assert sum(row[when] for row in rows) == digits.report["components"][when]
        cut = {row["name"]: row["after"] for row in rows if row["after"] < row["before"]}
        assert cut == {entry.name: len(entry.keep) for entry in digits.plan.groups}
        assert cut == {"stage3.conv1.weight": 48, "stage3.conv2.weight": 48}

    def test_the_same_seed_gives_the_same_bytes(self, digits: Optimized) -> None:
        again = optimize(DIGITS, **FEW)
        assert serialised(again.model) == serialised(digits.model)
        assert again.plan == digits.plan

    def test_its_plan_gives_the_same_bytes(self, digits: Optimized) -> None:
        plan = Plan.from_json(json.loads(json.dumps(digits.plan.to_json())))
        again = optimize(DIGITS, plan=plan, samples=60, bench_seconds=0, threads=1)
        assert serialised(again.model) == serialised(digits.model)
        assert again.report["macs"] == digits.report["macs"]
        assert again.report["fidelity"] == digits.report["fidelity"]

    def test_the_files_verify(self, digits: Optimized, tmp_path: Path) -> None:
        digits.save(tmp_path / "slim.onnx")
        (tmp_path / "plan.json").write_text(json.dumps(digits.plan.to_json()))
        assert serialised(onnx.load(tmp_path / "slim.onnx")) == serialised(digits.model)
        result = verify_files(DIGITS, tmp_path / "slim.onnx", tmp_path / "plan.json", threads=1)
        assert result.max_abs_error <= result.tolerance


class TestSources:
    def test_a_path_gives_a_proto(self, tmp_path: Path) -> None:
        onnx.save(model(), tmp_path / "model.onnx")
        expected = serialised(quick().model)
        for source in (tmp_path / "model.onnx", str(tmp_path / "model.onnx")):
            result = quick(source)
            assert isinstance(result.model, onnx.ModelProto)
            assert serialised(result.model) == expected
        assert serialised(onnx.load(tmp_path / "model.onnx")) == serialised(model())

    def test_a_proto_gives_a_proto(self) -> None:
        mine = small.SMALL["conv_chain"]()
        before = serialised(mine)
        result = quick(mine)
        assert isinstance(result.model, onnx.ModelProto)
        assert serialised(mine) == before != serialised(result.model)

    def test_an_ir_model_gives_one(self) -> None:
        mine = ir.from_proto(model())
        before = serialised(ir.to_proto(mine))
        result = quick(mine)
        assert isinstance(result.model, ir.Model)
        assert result.model is not mine
        assert serialised(ir.to_proto(mine)) == before
        found = run(ir.to_proto(result.model), feeds())
        np.testing.assert_array_equal(found["y"], run(quick().model, feeds())["y"])

    def test_a_graphsurgeon_graph_gives_one(self) -> None:
        graphsurgeon = pytest.importorskip("onnx_graphsurgeon")
        mine = graphsurgeon.import_onnx(model())
        before = serialised(graphsurgeon.export_onnx(mine))
        result = quick(mine)
        assert isinstance(result.model, graphsurgeon.Graph)
        assert serialised(graphsurgeon.export_onnx(mine)) == before
        found = run(graphsurgeon.export_onnx(result.model), feeds())
        np.testing.assert_array_equal(found["y"], run(quick().model, feeds())["y"])

    def test_external_data(self, tmp_path: Path) -> None:
        copy = onnx.ModelProto.FromString(model().SerializeToString())  # saving empties the tensors
        onnx.save(copy, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
        assert (tmp_path / "weights.bin").stat().st_size > 1000
        result = quick(tmp_path / "model.onnx")
        assert serialised(result.model) == serialised(quick().model)
        assert not any(tensor.external_data for tensor in result.model.graph.initializer)

    def test_a_fixed_batch_of_one(self) -> None:
        fixed = small.build(small.CONVOLUTIONS["conv_chain"].replace("float[N,", "float[1,"))
        result = quick(fixed)
        assert [d.dim_value for d in result.model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 8, 8]
        assert result.report["macs"]["after"] <= 0.5 * result.report["macs"]["before"]
        assert result.report["fidelity"] > 0.8
        assert result.report["fidelity"] == pytest.approx(quick().report["fidelity"], abs=0.02)

    def test_saving_is_what_was_returned(self, tmp_path: Path) -> None:
        result = quick()
        result.save(tmp_path / "slim.onnx")
        assert serialised(onnx.load(tmp_path / "slim.onnx")) == serialised(result.model)
        assert open_model(tmp_path / "slim.onnx").label.endswith("slim.onnx")


class TestMethods:
    @pytest.fixture(scope="class")
    @staticmethod
    def fidelities() -> dict[tuple[str, str], float]:
        """Fidelity on inputs that nothing was calibrated on."""
        fresh, found = feeds(seed=1, samples=256), {}
        expected = run(model(), fresh)["y"]
        for criterion in CRITERIA:
            plan = quick(criterion=criterion, compensation="none").plan
            for method in METHODS if criterion == "obs" else ("none", "lstsq", "sequential"):
                slim = quick(plan=plan, compensation=method)
                found[criterion, method] = (
                    1 - float(np.mean((run(slim.model, fresh)["y"] - expected) ** 2)) / expected.var()
                )
        return found

    @pytest.mark.parametrize("criterion", CRITERIA)
    def test_repair_pays_whatever_was_removed(self, fidelities: dict[tuple[str, str], float], criterion: str) -> None:
        each = [fidelities[criterion, method] for method in ("none", "lstsq", "sequential")]
        assert each[0] < each[1] < 1
        assert each[0] < each[2] < 1

    def test_each_repair_is_better_than_the_one_before(self, fidelities: dict[tuple[str, str], float]) -> None:
        each = [fidelities["obs", method] for method in METHODS]
        assert each == sorted(each)

    def test_the_best_is_better_than_the_simplest(self, fidelities: dict[tuple[str, str], float]) -> None:
        assert fidelities["obs", "sequential"] > fidelities["magnitude", "none"] + 0.1
        assert fidelities["obs", "sequential"] > fidelities["random", "sequential"]
        assert fidelities["obs", "sequential"] > fidelities["obs", "none"]

    @pytest.mark.parametrize("criterion", CRITERIA)
    def test_each_criterion_meets_the_budget_and_the_seed_decides(self, criterion: str) -> None:
        first, again = (quick(criterion=criterion, compensation="none") for _ in range(2))
        assert first.report["macs"]["after"] <= 0.5 * first.report["macs"]["before"]
        assert serialised(first.model) == serialised(again.model)
        assert first.plan.settings["criterion"] == criterion

    @pytest.mark.parametrize("criterion", ["magnitude", "random"])
    def test_two_criteria_need_no_inputs(self, criterion: str) -> None:
        result = optimize(model(), macs=0.5, criterion=criterion, compensation="none", bench_seconds=0)
        assert result.report["macs"]["after"] <= 0.5 * result.report["macs"]["before"]
        assert result.report["fidelity"] is None
        assert result.plan.settings["samples"] == 0

    def test_another_seed_draws_another_subset(self) -> None:
        plans = [quick(criterion="random", compensation="none", seed=seed).plan.groups for seed in (0, 1)]
        assert plans[0] != plans[1]


class TestBudgets:
    @pytest.mark.parametrize("fraction", [0.25, 0.7])
    @pytest.mark.parametrize("kind", ["macs", "params"])
    def test_it_is_met(self, kind: str, fraction: float) -> None:
        report = quick(**{kind: fraction}, compensation="none").report
        assert report[kind]["after"] <= fraction * report[kind]["before"]
        assert report["warnings"] == []

    def test_what_the_report_counts_is_what_the_file_holds(self) -> None:
        result = quick(params=0.4)
        floats = [t for t in result.model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
        assert result.report["params"]["after"] == sum(int(np.prod(t.dims)) for t in floats)

    def test_keep(self) -> None:
        rows = quick(keep=0.5, compensation="none").report["groups"]
        assert [(row["before"], row["after"]) for row in rows] == [(8, 4), (6, 3)]

    def test_everything_may_stay(self) -> None:
        for kind in ("macs", "params", "keep"):
            result = quick(**{kind: 1.0})
            assert result.plan.groups == ()
            assert result.report["warnings"] == []
            np.testing.assert_allclose(run(result.model, feeds())["y"], run(model(), feeds())["y"], atol=1e-6)

    def test_out_of_reach(self) -> None:
        report = quick(macs=0.001, compensation="none").report
        assert [row["after"] for row in report["groups"]] == [1, 1]
        (warning,) = report["warnings"]
        assert warning.startswith("the budget macs 0.001 was out of reach; 0.0")

    def test_limits(self) -> None:
        result = quick(keep=0.1, min_keep=3, compensation="none")
        assert [row["after"] for row in result.report["groups"]] == [3, 3]
        result = quick(keep=0.6, align=4, compensation="none")
        assert [row["after"] for row in result.report["groups"]] == [4, 4]
        result = quick(keep=0.5, only=("w1",), compensation="none")
        assert [row["after"] for row in result.report["groups"]] == [8, 3]
        result = quick(keep=0.5, skip=("*",))
        assert result.report["warnings"] == [
            "nothing was removed: every group was left out or is already as small as it may be"
        ]


class TestNothingToPrune:
    @pytest.mark.parametrize("name", ["if_subgraph", "gru", "channel_softmax_gate"])
    def test_there_is_a_warning_and_the_model_computes_what_it_did(self, name: str) -> None:
        result = quick(name=name)
        assert result.plan == Plan((), result.plan.settings)
        assert result.report["macs"]["after"] == result.report["macs"]["before"]
        assert result.report["warnings"][0].startswith("nothing can be pruned here")
        assert result.report["fidelity"] == pytest.approx(1.0)
        before, after = run(model(name), feeds(name)), run(result.model, feeds(name))
        for output, expected in before.items():
            np.testing.assert_allclose(after[output], expected, rtol=1e-5, atol=1e-6)


class TestBatchNorm:
    @pytest.mark.parametrize("name", ["batchnorm_opset15", "batchnorm_opset9"])
    def test_kept(self, name: str, tmp_path: Path) -> None:
        def norms(proto: onnx.ModelProto) -> int:
            return sum(node.op_type == "BatchNormalization" for node in proto.graph.node)

        kept, folded = (quick(name=name, fold_batchnorm=fold) for fold in (False, True))
        assert norms(kept.model) == norms(model(name)) > norms(folded.model)
        assert kept.report["verify"]["max_abs_error"] <= kept.report["verify"]["tolerance"]
        assert kept.report["macs"]["after"] <= 0.5 * kept.report["macs"]["before"]
        assert kept.report["fidelity"] > 0.7
        onnx.save(model(name), tmp_path / "dense.onnx")
        kept.save(tmp_path / "slim.onnx")
        (tmp_path / "plan.json").write_text(json.dumps(kept.plan.to_json()))
        found = verify_files(tmp_path / "dense.onnx", tmp_path / "slim.onnx", tmp_path / "plan.json", threads=1)
        assert found.max_abs_error <= found.tolerance


class TestOutputs:
    def test_an_output_in_the_middle(self) -> None:
        result = quick(name="two_outputs", macs=0.7)
        assert result.report["fidelity"] > 0.7
        assert [value.name for value in result.model.graph.output] == ["y", "feature"]
        assert result.report["macs"]["after"] <= 0.7 * result.report["macs"]["before"]

    def test_a_scalar_input_that_comes_first(self) -> None:
        scaled = small.build("""
            g (float scale, float[N,6] x) => (float[N,5] y) <float[6,12] w0, float[12] b0, float[12,5] w1> {
              h = Gemm(x, w0, b0)
              r = Relu(h)
              q = Mul(r, scale)
              y = MatMul(q, w1)
            }""")
        calib = {"scale": np.float32(2.0), "x": np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)}
        result = quick(scaled, calib, macs=0.6)
        assert result.report["macs"]["after"] <= 0.6 * result.report["macs"]["before"]
        assert result.report["fidelity"] > 0.8

    def test_only_whole_numbers(self) -> None:
        text = small.CONVOLUTIONS["conv_chain"].replace("float[N,5] y", "int64[N] y")
        classes = small.build(
            text.replace("y = Gemm(f, w2, b2)", "z = Gemm(f, w2, b2)\n y = ArgMax<axis=1, keepdims=0>(z)")
        )
        result = quick(classes)
        assert result.report["macs"]["after"] <= 0.5 * result.report["macs"]["before"]
        assert result.report["fidelity"] is None
        agreement = np.mean(run(result.model, feeds())["y"] == run(classes, feeds())["y"])
        assert agreement > 0.7

    def test_timing(self) -> None:
        report = optimize(
            model(), feeds(), macs=0.5, compensation="none", bench_seconds=0.05, threads=1, batch=2
        ).report
        assert report.keys() == ALWAYS | {"latency_ms", "speedup", "interval", "timing"}
        assert report["timing"]["batch"] == 2
        assert report["speedup"] > 0


class TestDepth:
    """The second block of the network computes next to nothing."""

    @staticmethod
    @functools.cache
    def idle() -> onnx.ModelProto:
        proto = small.SMALL["residual_projection"]()
        for tensor in proto.graph.initializer:
            if tensor.name == "w5":
                tensor.CopyFrom(onnx.numpy_helper.from_array(1e-3 * onnx.numpy_helper.to_array(tensor), "w5"))
        return proto

    def test_an_idle_branch_goes_and_nothing_else(self, tmp_path: Path) -> None:
        calib = feeds("residual_projection")
        share = 1 - 16128 / quick(self.idle(), calib, macs=1.0).report["macs"]["before"]
        wide = quick(self.idle(), calib, macs=share)
        deep = quick(self.idle(), calib, macs=share, depth=True)
        assert deep.plan.branches == ("w5",)
        assert deep.plan.groups == wide.plan.branches == ()
        assert deep.report["branches"] == ["w5"]
        assert deep.report["macs"]["after"] == deep.report["macs"]["before"] - 16128
        assert deep.report["plan"]["settings"]["depth"] is True
        rows = {row["name"]: (row["before"], row["after"]) for row in deep.report["groups"]}
        assert rows["w4"] == (7, 0)
        assert rows["w2"] == (8, 8)
        assert deep.report["fidelity"] > max(0.999, wide.report["fidelity"])
        assert [node.op_type for node in deep.model.graph.node].count("Conv") == 5
        deep.save(tmp_path / "slim.onnx")
        onnx.save(self.idle(), tmp_path / "dense.onnx")
        (tmp_path / "plan.json").write_text(json.dumps(deep.plan.to_json()))
        found = verify_files(tmp_path / "dense.onnx", tmp_path / "slim.onnx", tmp_path / "plan.json", threads=1)
        assert found.max_abs_error <= found.tolerance
        again = quick(self.idle(), calib, plan=Plan.load(tmp_path / "plan.json"))
        assert serialised(again.model) == serialised(deep.model)

    def test_limits(self) -> None:
        calib = feeds("residual_projection")
        for limits in ({"skip": ("w4",)}, {"only": ("w1",)}):
            assert quick(self.idle(), calib, macs=0.8, depth=True, **limits).plan.branches == ()

    def test_by_default_they_may_go_where_time_counts_and_prices_are_measured(self) -> None:
        for goal in ({"speedup": 1.5}, {"latency": 3.0}, {"fidelity": 0.9}):
            assert made(**goal).deep  # type: ignore[arg-type]
        for other in ({"prices": "local"}, {"criterion": "magnitude"}, {"compensation": "lstsq"}, {"depth": False}):
            assert not made(speedup=1.5, **other).deep  # type: ignore[arg-type]
        assert made(macs=0.5, depth=True).deep and not made(macs=0.5).deep

    def test_without_the_flag_none_goes(self) -> None:
        assert quick(self.idle(), feeds("residual_projection"), macs=0.5).plan.branches == ()


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "give exactly one of macs, params, keep, speedup, latency, fidelity and plan"),
            ({"macs": 0.5, "keep": 0.5}, "give exactly one of macs, params, keep, speedup, latency, fidelity and plan"),
            (
                {"macs": 0.5, "plan": Plan()},
                "give exactly one of macs, params, keep, speedup, latency, fidelity and plan",
            ),
            ({"macs": 0}, "macs is 0; expected a fraction above 0 and at most 1"),
            ({"params": 1.5}, "params is 1.5; expected a fraction above 0 and at most 1"),
            ({"keep": -0.1}, "keep is -0.1; expected a fraction above 0 and at most 1"),
            ({"macs": float("nan")}, "macs is nan; expected a fraction above 0 and at most 1"),
            ({"macs": 0.5, "criterion": "taylor"}, "criterion 'taylor' is unknown; choose one of obs, fidelity"),
            ({"macs": 0.5, "compensation": "magic"}, "compensation 'magic' is unknown; choose one of none, bias"),
            ({"plan": Plan((GroupPlan("conv9", 4, (0,)),))}, "plan: the model has no group 'conv9'"),
            ({"plan": Plan((GroupPlan("w0", 9, (0,)),))}, "plan: group 'w0' has 8 components here, 9 in the plan"),
            (
                {"keep": 0.5, "depth": True},
                "depth competes for multiply-accumulates or parameters: give macs or params",
            ),
            (
                {"macs": 0.5, "depth": True, "compensation": "lstsq"},
                "compensation 'lstsq' repairs only what lost inputs",
            ),
            ({"plan": Plan(branches=("w2",)), "compensation": "bias"}, "compensation 'bias' repairs only what lost"),
            ({"plan": Plan(branches=("w2",))}, "plan: the model has no residual branch 'w2' that may go"),
            ({"macs": 0.5, "samples": 0}, "calibration: samples is 0; expected 1 or more"),
            ({"macs": 0.5, "prices": "fair"}, "prices 'fair' is unknown; choose one of output, local"),
            ({"macs": 0.5, "prices": "local", "depth": True}, "what a branch is worth is measured on the outputs"),
        ],
    )
    def test_options(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError) as caught:
            optimize(model(), feeds(), bench_seconds=0, **options)
        assert str(caught.value).startswith(message)
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize(
        "options",
        [
            {"macs": 0.5},
            {"macs": 0.5, "criterion": "magnitude"},
            {"macs": 0.5, "criterion": "energy", "compensation": "none"},
            {"macs": 0.5, "criterion": "magnitude", "compensation": "none", "depth": True},
            {"plan": Plan()},
        ],
    )
    def test_without_inputs_they_are_made(self, options: dict[str, Any]) -> None:
        report = optimize(model(), bench_seconds=0, samples=20, **options).report
        assert (report["calibration"]["source"], report["calibration"]["samples"]) == ("synthesised", 20)

    def test_inputs_that_do_not_fit(self) -> None:
        with pytest.raises(InputError, match="the graph has no input z; it wants x: float32"):
            quick(calib={"z": np.zeros((4, 3, 8, 8), dtype=np.float32)})
        with pytest.raises(InputError, match="axis 1 is 4 instead of 3"):
            quick(calib=np.zeros((4, 4, 8, 8), dtype=np.float32))
        with pytest.raises(InputError, match="NaN or infinite"):
            quick(calib=np.full((4, 3, 8, 8), np.nan, dtype=np.float32))
        fixed = small.build(small.CONVOLUTIONS["conv_chain"].replace("float[N,", "float[8,"))
        with pytest.raises(InputError, match="4 samples, but the graph fixes its batch to 8"):
            quick(fixed, np.zeros((4, 3, 8, 8), dtype=np.float32))

    def test_few_rows_are_worth_a_warning(self) -> None:
        report = quick(calib=feeds(samples=2), mirror=False).report
        assert any("2 calibration rows for 6 inputs" in warning for warning in report["warnings"])

    def test_constant_inputs_still_give_a_finite_model(self) -> None:
        result = quick(calib=np.zeros((16, 3, 8, 8), dtype=np.float32))
        assert result.report["macs"]["after"] <= 0.5 * result.report["macs"]["before"]
        assert all(np.isfinite(array).all() for array in run(result.model, feeds()).values())


def test_progress_counts_up_in_every_stage() -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    quick(progress=lambda stage, done, total: seen.setdefault(stage, []).append((done, total)))
    assert list(seen) == ["observe", "score", "measure", "compensate"]
    for steps in seen.values():
        assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))
        assert len({total for _, total in steps}) == 1
