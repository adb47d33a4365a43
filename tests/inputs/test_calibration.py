"""Where inputs come from, and everything that is refused on the way."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from modhifi_graph.errors import InputError
from modhifi_graph.graph import Graph, Op, Value
from modhifi_graph.inputs.calibration import Calibration, batch_size, load
from modhifi_graph.inputs.images import Preprocess
from modhifi_graph.interface import InputSpec, random_inputs, specs_of

Dim = int | str | None


def spec(name: str, *shape: Dim, dtype: type[np.generic] = np.float32) -> InputSpec:
    return InputSpec(name, shape, np.dtype(dtype))


def counting(*shape: int, dtype: type[np.generic] = np.float32) -> np.ndarray[Any, Any]:
    """Every entry of sample i is i, so that a sample can be told from its values."""
    return np.broadcast_to(np.arange(shape[0], dtype=dtype).reshape(-1, *[1] * (len(shape) - 1)), shape).copy()


def rows(batches: Sequence[dict[str, np.ndarray[Any, Any]]], name: str) -> list[list[float]]:
    return [batch[name][:, 0].tolist() for batch in batches]


X = spec("x", "batch", 3)


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


class TestPreprocess:
    def test_parse(self) -> None:
        text = "mean=0.485,0.456,0.406; std=0.229,0.224,0.225; size=224; layout=nhwc"
        assert Preprocess.parse(text) == Preprocess((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (224, 224), "NHWC")
        assert Preprocess.parse("size=224x320").size == (224, 320)
        assert Preprocess.parse("") == Preprocess()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("median=1", "unknown part 'median=1'"),
            ("mean=a", "'mean=a' is not numeric"),
            ("size=", "not numeric"),
            ("std=0", "std above 0"),
            ("mean=nan", "finite"),
            ("size=0", "at least 1 pixel"),
            ("layout=CHWN", "expected NCHW or NHWC"),
        ],
    )
    def test_refuses(self, text: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            Preprocess.parse(text)


class TestImages:
    def write(self, folder: Path, name: str, pixels: np.ndarray[Any, Any]) -> None:
        image = pytest.importorskip("PIL.Image")
        image.fromarray(pixels).save(folder / name)

    def test_values_order_and_layouts(self, tmp_path: Path) -> None:
        self.write(tmp_path, "b.png", np.full((4, 4, 3), (255, 0, 51), np.uint8))
        self.write(tmp_path, "a.PNG", np.zeros((4, 4, 3), np.uint8))
        (tmp_path / "notes.txt").write_text("not an image")
        how = Preprocess(mean=(0.5, 0.0, 0.2), std=(0.5, 1.0, 0.1))
        array = load(tmp_path, [spec("x", "n", 3, 4, 4)], preprocess=how).arrays["x"]
        assert array.shape == (2, 3, 4, 4)
        assert array.dtype == np.float32
        np.testing.assert_allclose(array[:, :, 2, 1], [[-1, 0, -2], [1, 0, 0]], atol=1e-6)
        how = Preprocess(mean=(0.5, 0.0, 0.2), std=(0.5, 1.0, 0.1), layout="NHWC")
        other = load(tmp_path, [spec("x", "n", 4, 4, 3)], preprocess=how).arrays["x"]
        np.testing.assert_array_equal(other, array.transpose(0, 2, 3, 1))

    def test_shorter_side_is_resized_then_the_centre_cut_out(self, tmp_path: Path) -> None:
        pixels = np.zeros((8, 24, 3), np.uint8)
        pixels[:, 8:16] = 255
        self.write(tmp_path, "a.png", pixels)
        array = load(tmp_path, [spec("x", 1, 3, None, None)], preprocess=Preprocess(size=(8, 8))).arrays["x"]
        np.testing.assert_array_equal(array, np.ones((1, 3, 8, 8)))
        # Halved first, the bright third is 4 columns wide; bilinear halving blurs only the columns at its edges.
        array = load(tmp_path, [spec("x", 1, 3, None, None)], preprocess=Preprocess(size=(4, 4))).arrays["x"]
        assert array.shape == (1, 3, 4, 4)
        assert array[0, 0, :, 1:3].min() == 1
        assert 0.5 < array[0, 0, 0, 0] < 1
        wide = load(tmp_path, [spec("x", 1, 3, 8, 16)], preprocess=Preprocess()).arrays["x"]
        assert wide[0, 0, 0].tolist() == [0] * 4 + [1] * 8 + [0] * 4

    def test_grey_for_one_channel(self, tmp_path: Path) -> None:
        self.write(tmp_path, "a.png", np.full((2, 2, 3), (255, 0, 0), np.uint8))
        array = load(tmp_path, [spec("x", 1, 1, 2, 2)], preprocess=Preprocess()).arrays["x"]
        # ITU-R 601: red weighs 0.299.
        np.testing.assert_allclose(array, np.full((1, 1, 2, 2), 76 / 255), atol=1e-6)

    def test_integer_inputs_get_the_pixels(self, tmp_path: Path) -> None:
        self.write(tmp_path, "a.png", np.full((2, 2, 3), (255, 0, 7), np.uint8))
        wanted = [spec("x", 1, 2, 2, 3, dtype=np.uint8)]
        array = load(tmp_path, wanted, preprocess=Preprocess(layout="NHWC")).arrays["x"]
        assert array.dtype == np.uint8
        assert array[0, 0, 0].tolist() == [255, 0, 7]
        with pytest.raises(InputError, match="leave out mean and std"):
            load(tmp_path, wanted, preprocess=Preprocess(mean=(0.5,), layout="NHWC"))

    def test_a_subset_is_drawn_before_reading(self, tmp_path: Path) -> None:
        for i in range(10):
            self.write(tmp_path, f"{i}.png", np.full((1, 1, 3), i, np.uint8))
        values = load(tmp_path, [spec("x", "n", 3, 1, 1)], samples=4, seed=1, preprocess=Preprocess()).arrays["x"]
        picked = np.rint(values[:, 0, 0, 0] * 255).astype(int).tolist()
        expected = load({"x": counting(10, 3)}, [X], samples=4, seed=1).arrays["x"][:, 0].astype(int).tolist()
        assert picked == expected
        unread = next(i for i in range(10) if i not in picked)
        (tmp_path / f"{unread}.png").write_bytes(b"broken")
        assert load(tmp_path, [spec("x", "n", 3, 1, 1)], samples=4, seed=1, preprocess=Preprocess()).samples == 4

    def test_refusals(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        wanted = [spec("x", "n", 3, 4, 4)]
        with pytest.raises(InputError, match="holds no images"):
            load(tmp_path, wanted, preprocess=Preprocess())
        self.write(tmp_path, "a.png", np.zeros((4, 4, 3), np.uint8))
        with pytest.raises(InputError, match="images need preprocess"):
            load(tmp_path, wanted)
        with pytest.raises(InputError, match="the graph has 2 inputs"):
            load(tmp_path, [*wanted, spec("y", "n")], preprocess=Preprocess())
        with pytest.raises(InputError, match="rank 4"):
            load(tmp_path, [X], preprocess=Preprocess())
        with pytest.raises(InputError, match="has 4 channels; expected 1 or 3, try the other layout"):
            load(tmp_path, wanted, preprocess=Preprocess(layout="NHWC"))
        with pytest.raises(InputError, match="mean and std need 1 or 3 values"):
            load(tmp_path, wanted, preprocess=Preprocess(mean=(0.0, 0.0)))
        with pytest.raises(InputError, match="leaves the size open; add size="):
            load(tmp_path, [spec("x", "n", 3, "h", "w")], preprocess=Preprocess())
        with pytest.raises(InputError, match="axis 2 is 8 instead of 4"):
            load(tmp_path, wanted, preprocess=Preprocess(size=(8, 8)))
        (tmp_path / "b.jpg").write_bytes(b"not a photograph")
        with pytest.raises(InputError, match=r"b\.jpg: cannot be read as an image"):
            load(tmp_path, wanted, preprocess=Preprocess())
        found = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "PIL" else found(name))
        with pytest.raises(InputError, match="needs Pillow: pip install pillow"):
            load(tmp_path, wanted, preprocess=Preprocess())


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
