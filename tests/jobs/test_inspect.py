"""What inspect says about groups, pinned axes and single names."""

from __future__ import annotations

import json
from pathlib import Path

import networkx
import pytest

from modhifi_graph.errors import InputError
from modhifi_graph.jobs.inspect import inspect
from modhifi_graph.report.inspection import Inspection

from ..oracles import small


def found(text: str) -> Inspection:
    return inspect(small.build(text))


CHAIN = small.CONVOLUTIONS["conv_chain"]


class TestGroups:
    def test_a_chain_of_convolutions(self) -> None:
        inspection = found(CHAIN)
        first, second = inspection.groups
        assert (first.name, first.size, first.kind) == ("w0", 8, "channels")
        assert first.produced_by[0].startswith("w0 axis 0 (Conv ")
        assert first.consumed_by[0].startswith("w1 axis 1 (Conv ")
        assert first.macs == 8 * 3 * 9 * 64 + 6 * 8 * 9 * 16
        assert second.consumed_by[0].startswith("w2 axis 0 (Gemm ")
        assert (inspection.macs, inspection.pinned) == (20766, ())

    def test_heads_and_head_dims(self) -> None:
        kinds = [group.kind for group in found(small.SEQUENCES["attention_separate"]).groups]
        assert "heads" in kinds
        assert "head dims" in kinds

    def test_batch_normalisation_is_folded_unless_it_is_kept(self) -> None:
        model = small.build(small.CONVOLUTIONS["batchnorm_opset15"])
        folded, kept = inspect(model), inspect(model, fold_batchnorm=False)
        assert [g.size for g in folded.groups] == [g.size for g in kept.groups]
        assert folded.params < kept.params

    def test_the_model_is_named(self) -> None:
        assert found(CHAIN).label == "<onnx.ModelProto>"
        assert inspect("sample:digits-cnn").label == "sample:digits-cnn"


class TestBranches:
    def test_what_each_would_save(self) -> None:
        """The first block is two convolutions, of 16 positions each, beside a projection; the second one as well."""
        inspection = found(small.CONVOLUTIONS["residual_projection"])
        first, second = inspection.branches
        assert (first.name, first.macs, first.params) == ("w2", (6 * 36 + 8 * 54) * 16, 6 * 36 + 6 + 8 * 54 + 8)
        assert (second.name, second.macs, second.params) == ("w5", 2 * 56 * 9 * 16, 2 * 56 * 9)
        assert inspection.additions == ()

    def test_why_others_stay(self) -> None:
        text = """
            g (float[N,6] x) => (float[N,5] y) <float[6,5] a, float[6,5] b> {
              p = MatMul(x, a)
              q = MatMul(x, b)
              y = Add(p, q)
            }"""
        inspection = found(text)
        (row,) = inspection.additions
        assert row.op.startswith("Add ")
        assert row.reason == "the sum is an output of the graph"
        assert inspection.branches == ()


class TestPinned:
    def test_by_which_op_and_why(self) -> None:
        (row,) = found(small.SEQUENCES["layernorm"]).pinned
        assert row.reasons
        reason, op = row.reasons[0]
        assert reason == "normalised together"
        assert op is not None
        assert op.startswith("LayerNormalization ")

    def test_an_unknown_op_is_a_boundary(self) -> None:
        inspection = inspect(small.SMALL["custom_op"]())
        weight = next(v.name for v in inspection._found.coupling.graph.values() if v.is_constant)
        (reason,) = inspection.why(weight)
        reasons = [reason for factor in reason.axes[0].factors for reason in factor.reasons]
        assert reasons[0].startswith("nothing is known about ops of domain 'com.acme' (Mystery ")


