"""The oracles: slim equals mask, permuted equals original, and the groups that are on the list.

Slim and mask take the plan in two different ways. The one slices weights by layouts and rewrites every number that went
stale; the other zeroes weights and touches nothing else. A wrong layout, a stale entry or a missed consumer shows as a
difference, or as a model that the runtime refuses.
"""

from __future__ import annotations

import functools

import numpy as np
import onnx
import pytest

from modhifi_graph.passes.slim import Slim
from modhifi_graph.plan import random_plan
from tools import zoo

from . import equivalence, golden, params, small
from .equivalence import Case

pytest.importorskip("onnxruntime")

PLANS = ((0, 0.5), (1, 0.75), (2, 0.2))
"""Seed and fraction kept. A fifth of a small group is one component: axes of length one, squeezed or broadcast."""

TOLERANCE = 1e-4

RUNNABLE = [name for name in small.SMALL if name not in small.NOT_RUNNABLE]

NO_GROUPS = {
    "channel_softmax_gate": "the only hidden channels are normalised by a softmax",
    "if_subgraph": "what its branches read stays whole",
    "gru": "the state of a recurrence stays whole",
}

DEPTHS = ((0, 0.5, 1.0), (1, 0.75, 0.5), (2, 1.0, 0.5))
"""Seed, fraction kept, and the probability with which every branch goes."""

BRANCHES = {
    "resnet18": 8, "resnet50": 16, "densenet121": 0, "densenet201": 0, "googlenet": 0, "inception_v3": 0,
    "convnext_tiny": 18, "vit_b_16": 24, "swin_t": 24, "swin_t_padded": 24, "shufflenet_v2_x1_0": 0, "llama": 4,
    "mixtral": 4, "bert": 4, "gpt2": 4, "mobilenet_v3_large": 10,
}  # fmt: skip
"""How many residual branches may go."""

LAST_BRANCH = {
    "resnet18": "layer4.1.conv2.weight",
    "llama": "model.model.layers.1.mlp.down_proj.weight",
    "bert": "model.encoder.layer.1.output.dense.weight",
    "vit_b_16": "encoder.layers.encoder_layer_11.mlp.3.weight",
}
"""What the last of them is called, by both dialects."""

UNKNOWN_LENGTHS = {("vit_b_16", "torchscript", True): 12}
"""Fewer where the exporter leaves a length of the sum open: attention gives it a symbol of its own."""

QUICK = {
    ("resnet18", "dynamo", True),
    ("densenet121", "torchscript", False),
    ("mobilenet_v3_large", "torchscript", True),
    ("shufflenet_v2_x1_0", "torchscript", True),
    *((name, exporter, dynamic) for name in ("llama", "mixtral", "bert", "gpt2") for exporter, dynamic in (
        ("dynamo", True), ("dynamo", False), ("torchscript", True), ("torchscript", False)
    )),
}  # fmt: skip
"""What the zoo runs by default; all of it runs when slow tests do."""

RENAMED = {
    "swin_t": "TorchScript folds the transposed weight of a fused projection, and with it its name",
    "swin_t_padded": "as swin_t",
    "vit_b_16": "as swin_t",
}
"""Where TorchScript's exports have the groups on the list under other names."""


@functools.cache
def small_case(name: str) -> Case:
    model = small.SMALL[name]()
    return Case.of(model, small.samples(model))


def zoo_case(name: str, exporter: str, dynamic: bool) -> Case:
    params.require(name)
    feeds = zoo.samples(name, seed=1, batch=3 if dynamic else None)
    return Case.of(zoo.export(name, exporter, dynamic=dynamic), feeds)


def zoo_cases() -> list[object]:
    return [
        pytest.param(name, exporter, dynamic, marks=() if (name, exporter, dynamic) in QUICK else pytest.mark.slow)
        for name, exporter in zoo.cases()
        for dynamic in (True, False)
    ]


@pytest.mark.parametrize("name", RUNNABLE)
def test_slim_equals_mask_on_small_models(name):
    case = small_case(name)
    assert bool(case.groups.groups) == (name not in NO_GROUPS)
    for seed, fraction in PLANS:
        assert case.slim_against_mask(seed, fraction) < TOLERANCE


WITH_BRANCHES = (
    "residual_projection", "shortcut_pad", "shortcut_strided_slice", "shortcut_concat_zeros",
    "shortcut_concat_constant_of_shape", "c2f_split", "embedding", "constant_nodes",
)  # fmt: skip


@pytest.mark.parametrize("name", RUNNABLE)
def test_slim_equals_mask_without_the_branches_of_small_models(name):
    case = small_case(name)
    assert bool(case.branches) == (name in WITH_BRANCHES)
    for seed, fraction, depth in DEPTHS if case.branches else ():
        assert case.slim_against_mask(seed, fraction, depth=depth) < TOLERANCE


@pytest.mark.parametrize("name", RUNNABLE)
def test_permuting_components_of_small_models_changes_nothing(name):
    for seed in range(3):
        assert small_case(name).permuted_against_original(seed) < TOLERANCE


