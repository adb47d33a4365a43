"""Exported programs compiled by AOTInductor, and run: what they give is what eager gives."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import modhifi_graph  # noqa: E402
from modhifi_graph import InputError  # noqa: E402
from modhifi_graph.exporters import backend as backends  # noqa: E402
from modhifi_graph.exporters import inductor  # noqa: E402
from modhifi_graph.exporters.inductor_signature import Signature  # noqa: E402
from modhifi_graph.latency.timer import Timer  # noqa: E402

from ..oracles import small  # noqa: E402

if (REASON := inductor.available()) is not None:
    pytest.skip(f"inductor cannot be used here: {REASON}", allow_module_level=True)


class Net(torch.nn.Module):
    """A convolution, a head, two outputs and an input that is a keyword."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, width, 3, padding=1)
        self.head = torch.nn.Linear(width, 5)

    def forward(self, x: Any, *, mask: Any) -> dict[str, Any]:
        maps = torch.relu(self.conv(x))
        return {"scores": self.head(maps.mean((2, 3))) * mask, "maps": maps}


def exported(width: int, layout: Any = torch.contiguous_format) -> tuple[Any, Any]:
    torch.manual_seed(width)
    module = Net(width).eval()
    x, mask = torch.randn(4, 3, 6, 6).to(memory_format=layout), torch.ones(4, 1)
    shapes = {"x": {0: torch.export.Dim.AUTO}, "mask": {0: torch.export.Dim.AUTO}}
    return module, torch.export.export(module, (x,), {"mask": mask}, dynamic_shapes=shapes)


@pytest.fixture(scope="module", autouse=True)
def one_worker() -> Iterator[None]:
    """Two kernels need no pool of compilers."""
    from torch._inductor import config

    with config.patch(compile_threads=1):
        yield


@pytest.fixture(scope="module")
def module() -> Any:
    return exported(8)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dense.pt2 and slim.pt2, and both compiled by the command line's own function."""
    where = tmp_path_factory.mktemp("programs")
    for name, width in (("dense", 8), ("slim", 4)):
        torch.export.save(exported(width)[1], where / f"{name}.pt2")
        engine = modhifi_graph.compile_model(where / f"{name}.pt2", backend="inductor", threads=1)
        engine.save(where / f"{name}.aoti.pt2")
    return where


@pytest.fixture(scope="module")
def engine(folder: Path) -> Any:
    return modhifi_graph.load_engine(folder / "dense.aoti.pt2", backend="inductor", threads=1)


def feeds(batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "x": random.standard_normal((batch, 3, 6, 6)).astype(np.float32),
        "mask": random.integers(0, 2, (batch, 1)).astype(np.float32),
    }


