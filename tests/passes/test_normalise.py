"""Whatever an exporter wrote, the rest of the compiler sees one form."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modhifi_graph.passes.normalise import Normalise
from tools import zoo

from ..oracles import small
from ..oracles.equivalence import distance, groups_of, normalised, run


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_functions_are_inlined():
    model = normalised(small.SMALL["local_function"]())
    assert kinds(model) == ["Conv", "Relu", "Conv", "Relu", "Conv"]
    assert not model.functions


def test_constants_are_initialisers():
    model = normalised(small.SMALL["constant_nodes"]())
    assert "Constant" not in kinds(model)
    assert len(model.graph.initializer) == 10


def test_ir_3_says_initialisers_are_inputs():
    before = small.SMALL["initializers_as_inputs"]()
    assert (before.ir_version, len(before.graph.input)) == (3, 8)
    model = normalised(before)
    assert model.ir_version >= 4
    assert [value.name for value in model.graph.input] == ["x"]
    onnx.checker.check_model(model, full_check=True)
    feeds = small.samples(before)
    reference = run(before, feeds)
    assert distance(run(model, feeds), reference, reference) < 1e-6


@pytest.mark.parametrize("opset", [7, 8])
def test_an_older_opset_is_refused_with_the_remedy(opset):
    text = f'<ir_version: 4, opset_import: ["" : {opset}]> g (float[2,3] x) => (float[2,3] y) {{ y = Relu(x) }}'
    with pytest.raises(ir.passes.PreconditionError, match=rf"opset {opset} is older than 9; convert it first"):
        Normalise()(ir.from_proto(small.build(text)))


def test_opset_9_is_not():
    assert kinds(normalised(small.SMALL["static_opset9"]()))[0] == "Conv"


def test_what_weights_alone_determine_is_folded():
    model = normalised(small.build("""
        g (float[N,6] x) => (float[N,4] y) <float[4,6] w, float[4] b, float[4] unused> {
          t = Transpose(w)
          s = Sigmoid(b)
          m = MatMul(x, t)
          dead = Relu(m)
          y = Add(m, s)
        }"""))  # fmt: skip
    assert kinds(model) == ["MatMul", "Add"]
    assert {tensor.name: list(tensor.dims) for tensor in model.graph.initializer} == {"w": [6, 4], "b": [4]}


def test_shapes_are_inferred_and_keep_the_name_of_the_batch():
    model = ir.from_proto(normalised(small.SMALL["conv_chain"]()))
    shapes = {node.op_type: str(node.outputs[0].shape) for node in model.graph}
    assert (shapes["GlobalAveragePool"], shapes["Flatten"]) == ("[N,6,1,1]", "[N,6]")


def test_normalising_twice_is_normalising_once():
    for name in ("dynamic_reshape", "attention_gqa", "local_function", "resize_sizes_opset13"):
        once = normalised(small.SMALL[name]())
        assert kinds(normalised(once)) == kinds(once), name


def test_the_folder_does_not_talk(capfd, caplog):
    """It warns of every op that it then leaves alone."""
    logging.getLogger("onnxscript").setLevel(logging.NOTSET)
    normalised(zoo.export("bert", "torchscript", dynamic=False))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert logging.getLogger("onnxscript").level == logging.NOTSET


@pytest.mark.parametrize("name", ["shufflenet_v2_x1_0", "gpt2", "llama"])
def test_an_open_batch_hides_no_group(torch, name):
    """TorchScript computes what it reshapes to from lengths that it reads at run time."""
    dynamo, script = (groups_of(normalised(zoo.export(name, each))) for each in zoo.EXPORTERS)
    assert [group.size for group in script.groups] == [group.size for group in dynamo.groups]


@pytest.mark.parametrize(
    ("name", "exporter", "expected"),
    [
        ("llama", "dynamo", "model.model.layers.0.self_attn.q_proj.weight/0"),
        ("llama", "torchscript", "model.model.layers.0.self_attn.q_proj.weight/0"),
        ("bert", "torchscript", "model.encoder.layer.1.intermediate.dense.weight"),
        ("bert", "dynamo", "model.encoder.layer.1.intermediate.dense.weight"),
        ("resnet18", "torchscript", "layer1.0.conv1.weight"),
        ("resnet18", "dynamo", "layer1.0.conv1.weight"),
    ],
)
def test_groups_are_called_by_parameters(torch, name, exporter, expected):
    model = normalised(zoo.export(name, exporter))
    assert expected in groups_of(model).by_name()
    parameters = {key for key, _ in zoo.module(name).named_parameters()}
    folded = {"bias"} if exporter == "torchscript" else set()
    for group in groups_of(model).groups:
        parameter = group.name.partition("/")[0].partition("#")[0]
        assert parameter in parameters or parameter.rpartition(".")[2] in folded, group.name


def test_an_unused_input_stays():
    model = normalised(small.build("g (float[2,3] x, float[2] unused) => (float[2,3] y) { y = Relu(x) }"))
    assert [value.name for value in model.graph.input] == ["x", "unused"]


def test_a_constant_output_stays_an_output():
    model = normalised(small.build("""
        g (float[2,3] x) => (float[2,3] y, float[3] w) <float[3] w> { y = Add(x, w) }"""))  # fmt: skip
    feeds = {"x": np.zeros((2, 3), np.float32)}
    assert run(model, feeds)["w"].shape == (3,)
