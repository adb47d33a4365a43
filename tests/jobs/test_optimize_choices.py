"""What is chosen and how it is repaired: criteria, repairs, budgets, limits, whole branches."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from modhifi_graph.jobs.optimize import optimize
from modhifi_graph.options.request import made
from modhifi_graph.passes.compensate import METHODS
from modhifi_graph.plan import Plan
from modhifi_graph.prove.verification import verify_files
from modhifi_graph.scoring.scores import CRITERIA

from ..oracles import small
from .quick import feeds, model, quick, run, serialised


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
