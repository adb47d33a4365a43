"""What holds for every backend that can be used here."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from modhifi_graph.errors import InputError
from modhifi_graph.exporters import backend as backends
from modhifi_graph.exporters import onnxruntime

from ..oracles import small

MODELS = ("conv_chain", "residual_projection", "attention_separate")


@dataclass(frozen=True)
class Used:
    """A backend whose ``build`` and ``load`` are given its own device where a test names none."""

    name: str
    module: Any

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.module, name)
        return functools.partial(found, device=self.module.DEVICE) if name in ("build", "load") else found


@pytest.fixture(params=backends.NAMES)
def backend(request: pytest.FixtureRequest) -> Any:
    try:
        return Used(request.param, backends.onnx_backend(request.param))
    except InputError as error:
        pytest.skip(str(error))


def close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_allclose(found[name], array, atol=1e-5 * max(1.0, float(np.abs(array).max())))


@pytest.mark.parametrize("name", MODELS)
def test_it_computes_what_the_graph_says(backend: Any, name: str) -> None:
    model = small.SMALL[name]()
    feeds = small.samples(model, 0, 3)
    plain = onnxruntime.Engine.compile(model, optimise=False)
    engine = backend.build(model, threads=1)
    assert [spec.name for spec in engine.inputs] == [spec.name for spec in plain.inputs]
    assert [spec.dtype for spec in engine.inputs] == [spec.dtype for spec in plain.inputs]
    close(engine.run(feeds), plain.run(feeds))
    other = small.samples(model, 1, 3)
    first = engine.run(feeds)
    engine.run(other)
    close(first, plain.run(feeds))  # what a run gives does not change with the next


def test_a_file_of_an_engine_is_that_engine(backend: Any, tmp_path: Path) -> None:
    model = small.SMALL["conv_chain"]()
    feeds = small.samples(model, 0, 2)
    engine = backend.build(model, threads=1)
    path = tmp_path / f"engine{backend.SUFFIX}"
    engine.save(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]
    loaded = backend.load(path, threads=1)
    assert loaded.inputs == engine.inputs
    assert loaded.outputs == engine.outputs
    close(loaded.run(feeds), engine.run(feeds))
    assert loaded.describe() == engine.describe()


def test_it_says_how_it_runs(backend: Any) -> None:
    engine = backend.build(small.SMALL["conv_chain"](), threads=1)
    said = engine.describe()
    assert said["backend"] in backends.NAMES
    assert said["version"][0].isdigit()
    assert (said["device"], said["threads"], said["precision"]) == (backend.DEVICE, 1, "fp32")


def test_every_backend_imports_without_its_library() -> None:
    found = {name: importlib.import_module(f"modhifi_graph.exporters.{name}") for name in backends.NAMES}
    assert {name: module.SUFFIX for name, module in found.items()} == {
        "onnxruntime": ".onnx",
        "openvino": ".blob",
        "tensorrt": ".engine",
        "inductor": ".aoti.pt2",
    }
    assert [name for name, module in found.items() if not module.ONNX] == ["inductor"]
    assert [name for name, module in found.items() if module.SYMMETRIC] == ["tensorrt"]
    assert [name for name, module in found.items() if module.DEVICE != "cpu"] == ["tensorrt"]
    for module in found.values():
        reason = module.available()
        assert reason is None or len(reason) > 10
        for name in ("build", "load"):
            assert callable(getattr(module, name))


def test_only_what_is_asked_for_comes_back(backend: Any) -> None:
    model = small.SMALL["conv_chain"]()
    engine = backend.build(model)
    feeds = small.samples(model, 0, 2)
    assert list(engine.run(feeds, [engine.outputs[0]])) == [engine.outputs[0]]
    assert engine.run(feeds, []) == {}


class TestRefused:
    def test_a_backend_that_there_is_not(self) -> None:
        with pytest.raises(
            InputError, match="backend 'abacus' is unknown; choose one of onnxruntime, openvino, tensorrt, inductor"
        ):
            backends.backend("abacus")

    def test_a_backend_that_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(InputError, match="backend openvino: OpenVINO is not installed: pip install openvino"):
            backends.backend("openvino")

    def test_inputs_that_do_not_fit(self, backend: Any) -> None:
        model = small.SMALL["conv_chain"]()
        engine = backend.build(model)
        name = engine.inputs[0].name
        feeds = small.samples(model, 0, 2)
        with pytest.raises(InputError):
            engine.run({name: feeds[name][:, :1]})
        with pytest.raises(InputError):
            engine.run({"nobody": feeds[name]})

    def test_a_file_that_is_none(self, backend: Any, tmp_path: Path) -> None:
        path = tmp_path / f"e{backend.SUFFIX}"
        with pytest.raises(InputError, match="there is no such file"):
            backend.load(path)
        path.write_bytes(b"no engine at all")
        with pytest.raises(InputError, match="cannot load it"):
            backend.load(path)

    def test_a_model_that_is_none(self, backend: Any) -> None:
        with pytest.raises(InputError, match=r"cannot (compile|load)"):
            backend.build(onnx.ModelProto())

    def test_threads_and_devices(self, backend: Any) -> None:
        model = small.SMALL["conv_chain"]()
        with pytest.raises(InputError, match="threads is -1"):
            backend.build(model, threads=-1)
        with pytest.raises(InputError, match="tpu"):
            backend.build(model, device="tpu")
