"""The onnxruntime backend."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from modhifi_graph.errors import InputError
from modhifi_graph.exporters.onnxruntime import Engine, available, save
from modhifi_graph.interface import InputSpec


def affine() -> onnx.ModelProto:
    """y = x w with w = [[1, 2], [3, 4]], z = y + 1; x is (n, 2)."""
    weight = numpy_helper.from_array(np.array([[1, 2], [3, 4]], np.float32), "w")
    one = numpy_helper.from_array(np.array(1, np.float32), "one")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Add", ["y", "one"], ["z"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("y", "z")]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [weight, one])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


X = np.array([[1, 1], [0, 2]], np.float32)
Y = [[4.0, 6.0], [6.0, 8.0]]


def test_it_is_available_here() -> None:
    assert available() is None


def test_says_so_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert available() == "onnxruntime is not installed: pip install onnxruntime (or onnxruntime-gpu)"
    with pytest.raises(InputError, match="pip install onnxruntime"):
        Engine.compile(affine())


def test_says_so_when_it_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    reason = available()
    assert reason is not None
    assert "does not load" in reason


@pytest.mark.parametrize("optimise", [True, False])
@pytest.mark.parametrize("form", ["proto", "bytes", "path", "str"])
def test_runs_every_form_of_a_model(tmp_path: Path, form: str, optimise: bool) -> None:
    path = tmp_path / "m.onnx"
    save(affine(), path)
    forms: dict[str, Any] = {"proto": affine(), "bytes": path.read_bytes(), "path": path, "str": str(path)}
    engine = Engine.compile(forms[form], optimise=optimise)
    results = engine.run({"x": X})
    assert list(results) == ["y", "z"]
    assert results["y"].tolist() == Y
    assert results["z"].tolist() == (np.array(Y) + 1).tolist()


def test_chosen_outputs_come_in_the_order_asked_for() -> None:
    engine = Engine.compile(affine())
    assert list(engine.run({"x": X}, ["z", "y"])) == ["z", "y"]
    assert engine.run({"x": X}, []) == {}


def test_describes_itself(tmp_path: Path) -> None:
    engine = Engine.compile(affine(), threads=2)
    assert (engine.label, engine.provider, engine.threads) == ("<model in memory>", "CPUExecutionProvider", 2)
    assert engine.inputs == (InputSpec("x", ("n", 2), np.dtype(np.float32)),)
    assert engine.outputs == ("y", "z")


def test_finds_external_data_beside_the_path(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(affine(), path, save_as_external_data=True, location="m.data", size_threshold=0)
    assert (tmp_path / "m.data").exists()
    assert Engine.compile(path).run({"x": X})["y"].tolist() == Y


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (TensorProto.DOUBLE, np.float64),
        (TensorProto.FLOAT16, np.float16),
        (TensorProto.INT64, np.int64),
        (TensorProto.INT32, np.int32),
        (TensorProto.UINT8, np.uint8),
        (TensorProto.BOOL, np.bool_),
    ],
)
def test_input_types(kind: int, dtype: type[np.generic]) -> None:
    inputs = [helper.make_tensor_value_info("x", kind, [None, 3])]
    outputs = [helper.make_tensor_value_info("y", kind, [None, 3])]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", inputs, outputs)
    engine = Engine.compile(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))
    assert engine.inputs == (InputSpec("x", (None, 3), np.dtype(dtype)),)
    feed = np.ones((2, 3), dtype)
    assert engine.run({"x": feed})["y"].dtype == feed.dtype


def test_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.onnx: there is no such file"):
        Engine.compile(tmp_path / "absent.onnx")


def test_passes_on_what_the_runtime_says(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"broken\.onnx: onnxruntime cannot load it: .*[Pp]rotobuf"):
        Engine.compile(path)
    with pytest.raises(InputError, match=r"cannot run it: .*[Ii]nvalid"):
        Engine.compile(affine()).run({"x": np.zeros((2, 3), np.float32)})
    with pytest.raises(InputError, match=r"cannot run it: .*x"):
        Engine.compile(affine()).run({})
    with pytest.raises(InputError, match=r"cannot run it: .*absent"):
        Engine.compile(affine()).run({"x": X}, ["absent"])


def test_refuses_an_absent_provider_and_negative_threads() -> None:
    with pytest.raises(InputError, match=r"NoSuchProvider.*available: .*CPUExecutionProvider"):
        Engine.compile(affine(), provider="NoSuchProvider")
    with pytest.raises(InputError, match="threads is -1"):
        Engine.compile(affine(), threads=-1)


def test_refuses_an_input_that_is_no_tensor() -> None:
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    outputs = [helper.make_tensor_value_info("n", TensorProto.INT64, [])]
    graph = helper.make_graph([helper.make_node("SequenceLength", ["s"], ["n"])], "g", [sequence], outputs)
    with pytest.raises(InputError, match="input s is a seq"):
        Engine.compile(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))


def test_save_round_trips_and_leaves_nothing_else(tmp_path: Path) -> None:
    save(affine(), tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.onnx") == affine()
    assert os.listdir(tmp_path) == ["m.onnx"]


def test_save_refuses_weights_that_would_not_be_found(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    onnx.save(affine(), tmp_path / "from" / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    model = onnx.load(tmp_path / "from" / "m.onnx", load_external_data=False)
    with pytest.raises(InputError, match=r"w is kept in m\.data"):
        save(model, tmp_path / "to" / "m.onnx")
    assert os.listdir(tmp_path / "to") == []
    save(model, tmp_path / "from" / "again.onnx")
    assert Engine.compile(tmp_path / "from" / "again.onnx").run({"x": X})["y"].tolist() == Y


def test_save_explains_a_model_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Enormous:
        """Stands in for 2 GiB of weights."""

        graph = onnx.GraphProto()

        def SerializeToString(self) -> bytes:
            raise ValueError("Message onnx.ModelProto exceeds maximum protobuf size of 2GB")

    with pytest.raises(InputError, match="external data"):
        save(Enormous(), tmp_path / "m.onnx")  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


class TestTensors:
    """Running on tensors where they are."""

    def test_it_gives_what_arrays_give(self) -> None:
        engine = Engine.compile(affine(), device="cpu")
        assert (engine.device, engine.provider) == ("cpu", "CPUExecutionProvider")
        found = engine.run_tensors({"x": torch.from_numpy(X)}, ["z", "y"])
        assert list(found) == ["z", "y"]
        np.testing.assert_array_equal(found["y"].numpy(), Y)
        np.testing.assert_array_equal(found["z"].numpy(), engine.run({"x": X})["z"])
        assert engine.run_tensors({"x": torch.from_numpy(X)}, []) == {}

    def test_a_view_is_read_as_what_it_shows(self) -> None:
        engine = Engine.compile(affine(), device="cpu")
        found = engine.run_tensors({"x": torch.from_numpy(X.T.copy()).T}, ["y"])
        np.testing.assert_array_equal(found["y"].numpy(), Y)

    def test_results_outlive_the_next_run(self) -> None:
        engine = Engine.compile(affine(), device="cpu")
        first = engine.run_tensors({"x": torch.from_numpy(X)}, ["y"])["y"]
        engine.run_tensors({"x": torch.from_numpy(X + 1)}, ["y"])
        np.testing.assert_array_equal(first.numpy(), Y)

    def test_booleans_and_integers_keep_their_types(self) -> None:
        model = onnx.parser.parse_model("""
            <ir_version: 10, opset_import: ["" : 17]>
            g (bool[n] b, int64[n] i) => (bool[n] c, int64[n] j) { c = Not(b)  j = Neg(i) }""")
        found = Engine.compile(model, device="cpu").run_tensors(
            {"b": torch.tensor([True, False]), "i": torch.tensor([3, -4])}, ["c", "j"]
        )
        assert found["c"].dtype is torch.bool
        assert found["c"].tolist() == [False, True]
        assert found["j"].tolist() == [-3, 4]

    def test_types_that_numpy_lacks_and_no_elements_at_all(self) -> None:
        model = onnx.parser.parse_model("""
            <ir_version: 10, opset_import: ["" : 17]>
            g (bfloat16[n] a, float[m] b, float[k] ones) => (bfloat16[n] c, float[l] d) {
              c = Identity(a)
              d = Concat<axis = 0>(b, ones)
            }""")
        feeds = {"a": torch.tensor([0.5, 2.0], dtype=torch.bfloat16), "b": torch.empty(0), "ones": torch.ones(2)}
        found = Engine.compile(model, device="cpu").run_tensors(feeds, ["c", "d"])
        assert found["c"].dtype is torch.bfloat16
        assert found["c"].tolist() == [0.5, 2.0]
        assert found["d"].tolist() == [1.0, 1.0]

    def test_what_the_runtime_refuses_is_one_message(self) -> None:
        with pytest.raises(InputError, match="onnxruntime cannot run it"):
            Engine.compile(affine(), device="cpu").run_tensors({"x": torch.zeros(2, 3)}, ["y"])

    @pytest.mark.parametrize(
        ("device", "message"),
        [("cuda:0", "pip install onnxruntime-gpu"), ("meta", "ONNX models are run on cpu or cuda")],
    )
    def test_a_device_that_it_has_no_provider_for(self, device: str, message: str) -> None:
        if device.startswith("cuda") and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("this onnxruntime runs on CUDA")
        with pytest.raises(InputError, match=message):
            Engine.compile(affine(), device=device)