@pytest.mark.parametrize("name", RUNNABLE)
def test_slim_small_models_pass_the_checker_with_strict_shapes(name):
    case = small_case(name)
    for seed, fraction in PLANS:
        slim = equivalence.apply(case.model, Slim(random_plan(case.groups, seed, fraction)))
        onnx.checker.check_model(slim, full_check=True)
        onnx.shape_inference.infer_shapes(slim, check_type=True, strict_mode=True)


@pytest.mark.parametrize("name", RUNNABLE)
def test_normalising_a_small_model_changes_nothing(name):
    model, case = small.SMALL[name](), small_case(name)
    before = equivalence.run(model, case.feeds)
    assert equivalence.distance(case.answers, before, before) < 1e-5


def test_a_wrong_slice_is_seen():
    """The oracle itself: the components that a plan drops are not the ones it keeps."""
    case = small_case("conv_chain")
    plan, other = random_plan(case.groups, 0, 0.5), random_plan(case.groups, 7, 0.5)
    slim, mask = (equivalence.run(equivalence.apply(case.model, Slim(each)), case.feeds) for each in (plan, other))
    assert equivalence.distance(slim, mask, case.answers) > 0.01


@pytest.mark.parametrize(("name", "exporter", "dynamic"), zoo_cases())
def test_an_export_of_the_zoo(torch, name, exporter, dynamic):
    """One test for all three oracles: to normalise a model takes longer than any of them."""
    case = zoo_case(name, exporter, dynamic)
    found, expected = golden.listing(case.groups), golden.expected_of_onnx(name, dynamic)
    assert sorted(found.values()) == sorted(expected.values())
    assert (exporter == "torchscript" and name in RENAMED) or found == expected
    for seed, fraction in PLANS:
        assert case.slim_against_mask(seed, fraction) < TOLERANCE, "slim differs from mask"
    assert case.permuted_against_original(seed=0) < TOLERANCE, "permuted differs from original"
    if name in BRANCHES:
        assert len(case.branches) == UNKNOWN_LENGTHS.get((name, exporter, dynamic), BRANCHES[name])
    if name in LAST_BRANCH:
        assert list(case.branches)[-1] == LAST_BRANCH[name]
    for seed, fraction, depth in DEPTHS if case.branches else ():
        assert case.slim_against_mask(seed, fraction, depth=depth) < TOLERANCE, (
            "slim differs from mask without branches"
        )


def attention_model(opset: int) -> onnx.ModelProto:
    """A convolution stem, attention with packed heads, and a hidden layer: the attributes that changed with opsets."""
    text = f"""
        <ir_version: {4 if opset < 11 else 8}, opset_import: ["" : {opset}]>
        g (float[N,3,4,4] x) => (float[N,16,5] y)
        <float[12,3,3,3] w0, float[12] b0, float[12,1,3,3] dw, float[12,36] wqkv, float[36] bqkv, float[12,12] wo,
         float[12,7] w1, float[7] b1, float[7,5] w2, int64[3] tokens = {{0,12,16}}, int64[4] heads = {{0,0,3,4}},
         int64[3] merged = {{0,0,12}}, float scale = {{0.5}}> {{
          c0 = Conv<pads = [1,1,1,1]>(x, w0, b0)
          r0 = LeakyRelu(c0)
          d0 = Conv<pads = [1,1,1,1], group = 12>(r0, dw)
          t0 = Reshape(d0, tokens)
          t = Transpose<perm = [0,2,1]>(t0)
          p = MatMul(t, wqkv)
          pb = Add(p, bqkv)
          SPLIT
          q4 = Reshape(q, heads)
          k4 = Reshape(k, heads)
          v4 = Reshape(v, heads)
          qt = Transpose<perm = [0,2,1,3]>(q4)
          kt = Transpose<perm = [0,2,3,1]>(k4)
          vt = Transpose<perm = [0,2,1,3]>(v4)
          s = MatMul(qt, kt)
          sc = Mul(s, scale)
          a = Softmax<axis = 3>(sc)
          o = MatMul(a, vt)
          ot = Transpose<perm = [0,2,1,3]>(o)
          om = Reshape(ot, merged)
          h = MatMul(om, wo)
          r = Add(h, t)
          m1 = MatMul(r, w1)
          mb = Add(m1, b1)
          z = Relu(mb)
          y = MatMul(z, w2)
        }}"""
    old = "q, k, v = Split<axis = 2, split = [12,12,12]>(pb)"
    new = "sizes = Constant<value_ints = [12,12,12]>()\n q, k, v = Split<axis = 2>(pb, sizes)"
    return small.build(text.replace("SPLIT", old if opset < 13 else new))


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 18, 21, min(23, onnx.defs.onnx_opset_version())])
def test_the_same_model_in_every_opset_has_the_same_groups(opset):
    case = Case.of(attention_model(opset), {"x": np.random.default_rng(0).standard_normal((2, 3, 4, 4), np.float32)})
    assert {(group.name, group.size) for group in case.groups.groups} == {
        ("w0", 12), ("wqkv/0", 3), ("wqkv/1", 4), ("wqkv/2", 4), ("w1", 7)
    }  # fmt: skip
    for seed, fraction in PLANS:
        assert case.slim_against_mask(seed, fraction) < TOLERANCE
    assert case.permuted_against_original(0) < TOLERANCE