class TestWhy:
    def test_a_parameter(self) -> None:
        (reason,) = found(CHAIN).why("w1")
        assert reason.where is not None
        assert reason.where.startswith("Conv ")
        outputs, inputs, *_ = reason.axes
        assert (outputs.layout, inputs.layout) == ("w1:6", "w0:8")
        assert [factor.group for factor in inputs.factors] == ["w0"]

    def test_a_group(self) -> None:
        inspection = found(CHAIN)
        assert inspection.why("w0") == inspection.why(inspection.groups[0].name)

    def test_a_factor_of_a_group_leads_to_the_parameter(self) -> None:
        inspection = found(small.SEQUENCES["attention_separate"])
        group = next(group for group in inspection.groups if group.kind == "heads")
        (reason,) = inspection.why(group.name)
        assert group.name in {factor.group for axis in reason.axes for factor in axis.factors}
        assert reason.name == group.name.rpartition("/")[0]

    def test_an_input_and_an_output(self) -> None:
        inspection = found(CHAIN)
        (x,), (y,) = inspection.why("x"), inspection.why("y")
        assert x.where is None
        assert x.axes[1].factors[0].reasons == ("the graph's input 'x'", "no weight produces it")
        assert y.axes[1].factors[0].reasons == ("the graph's output 'y'", "no contraction consumes it")
        assert y.axes[0].factors[0].size is None

    def test_a_constant_that_two_ops_read_has_two_explanations(self) -> None:
        assert len(found(small.CONVOLUTIONS["shared_weight"]).why("shared")) == 2

    def test_an_unknown_name_gets_similar_ones(self) -> None:
        with pytest.raises(InputError, match=r"has no parameter or value 'w9'; similar names: w[012]"):
            found(CHAIN).why("w9")
        with pytest.raises(InputError, match="modhifi-graph inspect lists the groups"):
            found(CHAIN).why("something else entirely")

    @pytest.mark.parametrize("name", ["attention_gqa", "dense_concat", "channel_shuffle_twice", "if_subgraph", "lstm"])
    def test_every_name_is_explained(self, name: str) -> None:
        inspection = inspect(small.SMALL[name]())
        values = inspection._found.coupling.graph.values()
        for value in values:
            for reason in inspection.why(value.name):
                assert len(reason.axes) == value.rank
                for factor in (factor for axis in reason.axes for factor in axis.factors):
                    assert (factor.group is None) == bool(factor.reasons)


class TestFormats:
    def test_json(self) -> None:
        data = json.loads(json.dumps(found(small.SEQUENCES["layernorm"]).to_json()))
        assert data.keys() == {"model", "macs", "params", "groups", "pinned", "branches", "additions"}
        assert data["groups"][0].keys() == {"name", "size", "kind", "produced_by", "consumed_by", "macs"}
        assert data["pinned"][0]["reasons"][0]["reason"] == "normalised together"

    def test_graphml(self, tmp_path: Path) -> None:
        inspection = found(CHAIN)
        inspection.to_graphml(tmp_path / "g.graphml")
        graph = networkx.read_graphml(tmp_path / "g.graphml")
        kinds = sorted(data["kind"] for _, data in graph.nodes(data=True) if data["type"] == "op")
        assert kinds == ["Conv", "Conv", "Flatten", "Gemm", "GlobalAveragePool", "Relu", "Relu"]
        groups = {data["label"]: data for _, data in graph.nodes(data=True) if data["type"] == "group"}
        assert (groups["w0"]["size"], groups["w0"]["macs"]) == (8, inspection.groups[0].macs)
        edges = [data["type"] for _, _, data in graph.edges(data=True)]
        # six edges of a chain of seven ops; a weight and a bias produce each of two groups, one op consumes each
        assert (edges.count("data"), edges.count("produces"), edges.count("consumes")) == (6, 4, 2)

    def test_graphml_holds_any_name(self, tmp_path: Path) -> None:
        model = small.build(CHAIN)
        model.graph.node[0].name = "conv\x01\ud83d".encode("utf-8", "replace").decode() + "<&>"
        inspect(model).to_graphml(tmp_path / "g.graphml")
        labels = [data["label"] for _, data in networkx.read_graphml(tmp_path / "g.graphml").nodes(data=True)]
        assert "conv??<&>" in labels


def test_every_wild_and_real_model(shared: Path) -> None:
    groups, refusals = {}, []
    for path in sorted([*(shared / "onnx_wild").glob("*.onnx"), *(shared / "models").glob("*.onnx")]):
        try:
            groups[path.name] = len(inspect(path).groups)
        except InputError as error:
            refusals.append(str(error).startswith(f"{path}: "))
    assert refusals == [True, True]
    assert groups["mobilenet_v2_1.0_224_float.onnx"] == 25
    assert groups["resnet56_cifar10.onnx"] == 32
    assert groups["resnet56_cifar10_bn.onnx"] == 32
    assert groups["linzaer_rfb320.onnx"] == 25
