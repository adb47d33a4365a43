"""Weights are called by their parameters."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from modhifi_graph.passes.restore_names import FOLDED_FROM, RestoreNames

from ..oracles import small


def model(name: str, node: str = "", kind: str = "Conv(x, weight_here)", shape: str = "4,3,1,1") -> ir.Model:
    """One op that reads one weight, called ``name``."""
    text = f"""
        g (float[2,3,8,8] x) => (float[A,B,C,D] y) <float[{shape}] weight_here, float[4] other> {{
          c = {kind}
          y = Relu(c)
        }}"""
    result = ir.from_proto(small.build(text))
    result.graph[0].name = node
    weight = result.graph.initializers["weight_here"]
    weight.name = name
    return result


def restored(source: ir.Model, parameters: list[str] | None = None) -> set[str]:
    RestoreNames(parameters or [])(source)
    assert all(name == value.name == value.const_value.name for name, value in source.graph.initializers.items())
    return set(source.graph.initializers)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("/conv1/Conv", "conv1.weight"),
        ("/layer1/layer1.0/conv2/Conv", "layer1.0.conv2.weight"),
        ("/features/features.5/features.5.0/block/block.0/block.0.0/Conv", "features.5.0.block.0.0.weight"),
        ("/model/model/layers.0/mlp/up_proj/Conv", "model.model.layers.0.mlp.up_proj.weight"),
        ("/trunk_output/block3/block3-2/f/a/a.0/Conv", "trunk_output.block3.block3-2.f.a.0.weight"),
        # the second one of its module: not the module's own
        ("/attn/Conv_1", "onnx::Conv_17"),
        ("/Conv", "onnx::Conv_17"),
        ("conv1/Conv", "onnx::Conv_17"),
        ("", "onnx::Conv_17"),
    ],
)
def test_torchscript_names_the_module_and_not_the_weight(node, expected):
    assert restored(model("onnx::Conv_17", node)) == {expected, "other"}


def test_a_name_of_its_own_is_kept():
    assert restored(model("kernel", "/conv1/Conv")) == {"kernel", "other"}


def test_a_taken_name_is_not_given_twice():
    source = model("onnx::Conv_17", "/conv1/Conv")
    source.graph.initializers["other"].name = "conv1.weight"
    assert restored(source) == {"onnx::Conv_17", "conv1.weight"}


def test_two_weights_that_claim_one_name_keep_their_own():
    source = ir.from_proto(small.build("""
        g (float[2,3,8,8] x) => (float[A,B,C,D] y) <float[3,3,1,1] a, float[3,3,1,1] b> {
          c = Conv(x, a)
          y = Conv(c, b)
        }"""))  # fmt: skip
    for node, name in zip(source.graph, "ab", strict=True):
        node.name = "/attn/Conv"
        source.graph.initializers[name].name = f"onnx::Conv_{ord(name)}"
    assert restored(source) == {"onnx::Conv_97", "onnx::Conv_98"}


@pytest.mark.parametrize(
    ("sources", "parameters", "expected"),
    [
        ("['fc.weight']", ["fc.weight"], "fc.weight"),
        ("['fc.weight', 'val_3']", ["fc.weight"], "fc.weight"),
        ("['fc.weight', 'fc.bias']", ["fc.weight", "fc.bias"], "val_7"),
        ("['val_3']", ["fc.weight"], "val_7"),
        # folded before the model was saved: the parameter is no more
        ("['fc.weight']", ["val_7"], "fc.weight"),
        ("['fc.weight', 'fc.bias']", ["val_7"], "val_7"),
        ("not a list", ["val_7"], "val_7"),
    ],
)
def test_what_was_folded_from_one_parameter_has_its_name(sources, parameters, expected):
    source = model("val_7")
    source.graph.initializers["val_7"].metadata_props[FOLDED_FROM] = sources
    assert restored(source, parameters) == {expected, "other"}