def eager(module: Any, given: dict[str, np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        found = module(torch.from_numpy(given["x"]), mask=torch.from_numpy(given["mask"]))
    return [value.numpy() for value in found.values()]


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_it_gives_what_eager_gives(module: Any, engine: Any, batch: int) -> None:
    given = feeds(batch)
    found = engine.run(given)
    assert list(found) == list(engine.outputs)
    for array, expected in zip(found.values(), eager(module, given), strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_allclose(array, expected, atol=1e-5)


def test_its_names_are_the_signatures(engine: Any) -> None:
    assert [spec.name for spec in engine.inputs] == ["x", "mask"]
    (batch, *rest), mask = engine.inputs[0].shape, engine.inputs[1].shape
    assert (rest, mask) == ([3, 6, 6], (batch, 1))
    assert isinstance(batch, str)
    assert {spec.dtype.name for spec in engine.inputs} == {"float32"}
    assert len(set(engine.outputs)) == 2


def test_only_what_is_asked_for_comes_back_and_stays(engine: Any, module: Any) -> None:
    given = feeds(3)
    last = engine.outputs[1]
    found = engine.run(given, [last])
    assert list(found) == [last]
    assert engine.run(given, []) == {}
    engine.run(feeds(3, seed=1))
    np.testing.assert_allclose(found[last], eager(module, given)[1], atol=1e-5)


def test_it_says_how_it_runs(engine: Any) -> None:
    expected = {"backend": "inductor", "version": torch.__version__, "device": "cpu", "threads": 1, "precision": "fp32"}
    assert engine.describe() == expected


def test_a_file_of_a_file_is_that_engine(engine: Any, tmp_path: Path) -> None:
    path = tmp_path / "again.aoti.pt2"
    engine.save(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    again = inductor.load(path, threads=1)
    assert (again.inputs, again.outputs) == (engine.inputs, engine.outputs)
    path.unlink()
    given = feeds(2)
    for name, array in again.run(given).items():
        np.testing.assert_array_equal(array, engine.run(given)[name])


def test_threads_are_its_own(engine: Any, folder: Path) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []

    class Spy:
        def run(self, tensors: list[Any]) -> Any:
            seen.append(torch.get_num_threads())
            return loader.run(tensors)

    other = inductor.load(folder / "dense.aoti.pt2", threads=before + 1)
    loader = other._loader
    object.__setattr__(other, "_loader", Spy())
    other.run(feeds(2))
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_two_are_timed_in_turns(folder: Path) -> None:
    found = modhifi_graph.bench(
        folder / "dense.aoti.pt2", folder / "slim.aoti.pt2", backend="inductor", threads=1, batch=3, seconds=0.02
    )
    assert found.b is not None and found.speedup is not None and found.interval is not None
    assert found.interval[0] <= found.speedup <= found.interval[1]
    assert min(found.a.n, found.b.n) >= 30
    assert found.batch == 3
    assert found.engine is not None and found.engine["backend"] == "inductor"


@pytest.mark.slow
def test_the_layout_that_it_was_exported_with() -> None:
    module, program = exported(8, layout=torch.channels_last)
    signature = Signature.from_json(Signature.of(program, "m").to_json())
    assert signature.orders == ((0, 2, 3, 1), (0, 1))
    engine = inductor.build(program, threads=1)
    given = feeds(3)
    for array, expected in zip(engine.run(given).values(), eager(module, given), strict=True):
        np.testing.assert_allclose(array, expected, atol=1e-5)


@pytest.mark.slow
def test_half_precision_stays_that() -> None:
    linear = torch.nn.Linear(4, 3).bfloat16()
    program = torch.export.export(linear, (torch.ones(2, 4, dtype=torch.bfloat16),))
    engine = inductor.build(program, threads=1)
    assert engine.describe()["precision"] == "bf16"
    assert engine.inputs[0].dtype.name == "bfloat16"
    x = np.arange(8).reshape(2, 4).astype(engine.inputs[0].dtype)
    (found,) = engine.run({engine.inputs[0].name: x}).values()
    assert found.dtype == x.dtype
    with torch.no_grad():
        expected = linear.float()(torch.from_numpy(x.astype(np.float32))).numpy()
    np.testing.assert_allclose(found.astype(np.float32), expected, rtol=0.02, atol=0.05)


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"x": np.zeros((2, 3, 6, 7), np.float32)}, "fed x as float32"),
            ({"x": np.zeros((2, 3, 6), np.float32)}, "fed x as float32"),
            ({"x": np.zeros((2, 3, 6, 6))}, "fed x as float64"),
            ({"mask": np.zeros((3, 1), np.float32)}, "fed mask as float32"),
            ({"nobody": np.zeros(1)}, "fed x, mask, nobody; expected x, mask"),
        ],
    )
    def test_arrays_that_it_was_not_compiled_for(
        self, engine: Any, change: dict[str, np.ndarray], message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            engine.run({**feeds(2), **change})

    def test_lengths_out_of_range(self) -> None:
        x = torch.zeros(4, 3)
        shapes = ({0: torch.export.Dim("n", min=3, max=9)},)
        signature = Signature.of(torch.export.export(torch.nn.ReLU(), (x,), dynamic_shapes=shapes), "m")
        signature.check({"input": np.zeros((9, 3), np.float32)}, "m")
        for size in (2, 10):
            with pytest.raises(InputError, match=r"expected .* in 3\.\.9"):
                signature.check({"input": np.zeros((size, 3), np.float32)}, "m")

    def test_outputs_that_it_does_not_give(self, engine: Any) -> None:
        with pytest.raises(InputError, match="asked for nobody"):
            engine.run(feeds(2), ["nobody"])

    def test_onnx_models(self, tmp_path: Path) -> None:
        model = small.SMALL["conv_chain"]()
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        for given in (model, model.SerializeToString(), tmp_path / "m.onnx"):
            with pytest.raises(InputError, match=r"cannot compile an ONNX model; give the \.pt2 that"):
                inductor.build(given)

    def test_files_that_are_none(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="there is no such file"):
            inductor.build(tmp_path / "nobody.pt2")
        with pytest.raises(InputError, match="there is no such file"):
            inductor.load(tmp_path / "nobody.aoti.pt2")
        (tmp_path / "e.aoti.pt2").write_bytes(b"no engine at all")
        with pytest.raises(InputError, match="cannot load it"):
            inductor.load(tmp_path / "e.aoti.pt2")

    def test_a_package_is_not_run_where_a_model_is_expected(self, folder: Path, tmp_path: Path) -> None:
        disguised = tmp_path / "model.pt2"
        disguised.write_bytes((folder / "slim.aoti.pt2").read_bytes())
        with pytest.raises(InputError, match="holds native code, and is not loaded as a model"):
            inductor.build(disguised)

    def test_a_package_without_our_note(self, folder: Path, tmp_path: Path) -> None:
        path = tmp_path / "e.aoti.pt2"
        with zipfile.ZipFile(folder / "slim.aoti.pt2") as source, zipfile.ZipFile(path, "w") as target:
            for name in source.namelist():
                if not name.endswith(".so"):
                    target.writestr(name, source.read(name))
        with pytest.raises(InputError, match=r"cannot load it: .*; compile the model again on this machine"):
            inductor.load(path)

    def test_a_program_that_would_run_code_as_it_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "m.pt2"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("m/archive_format", "pt2")
            archive.writestr("m/models/model.json", "{}")
        with pytest.raises(InputError, match="is not an exported program that can be read safely"):
            inductor.build(path)

    def test_threads_and_devices(self, folder: Path) -> None:
        with pytest.raises(InputError, match="threads is -1"):
            inductor.build(folder / "slim.pt2", threads=-1)
        with pytest.raises(InputError, match="used on cpu or cuda here, not on tpu"):
            inductor.build(folder / "slim.pt2", device="tpu")
        if not torch.cuda.is_available():
            with pytest.raises(InputError, match="device 'cuda:0' cannot be used here"):
                inductor.build(folder / "slim.pt2", device="cuda:0")

    def test_another_precision_than_the_programs(self, folder: Path) -> None:
        with pytest.raises(InputError, match="in the precision that they are in, not in fp16"):
            modhifi_graph.compile_model(folder / "slim.pt2", backend="inductor", precision="fp16")

    def test_programs_where_onnx_is_expected(self) -> None:
        program = exported(4)[1]
        with pytest.raises(InputError, match="cannot compile a ExportedProgram"):
            backends.backend("onnxruntime").build(program)

    def test_latency_of_pieces_of_an_onnx_model(self) -> None:
        message = r"backend inductor: compiles exported programs \(\.pt2\), not ONNX models"
        with pytest.raises(InputError, match=message):
            Timer("inductor")
        with pytest.raises(InputError, match=message):
            modhifi_graph.optimize("sample:digits-cnn", speedup=1.2, backend="inductor")

    def test_a_length_that_follows_from_another(self) -> None:
        class Twice(torch.nn.Module):
            def forward(self, x: Any, y: Any) -> Any:
                return x.repeat(2) + y

        n = torch.export.Dim("n", min=2, max=64)
        program = torch.export.export(Twice(), (torch.zeros(3), torch.zeros(6)), dynamic_shapes=({0: n}, {0: 2 * n}))
        with pytest.raises(InputError, match=r"input y has the length .* which follows from others"):
            inductor.build(program)
