"""Inputs as a model declares them, and random ones that fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from modhifi_graph.errors import InputError
from modhifi_graph.interface import InputSpec, random_inputs, specs_of

from ..oracles.specs import X, spec


class TestSpecs:
    def test_of_a_model(self) -> None:
        weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
        inputs = [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, None, -1]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("ids", TensorProto.INT64, []),
        ]
        graph = helper.make_graph([], "g", inputs, [], [weight])
        found = specs_of(helper.make_model(graph))
        assert found == (spec("x", "batch", 3, None, None), spec("ids", dtype=np.int64))
        assert str(found[0]) == "x: float32 (batch, 3, ?, ?)"

    @pytest.mark.parametrize(
        "value",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
            helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [1]),
        ],
    )
    def test_refuses_what_has_no_rank(self, value: onnx.ValueInfoProto) -> None:
        with pytest.raises(InputError, match="graph input x: expected a tensor of known rank"):
            specs_of(helper.make_model(helper.make_graph([], "g", [value], [])))


class TestRandomInputs:
    def test_values_types_and_seed(self) -> None:
        specs = [
            spec("x", "batch", 3, 16, 16),
            spec("half", "batch", 3, dtype=np.float16),
            spec("ids", "batch", "seq", dtype=np.int64),
            spec("mask", "batch", "seq", dtype=np.bool_),
            spec("rate", dtype=np.int64),
        ]
        first, again, other = (random_inputs(specs, seed, batch=64) for seed in (0, 0, 1))
        for wanted in specs:
            assert first[wanted.name].dtype == wanted.dtype
            np.testing.assert_array_equal(first[wanted.name], again[wanted.name])
        assert not np.array_equal(first["x"], other["x"])
        assert abs(first["x"].mean()) < 0.02
        assert abs(first["x"].std() - 1) < 0.02
        assert np.unique(first["ids"]).tolist() == [0, 1]
        assert first["mask"].shape == (64, 8)
        assert first["rate"].shape == ()

    def test_sizes(self) -> None:
        specs = [
            spec("positions", "seq"),
            spec("ids", "batch", "seq"),
            spec("state", 2, "batch", 5),
            spec("open", None, None),
            spec("cache", "batch", 4, "past", 2),
            spec("attention", "batch", "past + seq"),
            spec("fixed", 1, 3),
        ]

        def shapes(**options: Any) -> list[tuple[int, ...]]:
            return [array.shape for array in random_inputs(specs, 0, **options).values()]

        assert shapes() == [(8,), (2, 8), (2, 2, 5), (2, 8), (2, 4, 8, 2), (2, 16), (1, 3)]
        assert shapes(batch=5, dims={"seq": 4, "past": 0}) == [
            (4,), (5, 4), (2, 5, 5), (5, 8), (5, 4, 0, 2), (5, 4), (1, 3),
        ]  # fmt: skip
        assert shapes(dims={"past + seq": 3})[5] == (2, 3)

    def test_refusals(self) -> None:
        with pytest.raises(InputError, match="batch=0"):
            random_inputs([X], 0, batch=0)
        with pytest.raises(InputError, match="'seq': -1"):
            random_inputs([X], 0, dims={"seq": -1})
        with pytest.raises(InputError, match="cannot synthesise the input text: object"):
            random_inputs([InputSpec("text", ("n",), np.dtype(object))], 0)
