"""The models that the oracles run on are what they claim to be: they run, they match, and every weight shows."""

import dataclasses
from itertools import chain

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from . import params, small, zoo

onnxruntime = pytest.importorskip("onnxruntime")

QUICK = ("resnet18", "shufflenet_v2_x1_0", "llama", "bert")


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def axes(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    return tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)


# the zoo


def zoo_cases() -> list[object]:
    """Every export; the slow mark on all but a few."""
    return [
        pytest.param(name, exporter, dynamic, marks=() if name in QUICK and dynamic else pytest.mark.slow)
        for name, exporter in zoo.cases()
        for dynamic in (True, False)
    ]


@pytest.mark.parametrize(("name", "exporter", "dynamic"), zoo_cases())
def test_export_computes_what_torch_computes(torch, name, exporter, dynamic):
    params.require(name)
    architecture = zoo.ZOO[name]
    model = zoo.export(name, exporter, dynamic=dynamic)
    for declared, value in zip(architecture.inputs, model.graph.input, strict=True):
        varying = dict(declared.dynamic) if dynamic else {}
        assert value.name == declared.name
        assert axes(value) == tuple(varying.get(axis, size) for axis, size in enumerate(declared.shape))

    feeds = zoo.samples(name, seed=1, batch=3 if dynamic else None)
    (actual,) = run(model, feeds)
    with torch.no_grad():
        expected = zoo.module(name)(*map(torch.from_numpy, feeds.values())).numpy()
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1e-3 * max(1.0, expected.std())
    # a network that answers the same whatever it sees would pass every oracle
    assert expected.std(axis=0).mean() >= 0.05 * expected.std()


@pytest.mark.parametrize("name", params.names(QUICK))
def test_weights_are_seeded_and_leave_nothing_at_its_initial_value(torch, name):
    params.require(name)
    model, again = zoo.module(name), zoo.module(name)
    for (key, first), second in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(first, second), key
    parameters = dict(model.named_parameters())
    statistics = {key: value for key, value in model.named_buffers() if key.endswith(("running_mean", "running_var"))}
    for key, value in chain(parameters.items(), statistics.items()):
        assert value.numel() == 1 or value.std() > 1e-3, f"{key} is constant"
    assert all(value.min() >= 0.2 for key, value in parameters.items() if key.endswith("layer_scale"))
    assert all(value.min() > 0 for key, value in statistics.items() if key.endswith("running_var"))
    assert not model.training


def test_the_cache_is_read_again_and_named_by_what_it_depends_on(torch, monkeypatch):
    path = zoo.export_path("resnet18", "torchscript")
    before = path.stat().st_mtime_ns
    assert zoo.export_path("resnet18", "torchscript") == path
    assert path.stat().st_mtime_ns == before
    assert path.read_bytes() == zoo.export("resnet18", "torchscript").SerializeToString()
    others = {
        zoo._cache_path("resnet18", *key) for key in (("dynamo", True), ("torchscript", False), ("dynamo", False))
    }
    monkeypatch.setattr(zoo, "SEED", zoo.SEED + 1)
    assert len({path, *others, zoo._cache_path("resnet18", "torchscript", True)}) == 5


def test_a_cached_file_appears_whole_and_leaves_nothing_beside_it(tmp_path):
    target = tmp_path / "new" / "model.onnx"
    zoo._write_atomically(target, b"first")
    zoo._write_atomically(target, b"second")
    assert [each.name for each in target.parent.iterdir()] == ["model.onnx"]
    assert target.read_bytes() == b"second"


def test_what_an_exporter_cannot_do_says_why(monkeypatch):
    broken = dataclasses.replace(zoo.ZOO["resnet18"], unsupported={"torchscript": "aten::made_up has no symbolic"})
    monkeypatch.setitem(zoo.ZOO, "resnet18", broken)
    with pytest.raises(zoo.Unsupported, match="resnet18 by torchscript: aten::made_up has no symbolic"):
        zoo.export("resnet18", "torchscript")
    assert zoo.cases(("resnet18",)) == [("resnet18", "dynamo")]


def test_an_unknown_exporter_is_named():
    with pytest.raises(ValueError, match="'onnx2': expected one of"):
        zoo.export("resnet18", "onnx2")


# the small models

ARGUMENTS = {"scales", "roi"}
"""Vectors of floats that are arguments of an operator, not weights."""


@pytest.mark.parametrize("name", small.SMALL)
def test_small_model_is_valid_and_reproducible(name):
    model = small.SMALL[name]()
    onnx.checker.check_model(model, full_check=True)
    assert model == small.SMALL[name]()


@pytest.mark.parametrize("name", [name for name in small.SMALL if name not in small.NOT_RUNNABLE])
@pytest.mark.parametrize("batch", [1, 4])
def test_small_model_runs(name, batch):
    model = small.SMALL[name]()
    outputs = run(model, small.samples(model, batch=batch))
    for output, value in zip(outputs, model.graph.output, strict=True):
        assert output.shape == tuple(batch if size == "N" else size for size in axes(value))
        assert np.isfinite(output).all()
        assert 0.05 < output.std() < 20


@pytest.mark.parametrize("name", [name for name in small.SMALL if name not in small.NOT_RUNNABLE])
def test_every_weight_and_every_input_of_a_small_model_shows_in_its_output(name):
    model = small.SMALL[name]()
    feeds = small.samples(model)
    # the negative of an input takes the other branch of an If
    feeds_of = [feeds, {key: -value for key, value in feeds.items()}]
    before = [run(model, each)[0] for each in feeds_of]
    generator = np.random.default_rng(0)
    for key, other in small.samples(model, seed=1).items():
        assert np.abs(run(model, {**feeds, key: other})[0] - before[0]).max() > 1e-2, key
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or not tensor.dims or tensor.name in ARGUMENTS:
            continue
        original = onnx.TensorProto.FromString(tensor.SerializeToString())
        value = numpy_helper.to_array(tensor)
        moved = value + generator.uniform(0.1, 0.3, value.shape).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
        after = [run(model, each)[0] for each in feeds_of]
        assert max(np.abs(one - other).max() for one, other in zip(after, before, strict=True)) > 1e-3, tensor.name
        tensor.CopyFrom(original)


@pytest.mark.parametrize("name", small.NOT_RUNNABLE)
def test_what_is_said_not_to_run_does_not_run(name):
    with pytest.raises(Exception, match=r"com\.acme"):
        run(small.SMALL[name](), {})


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("initializers_as_inputs", "static_opset9"),
        ("constant_nodes", "residual_projection"),
    ],
)
def test_another_spelling_of_the_same_model_computes_the_same(name, same_as):
    model, reference = small.SMALL[name](), small.SMALL[same_as]()
    feeds = small.samples(reference)
    assert small.samples(model).keys() == feeds.keys()
    np.testing.assert_array_equal(run(model, feeds)[0], run(reference, feeds)[0])


def test_initializers_as_inputs_and_constant_nodes_are_spelt_as_they_say():
    model = small.SMALL["initializers_as_inputs"]()
    assert {tensor.name for tensor in model.graph.initializer} < {value.name for value in model.graph.input}
    assert model.ir_version == 3
    model = small.SMALL["constant_nodes"]()
    assert not model.graph.initializer
    assert sum(node.op_type == "Constant" for node in model.graph.node) == 10
