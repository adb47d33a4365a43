"""The Olive pass in workflows that run: alone, between Olive's own passes, and in a search."""

from __future__ import annotations

import importlib.util
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tools import zoo

for library in ("olive", "torch"):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed: pip install 'modhifi-graph[olive]'", allow_module_level=True)
if importlib.util.find_spec("torchvision") is not None:
    zoo.import_torch()  # Olive imports torchmetrics, and that imports torchvision where it is installed

from olive.data.registry import Registry  # noqa: E402
from olive.workflows import run  # noqa: E402

import modhifi_graph  # noqa: E402
from modhifi_graph import samples  # noqa: E402
from modhifi_graph.dropins import olive  # noqa: E402
from modhifi_graph.exporters.onnxruntime import Engine  # noqa: E402

SAMPLE = samples.load("digits-vit")
SLIM: dict[str, Any] = {"macs": 0.5, "samples": 60, "threads": 1}
CHEAP: dict[str, Any] = {"criterion": "magnitude", "compensation": "none", "threads": 1}
"""Needs no calibration inputs, and a second."""


@pytest.fixture(scope="module", autouse=True)
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is sent: unless it is told that this is CI, Olive sends a heartbeat before it looks whether it may."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CI", "1")
        patch.setenv("OLIVE_DISABLE_TELEMETRY", "1")
        patch.setenv("OLIVE_CACHE_DIR", str(tmp_path_factory.mktemp("olive")))  # Olive sets it and leaves it set
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sample's calibration inputs; workflows that run in it share one cache."""
    folder = tmp_path_factory.mktemp("workflows")
    np.savez(folder / "calib.npz", **SAMPLE.calib)
    return folder


def workflow(home: Path, name: str, passes: dict[str, dict[str, Any]], **others: Any) -> Path:
    """Run a workflow from files, as ``olive run`` does; gives its output folder."""
    config = {
        "input_model": {"type": "ONNXModel", "model_path": str(SAMPLE.path)},
        "passes": passes,
        "output_dir": str(home / name),
        "cache_dir": str(home / "cache"),
        "log_severity_level": 3,
        **others,
    }
    (home / f"{name}.json").write_text(json.dumps(config))
    (home / "olive_config.json").write_text(json.dumps(olive.package_config()))
    run(home / f"{name}.json", package_config=home / "olive_config.json")
    return home / name


@pytest.fixture(scope="module")
def slim(home: Path) -> Path:
    return workflow(home, "slim", {"slim": {"type": "ModHiFi", "calib": str(home / "calib.npz"), **SLIM}})


@pytest.fixture(scope="module")
def direct() -> modhifi_graph.Optimized:
    return modhifi_graph.optimize(SAMPLE.path, SAMPLE.calib, bench_seconds=0, **SLIM)


def logits(model: onnx.ModelProto | Path) -> np.ndarray:
    source = str(model) if isinstance(model, Path) else model
    return Engine.compile(source, threads=1).run({samples.INPUT: SAMPLE.test})["logits"]


def weights(model: onnx.ModelProto) -> int:
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    return sum(int(np.prod(tensor.dims)) for tensor in floats)


def test_its_options_are_those_of_optimize() -> None:
    """By name, type and default, as the table has them; ``depth`` alone is off here, as nothing is timed."""
    parameters = olive.ModHiFi._default_config(None)
    taken = inspect.signature(modhifi_graph.optimize).parameters
    names = (*olive.FRACTIONS, *(option.name for option in olive.OPTIONS))
    found = {name: parameters[name].default_value for name in names}
    wanted = {name: None if taken[name].default == () else taken[name].default for name in names}
    assert found == {**wanted, "depth": False}
    assert {*parameters} >= {"criterion", "samples", "threads", "fold_batchnorm"}
    assert not {*parameters} & {"speedup", "latency", "fidelity", "backend", "bench_seconds", "batch", "details"}
    assert [parameters[name].type_ for name in ("macs", "only", "preprocess", "align")] == [float, list[str], str, int]
    assert [name for name in names if "--" in parameters[name].description] == []


