"""Folders of images: how they are prepared, and what is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modhifi_graph.errors import InputError
from modhifi_graph.inputs.calibration import load
from modhifi_graph.inputs.image_folders import Preprocess

from ..oracles.specs import X, counting, spec


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
