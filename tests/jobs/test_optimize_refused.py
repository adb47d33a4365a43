"""What the main job refuses or warns of, and inputs that it makes itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modhifi_graph.errors import InputError
from modhifi_graph.jobs.optimize import optimize
from modhifi_graph.plan import GroupPlan, Plan

from ..oracles import small
from .quick import feeds, model, quick, run


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