def test_the_file_is_what_optimize_makes(slim: Path, direct: modhifi_graph.Optimized) -> None:
    found = onnx.load(slim / "model.onnx")
    assert [prop.key for prop in found.metadata_props] == ["olive_version"]
    del found.metadata_props[:]
    assert found.SerializeToString(deterministic=True) == direct.model.SerializeToString(deterministic=True)


def test_half_of_the_macs_stay(slim: Path) -> None:
    report = json.loads((slim / "modhifi_report.json").read_text())
    assert report["macs"]["before"] == 15_058_720
    assert 0.48 < report["macs"]["after"] / report["macs"]["before"] <= 0.5
    assert weights(onnx.load(slim / "model.onnx")) < 0.6 * weights(onnx.load(SAMPLE.path))
    right = logits(slim / "model.onnx").argmax(1) == SAMPLE.labels
    assert right.mean() > 0.98


def test_the_plan_lies_beside_it_and_can_be_applied(home: Path, slim: Path) -> None:
    plan = slim / "modhifi_plan.json"
    options = {"type": "ModHiFi", "plan": str(plan), "calib": str(home / "calib.npz"), "samples": 60, "threads": 1}
    again = workflow(home, "again", {"slim": options})
    assert (again / "model.onnx").read_bytes() == (slim / "model.onnx").read_bytes()
    assert json.loads((again / "modhifi_plan.json").read_text()) == json.loads(plan.read_text())


def test_what_follows_it_in_the_workflow(home: Path, slim: Path, direct: modhifi_graph.Optimized) -> None:
    passes = {
        "slim": {"type": "ModHiFi", "calib": str(home / "calib.npz"), **SLIM},
        "half": {"type": "OnnxFloatToFloat16", "keep_io_types": True},
    }
    half = workflow(home, "half", passes)
    assert (half / "modhifi_plan.json").read_bytes() == (slim / "modhifi_plan.json").read_bytes()
    assert (half / "model.onnx").stat().st_size < 0.6 * (slim / "model.onnx").stat().st_size
    np.testing.assert_allclose(logits(half / "model.onnx"), logits(direct.model), atol=0.03)


def test_what_precedes_it_and_a_data_config(home: Path, direct: modhifi_graph.Optimized) -> None:
    """The same images as files of 25, which a data container of Olive's reads."""
    images = SAMPLE.calib[samples.INPUT]
    folder = home / "raw" / samples.INPUT
    folder.mkdir(parents=True)
    for index, batch in enumerate(images.reshape(-1, 25, *images.shape[1:])):
        batch.tofile(folder / f"{index:02}.bin")
    dataset = {
        "data_dir": str(home / "raw"),
        "input_names": [samples.INPUT],
        "input_shapes": [[25, *images.shape[1:]]],
    }
    data = {"name": "digits", "type": "RawDataContainer", "load_dataset_config": {"params": dataset}}
    passes = {
        "peephole": {"type": "OnnxPeepholeOptimizer", "onnxoptimizer_optimize": False},
        "slim": {"type": "ModHiFi", "data_config": "digits", **SLIM},
    }
    found = workflow(home, "raw_digits", passes, data_configs=[data])
    plan = json.loads((found / "modhifi_plan.json").read_text())
    assert plan["settings"]["samples"] == 60
    assert [group["keep"] for group in plan["groups"]] == [list(group.keep) for group in direct.plan.groups]
    np.testing.assert_allclose(logits(found / "model.onnx"), logits(direct.model), atol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([], "data_config: holds no batches"),
        ([32, 16], "data_config: the batches of image are not of one shape: .* pad them"),
    ],
)
def test_batches_that_do_not_join(home: Path, sizes: list[int], message: str) -> None:
    dataset = [{samples.INPUT: np.zeros((1, size, size), np.float32)} for size in sizes]
    Registry.register_dataset("of_this_test")(lambda **_: dataset)
    data = {"name": "odd", "load_dataset_config": {"type": "of_this_test"}}
    passes = {"slim": {"type": "ModHiFi", "data_config": "odd", "seed": len(sizes), **SLIM}}
    with pytest.raises(ValueError, match=message):
        workflow(home, "odd", passes, data_configs=[data])


