"""The architectures that the oracles run on are what they claim to be: they run, they match, and every weight shows."""

import dataclasses
from itertools import chain

import numpy as np
import pytest

from tools import zoo
from tools.zoo import exports

from ...oracles import params
from ...oracles.sessions import axes, run

QUICK = ("resnet18", "shufflenet_v2_x1_0", "llama", "bert")


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
        exports._cache_path("resnet18", *key) for key in (("dynamo", True), ("torchscript", False), ("dynamo", False))
    }
    monkeypatch.setattr(exports, "SEED", exports.SEED + 1)
    assert len({path, *others, exports._cache_path("resnet18", "torchscript", True)}) == 5


def test_a_cached_file_appears_whole_and_leaves_nothing_beside_it(tmp_path):
    target = tmp_path / "new" / "model.onnx"
    exports._write_atomically(target, b"first")
    exports._write_atomically(target, b"second")
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
