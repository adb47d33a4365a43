"""Where inputs come from, and everything that is refused on the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modhifi_graph.errors import InputError
from modhifi_graph.graph import Graph, Op, Value
from modhifi_graph.inputs.calibration import Calibration, batch_size, load
from modhifi_graph.inputs.image_folders import Preprocess

from ..oracles.specs import X, counting, spec


def rows(batches: Sequence[dict[str, np.ndarray[Any, Any]]], name: str) -> list[list[float]]:
    return [batch[name][:, 0].tolist() for batch in batches]


class TestSources:
    def test_npz_npy_array_and_mapping_agree(self, tmp_path: Path) -> None:
        data = counting(5, 3)
        np.savez(tmp_path / "c.npz", x=data)
        np.save(tmp_path / "c.npy", data)
        for source in (tmp_path / "c.npz", str(tmp_path / "c.npy"), data, {"x": data}):
            calibration = load(source, [X])
            assert calibration.samples == 5
            assert calibration.axes == {"x": 0}
            np.testing.assert_array_equal(calibration.arrays["x"], data)

    def test_arrays_come_in_the_order_of_the_graph(self) -> None:
        specs = [spec("b", "n", 1), spec("a", "n", 1)]
        assert list(load({"a": counting(2, 1), "b": counting(2, 1)}, specs).arrays) == ["b", "a"]

    def test_a_subset_is_seeded_sorted_and_without_repeats(self) -> None:
        data = {"x": counting(100, 3), "mask": counting(100, 2)}
        specs = [X, spec("mask", "batch", 2)]
        chosen = [load(data, specs, samples=10, seed=seed) for seed in (1, 1, 2)]
        picked = [calibration.arrays["x"][:, 0].tolist() for calibration in chosen]
        assert picked[0] == picked[1] != picked[2]
        assert picked[0] == sorted(set(picked[0]))
        assert len(picked[0]) == chosen[0].samples == 10
        assert chosen[0].arrays["mask"][:, 0].tolist() == picked[0]
        assert load(data, specs, samples=500).samples == 100

    def test_missing_and_unreadable_files(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"absent\.npz: there is no such file"):
            load(tmp_path / "absent.npz", [X])
        (tmp_path / "c.txt").write_text("1")
        with pytest.raises(InputError, match=r"c\.txt: expected a \.npz, a \.npy or a folder"):
            load(tmp_path / "c.txt", [X])
        for name, content in [("a.npz", b"junk"), ("b.npy", b"junk"), ("c.npz", b""), ("d.npz", b"PK\x03\x04junk")]:
            (tmp_path / name).write_bytes(content)
            with pytest.raises(InputError, match=f"{name}: cannot be read"):
                load(tmp_path / name, [X])

    def test_never_unpickles(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "c.npz", x=np.array([[1, 2, 3], None], dtype=object))
        with pytest.raises(InputError, match=r"c\.npz: cannot be read: Object arrays"):
            load(tmp_path / "c.npz", [X])
        with pytest.raises(InputError, match="only numbers"):
            load({"x": np.array([[1, 2, None]], dtype=object)}, [X])

    def test_names_must_be_those_of_the_graph(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"no input arr_0; it wants x: float32 \(batch, 3\)"):
            load({"arr_0": counting(2, 3)}, [X])
        with pytest.raises(InputError, match="no array for y"):
            load({"x": counting(2, 3)}, [X, spec("y", "batch")])
        with pytest.raises(InputError, match=r"2 inputs; give a \.npz with x.*; y"):
            load(counting(2, 3), [X, spec("y", "batch")])

    def test_refuses_no_inputs_no_samples_and_stray_preprocess(self) -> None:
        with pytest.raises(InputError, match="the graph has no inputs"):
            load({}, [])
        with pytest.raises(InputError, match="holds no samples"):
            load(np.zeros((0, 3), np.float32), [X])
        with pytest.raises(InputError, match="samples is 0"):
            load(counting(2, 3), [X], samples=0)
        with pytest.raises(InputError, match="preprocess is for folders"):
            load(counting(2, 3), [X], preprocess=Preprocess())


class TestShapes:
    def test_rank_and_fixed_sizes(self) -> None:
        with pytest.raises(InputError, match="expected rank 2, the first axis counting the samples"):
            load(np.zeros(3, np.float32), [X])
        with pytest.raises(InputError, match=r"x has shape \(2, 4\).*axis 1 is 4 instead of 3"):
            load(counting(2, 4), [X])

    def test_a_fixed_batch_does_not_bind_the_number_of_samples(self) -> None:
        assert load(counting(10, 3), [spec("x", 4, 3)]).samples == 10

    def test_different_sample_counts(self) -> None:
        with pytest.raises(InputError, match=r"different numbers of samples, \{'x': 4, 'y': 5\}"):
            load({"x": counting(4, 3), "y": counting(5, 1)}, [X, spec("y", "batch", 1)])


class TestTypes:
    @pytest.mark.parametrize(
        ("given", "wanted"),
        [
            (np.float64, np.float32),
            (np.float32, np.float16),
            (np.uint8, np.float32),
            (np.int64, np.float32),
            (np.bool_, np.float32),
            (np.int32, np.int64),
            (np.int64, np.int32),
            (np.uint8, np.int64),
            (np.int64, np.bool_),
        ],
    )
    def test_safe_ones_are_cast(self, given: type[np.generic], wanted: type[np.generic]) -> None:
        arrays = load(np.array([[0, 1, 1]], given), [spec("x", "batch", 3, dtype=wanted)]).arrays
        assert arrays["x"].dtype == wanted
        assert arrays["x"].tolist() == [[0, 1, 1]]

    @pytest.mark.parametrize("wanted", [np.int64, np.uint8, np.bool_])
    def test_floats_never_become_integers(self, wanted: type[np.generic]) -> None:
        with pytest.raises(InputError, match=r"x is float32 of shape \(1, 3\), the graph wants x: .*convert the array"):
            load(np.zeros((1, 3), np.float32), [spec("x", "batch", 3, dtype=wanted)])

    @pytest.mark.parametrize(
        ("array", "wanted"),
        [
            (np.array([[0, 1, 2**40]]), np.int32),
            (np.array([[0, 1, -1]]), np.uint8),
            (np.array([[0, 1, 2]]), np.bool_),
            (np.array([[0, 1, 1e300]]), np.float32),
        ],
    )
    def test_values_that_do_not_fit(self, array: np.ndarray[Any, Any], wanted: type[np.generic]) -> None:
        with pytest.raises(InputError, match="some values do not fit"):
            load(array, [spec("x", "batch", 3, dtype=wanted)])

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, value: float) -> None:
        with pytest.raises(InputError, match="holds NaN or infinite values"):
            load(np.array([[0, value, 0]], np.float32), [X])

    def test_text(self) -> None:
        with pytest.raises(InputError, match="the graph wants x: float32"):
            load(np.array([["a", "b", "c"]]), [X])


class TestBatches:
    def test_open_batch_keeps_the_short_end(self) -> None:
        assert rows(list(load(counting(7, 3), [X]).batches(3)), "x") == [[0, 1, 2], [3, 4, 5], [6]]

    def test_fixed_batch_drops_the_remainder(self) -> None:
        calibration = load(counting(7, 3), [spec("x", 3, 3)])
        assert rows(list(calibration.batches(100)), "x") == [[0, 1, 2], [3, 4, 5]]

    def test_refuses_too_few_samples_before_the_first_batch(self) -> None:
        with pytest.raises(InputError, match="2 samples, but the graph fixes its batch to 3"):
            load(counting(2, 3), [spec("x", 3, 3)]).batches(1)
        with pytest.raises(InputError, match="batch size is 0"):
            load(counting(2, 3), [X]).batches(0)
        with pytest.raises(InputError, match=r"different batch sizes, \[2, 4\]"):
            load({"x": counting(8, 3), "y": counting(8, 3)}, [spec("x", 2, 3), spec("y", 4, 3)]).batches(1)

    def test_a_state_and_a_scalar_are_repeated(self) -> None:
        specs = [spec("input", 1, 4), spec("state", 2, 1, 3), spec("sr", dtype=np.int64)]
        state = np.ones((2, 1, 3), np.float32)
        calibration = load({"input": counting(5, 4), "state": state, "sr": np.array(16000)}, specs)
        assert calibration.axes == {"input": 0, "state": None, "sr": None}
        batches = list(calibration.batches(1))
        assert rows(batches, "input") == [[0], [1], [2], [3], [4]]
        assert all(b["sr"] == 16000 and b["state"].shape == (2, 1, 3) for b in batches)

    def test_a_state_that_names_the_batch_is_cut_along_it(self) -> None:
        specs = [spec("input", "batch", "sequence"), spec("state", 2, "batch", 3)]
        state = np.broadcast_to(np.arange(5, dtype=np.float32)[None, :, None], (2, 5, 3))
        calibration = load({"input": counting(5, 4), "state": state}, specs)
        assert (calibration.samples, calibration.axes) == (5, {"input": 0, "state": 1})
        assert [batch["state"][1, :, 0].tolist() for batch in calibration.batches(2)] == [[0, 1], [2, 3], [4]]
        subset = load({"input": counting(5, 4), "state": state}, specs, samples=2).arrays
        assert subset["state"][0, :, 0].tolist() == subset["input"][:, 0].tolist()

    def test_positions_share_a_symbol_with_a_later_axis_and_are_repeated(self) -> None:
        specs = [spec("positions", "seq", dtype=np.int64), spec("ids", "batch", "seq", dtype=np.int64)]
        calibration = load({"positions": np.arange(6), "ids": counting(4, 6, dtype=np.int64)}, specs)
        assert (calibration.samples, calibration.axes) == (4, {"positions": None, "ids": 0})
        assert [batch["positions"].tolist() for batch in calibration.batches(3)] == [[0, 1, 2, 3, 4, 5]] * 2

    def test_one_exact_batch_is_not_a_constant(self) -> None:
        specs = [spec("x", 4, 3), spec("mask", 4, 2)]
        calibration = load({"x": counting(4, 3), "mask": counting(4, 2)}, specs)
        assert (calibration.samples, calibration.axes) == (4, {"x": 0, "mask": 0})
        assert len(list(calibration.batches(1))) == 1

    def test_scalars_alone_are_one_sample(self) -> None:
        calibration = load(np.array(3.0), [spec("x")])
        assert calibration.samples == 1
        assert [batch["x"].item() for batch in calibration.batches(8)] == [3.0]

    def test_batches_do_not_copy(self) -> None:
        calibration: Calibration = load(counting(4, 3), [X])
        assert all(np.shares_memory(batch["x"], calibration.arrays["x"]) for batch in calibration.batches(2))


class TestBatchSize:
    def graph(self, elements: int) -> Graph:
        x, y = Value("x", (None, 3)), Value("y", (None, elements))
        return Graph((x,), (y,), (Op("Relu", "r", (x,), (y,), {}),))

    @pytest.mark.parametrize(
        ("fits", "expected"), [(1, 1), (0.5, 1), (3, 2), (32, 32), (63.9, 32), (99, 64), (100, 100), (1e6, 100)]
    )
    def test_it_is_a_power_of_two_or_the_largest(self, fits: float, expected: int) -> None:
        elements = 1000
        assert batch_size(self.graph(elements), limit=int(4 * elements * fits)) == expected

    def test_lengths_that_are_not_known_do_not_count(self) -> None:
        x, y = Value("x", (None, 3)), Value("y", ("n", "t", 50))
        graph = Graph((x,), (y,), (Op("Relu", "r", (x,), (y,), {}),))
        assert batch_size(graph, limit=4 * 50 * 8) == 8