def test_twice_and_with_external_data(home: Path) -> None:
    """The second reads what the first kept beside its file, and its own plan is what stays."""
    external = {"save_as_external_data": True}
    passes = {
        "first": {"type": "ModHiFi", "params": 0.8, **CHEAP, **external},
        "second": {"type": "ModHiFi", "params": 0.75, **CHEAP, **external},
    }
    found = workflow(home, "twice", passes)
    assert (found / "digits-vit.onnx.data").stat().st_size > 10 * (found / "model.onnx").stat().st_size > 0
    first = modhifi_graph.optimize(SAMPLE.path, params=0.8, bench_seconds=0, **CHEAP)
    second = modhifi_graph.optimize(first.model, params=0.75, bench_seconds=0, **CHEAP)
    assert json.loads((found / "modhifi_plan.json").read_text()) == second.plan.to_json()
    np.testing.assert_array_equal(logits(found / "model.onnx"), logits(second.model))
    assert 0.55 < weights(second.model) / weights(onnx.load(SAMPLE.path)) <= 0.61


def test_a_search_over_budgets(home: Path) -> None:
    size = {"name": "size", "type": "size_on_disk", "sub_types": [{"name": "bytes", "priority": 1}]}
    found = workflow(
        home,
        "search",
        {"slim": {"type": "ModHiFi", "params": [0.8, 0.4, 0.6], **CHEAP}},
        evaluators={"size": {"type": "OnnxEvaluator", "metrics": [size]}},
        evaluator="size",
        search_strategy={"execution_order": "joint", "sampler": "sequential"},
        evaluate_input_model=False,
    )
    report = json.loads((found / "modhifi_report.json").read_text())
    assert report["plan"]["settings"]["params"] == 0.4
    assert 0.37 < report["params"]["after"] / report["params"]["before"] <= 0.4
    footprint = json.loads((found / "footprint.json").read_text())
    tried = [node["pass_run_config"]["params"] for node in footprint.values() if node["pass_run_config"]]
    assert sorted(tried) == [0.4, 0.6, 0.8]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give exactly one of macs, params, keep and plan; given: none"),
        ({"macs": 0.5, "keep": 0.5}, "give exactly one of macs, params, keep and plan; given: macs, keep"),
        ({"macs": 0.5, "calib": "x.npz", "data_config": {"name": "x"}}, "give calib or data_config, not both"),
        ({"macs": 1.5}, "macs is 1.5; expected a fraction above 0 and at most 1"),
        ({"macs": 0.5, "criterion": "taste"}, "criterion 'taste' is unknown; choose one of obs, "),
        ({"macs": 0.5, "calib": "missing.npz"}, r"missing.npz: there is no such file or folder; give a .npz"),
        ({"plan": "missing.json"}, r"missing.json: cannot be read as a plan"),
    ],
)
def test_what_cannot_be_done_is_one_message(home: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        workflow(home, "refused", {"slim": {"type": "ModHiFi", **options}})
    assert raised.value.__cause__ is None
    assert not (home / "refused" / "model.onnx").exists()


def test_a_bad_configuration_stops_the_workflow_before_its_first_pass(home: Path) -> None:
    before = sorted((home / "cache").rglob("*.onnx"))
    passes = {"half": {"type": "OnnxFloatToFloat16", "min_positive_val": 2e-7}, "slim": {"type": "ModHiFi"}}
    with pytest.raises(ValueError, match="given: none"):
        workflow(home, "early", passes)
    assert sorted((home / "cache").rglob("*.onnx")) == before
