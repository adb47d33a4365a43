"""Opening models of every kind, and refusing what cannot be worked on."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.errors import InputError
from modhifi_graph.models.opening import open_model, sample_path
from modhifi_graph.passes.normal_form import normalise

from ..oracles import small


def affine(opset: int = 17) -> onnx.ModelProto:
    """y = x w with w = [[0, 1], [2, 3]]; x is (n, 2)."""
    weight = numpy_helper.from_array(np.arange(4, dtype=np.float32).reshape(2, 2), "w")
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", inputs, outputs, [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def written(folder: Path, model: onnx.ModelProto | bytes, name: str = "m.onnx") -> Path:
    path = folder / name
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def external(folder: Path, location: str = "w.bin", length: int | None = 16, data: bytes | None = None) -> Path:
    """The affine model with its weight in another file."""
    model = affine()
    tensor = model.graph.initializer[0]
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": "0"} | ({} if length is None else {"length": str(length)})
    tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in entries.items())
    (folder / "w.bin").write_bytes(raw if data is None else data)
    return written(folder, model)


class TestKinds:
    def test_a_path_gives_a_proto(self, tmp_path: Path) -> None:
        path = written(tmp_path, affine())
        for source in (path, str(path)):
            opened = open_model(source)
            assert (opened.kind, opened.label, opened.path) == ("path", str(path), path)
            back = opened.give_back(opened.model)
            assert isinstance(back, onnx.ModelProto)
            assert numpy_helper.to_array(back.graph.initializer[0]).tolist() == [[0, 1], [2, 3]]

    def test_a_proto_is_not_modified(self) -> None:
        model = affine()
        before = model.SerializeToString()
        opened = open_model(model)
        opened.model.graph.node(0).op_type = "Changed"
        opened.model.graph.outputs[0].name = "other"
        assert opened.kind == "proto"
        assert model.SerializeToString() == before
        assert isinstance(opened.give_back(opened.model), onnx.ModelProto)

    def test_an_ir_model_is_not_modified(self) -> None:
        model = ir.from_proto(affine())
        opened = open_model(model)
        normalise(opened.model, opened.label)
        opened.model.graph.outputs[0].name = "other"
        assert (opened.kind, model.graph.outputs[0].name) == ("ir", "y")
        assert isinstance(opened.give_back(opened.model), ir.Model)

    def test_a_graphsurgeon_graph(self) -> None:
        surgeon = pytest.importorskip("onnx_graphsurgeon")
        graph = surgeon.import_onnx(affine())
        opened = open_model(graph)
        back = opened.give_back(opened.model)
        assert opened.kind == "graphsurgeon"
        assert isinstance(back, surgeon.Graph)
        assert [node.op for node in back.nodes] == ["MatMul"]
        assert back.nodes[0].inputs[1].values.tolist() == [[0, 1], [2, 3]]

    def test_a_sample(self) -> None:
        opened = open_model("sample:digits-cnn")
        assert (opened.label, opened.kind, opened.path) == ("sample:digits-cnn", "path", sample_path("digits-cnn"))
        with pytest.raises(InputError, match="no such sample; give sample:digits-cnn or sample:digits-vit"):
            open_model("sample:digits")

    def test_anything_else_is_named(self) -> None:
        with pytest.raises(InputError, match=r"cannot open a builtins\.int: expected the path of an ONNX file"):
            open_model(3)  # type: ignore[arg-type]

    def test_the_interface_is_given_back_as_declared(self) -> None:
        """Inference knows that the second output axis is 2; the model declares it by another symbol."""
        model = affine()
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "features"
        opened = open_model(model)
        normalise(opened.model, opened.label)
        opened.model.graph.outputs[0].shape = ir.Shape(["n", 2])
        (output,) = opened.give_back(opened.model).graph.output
        assert [d.dim_param for d in output.type.tensor_type.shape.dim] == ["n", "features"]

    @pytest.mark.parametrize("dtype", [np.float16, np.float64])
    def test_other_precisions(self, dtype: type[np.generic]) -> None:
        model = affine()
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.eye(2, dtype=dtype), "w"))
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        assert open_model(model).model.graph.outputs[0].dtype == ir.DataType.from_numpy(np.dtype(dtype))


NOT_A_MODEL: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty; export or download it again"),
    "truncated": (affine().SerializeToString()[:60], "is not an ONNX model, or is truncated"),
    "random": (np.random.default_rng(0).bytes(4000), "is not an ONNX model, or is truncated"),
    "text": (b"hello, world\n", "is not an ONNX model, or is truncated"),
    "pickle": (pickle.dumps([1, 2, 3]), "is not an ONNX model, or is truncated"),
    "torch": (
        pickle.dumps([1], protocol=2),
        "is a Python pickle, as PyTorch writes, not an ONNX model; export it first",
    ),
    "zip": (b"PK\x03\x04aaaa", "is a zip archive, as PyTorch and Keras write, not an ONNX model"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "is an HDF5 file, as Keras writes, not an ONNX model"),
    "no graph": (onnx.ModelProto(ir_version=8).SerializeToString(), "holds no graph, so it is not an ONNX model"),
}


@pytest.mark.parametrize("case", NOT_A_MODEL)
def test_refuses_what_is_no_model(tmp_path: Path, case: str) -> None:
    data, message = NOT_A_MODEL[case]
    path = written(tmp_path, data)
    with pytest.raises(InputError) as caught:
        open_model(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_every_truncation_is_refused_or_read(tmp_path: Path) -> None:
    """Wherever a download breaks off, there is a message; only a cut between two whole fields can leave a model."""
    data = affine().SerializeToString()
    refused = 0
    for end in range(len(data)):
        path = written(tmp_path, data[:end])
        try:
            open_model(path)
        except InputError as error:
            refused += str(error).startswith(str(path))
    assert refused >= len(data) - 2


class TestPaths:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(
            InputError, match="there is no such file; give the path of an ONNX model or sample:digits-cnn"
        ):
            open_model(tmp_path / "no.onnx")

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"is a folder; give the path of the \.onnx file in it"):
            open_model(tmp_path)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_not_readable(self, tmp_path: Path) -> None:
        path = written(tmp_path, affine())
        path.chmod(0)
        with pytest.raises(InputError, match="cannot be read: Permission denied"):
            open_model(path)


class TestExternalData:
    def test_stays_on_disk_until_it_is_given_back(self, tmp_path: Path) -> None:
        opened = open_model(external(tmp_path))
        (weight,) = opened.model.graph.initializers.values()
        assert isinstance(weight.const_value, ir.ExternalTensor)
        assert numpy_helper.to_array(to_proto(opened.model).graph.initializer[0]).tolist() == [[0, 1], [2, 3]]
        assert isinstance(weight.const_value, ir.ExternalTensor)

    def test_is_found_from_any_working_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        external(tmp_path)
        monkeypatch.chdir(tmp_path)
        opened = open_model("m.onnx")
        monkeypatch.chdir("/")
        assert numpy_helper.to_array(to_proto(opened.model).graph.initializer[0]).tolist() == [[0, 1], [2, 3]]

    @pytest.mark.parametrize("location", ["/etc/hostname", "../w.bin", "sub/../../w.bin", "C:\\w.bin"])
    def test_outside_of_the_folder(self, tmp_path: Path, location: str) -> None:
        folder = tmp_path / "model"
        folder.mkdir()
        (tmp_path / "w.bin").write_bytes(bytes(16))
        with pytest.raises(InputError, match="outside of the model's folder"):
            open_model(external(folder, location))

    def test_a_link_to_the_outside(self, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        folder.mkdir()
        (tmp_path / "secret").write_bytes(bytes(16))
        path = external(folder)
        (folder / "w.bin").unlink()
        (folder / "w.bin").symlink_to(tmp_path / "secret")
        with pytest.raises(InputError, match="outside of the model's folder"):
            open_model(path)

    def test_a_hard_link(self, tmp_path: Path) -> None:
        path = external(tmp_path)
        os.link(tmp_path / "w.bin", tmp_path / "other")
        with pytest.raises(InputError, match="a file with several hard links; copy it"):
            open_model(path)

    def test_missing(self, tmp_path: Path) -> None:
        path = external(tmp_path)
        (tmp_path / "w.bin").unlink()
        with pytest.raises(InputError, match=r"the weight 'w' is kept in 'w\.bin', not found in .*; it belongs beside"):
            open_model(path)

    @pytest.mark.parametrize(("length", "data"), [(16, bytes(15)), (None, bytes(15)), (12, bytes(16))])
    def test_too_short(self, tmp_path: Path, length: int | None, data: bytes) -> None:
        with pytest.raises(InputError, match="which is too short"):
            open_model(external(tmp_path, length=length, data=data))

    def test_of_an_object(self, tmp_path: Path) -> None:
        model = onnx.load(external(tmp_path), load_external_data=False)
        with pytest.raises(InputError, match="an object does not say beside which file; give the path"):
            open_model(model)


def _without_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.pop()
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 2), np.float32), "x"))


def _unknown_op(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Mystery"


def _undefined(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "nowhere"


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "b"
    model.graph.node.append(helper.make_node("Relu", ["y"], ["b"]))


def _damaged(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = bytes(15)


def _sparse(model: onnx.ModelProto) -> None:
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))


def _training_norm(model: onnx.ModelProto) -> None:
    model.graph.node.append(
        helper.make_node("BatchNormalization", ["y", *["c"] * 4], ["z", "m", "v"], name="bn1", training_mode=1)
    )
    model.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "c"))


def _training_norm_before_14(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 9
    _training_norm(model)
    model.graph.node[1].ClearField("attribute")
    model.graph.output.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, [2]))


def _training_dropout(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Dropout", ["y", "", "train"], ["z"], name="drop"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "train"))


INVALID: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "no inputs": (_without_inputs, "the graph has no inputs, so its outputs are constants"),
    "no outputs": (lambda m: m.graph.ClearField("output"), "the graph has no outputs"),
    "opset 8": (lambda m: m.opset_import[0].__setattr__("version", 8), "opset 8 is older than 9; convert it first"),
    "opset 99": (lambda m: m.opset_import[0].__setattr__("version", 99), "opset 99 is newer than the installed onnx"),
    "no opset": (lambda m: m.ClearField("opset_import"), "does not say which opset it uses"),
    "unknown op": (_unknown_op, "is not a valid ONNX model: No Op registered for Mystery"),
    "undefined": (
        _undefined,
        "'nowhere' is read by MatMul 'y', but nothing computes it; the graph was cut",
    ),
    "no such output": (
        lambda m: m.graph.output[0].__setattr__("name", "z"),
        "'z' is an output, but nothing computes it",
    ),
    "cycle": (_cycle, "its nodes cannot be put in order"),
    "damaged": (_damaged, "the weight 'w' is damaged"),
    "sparse": (_sparse, "the weight 's' is a sparse tensor, which is not supported"),
    "training": (_training_norm, "BatchNormalization 'bn1' is in training mode; export the model in evaluation mode"),
    "training 9": (_training_norm_before_14, "BatchNormalization 'bn1' is in training mode"),
    "dropout": (_training_dropout, "Dropout 'drop' is in training mode"),
}


@pytest.mark.parametrize("case", INVALID)
def test_refuses_an_invalid_graph(tmp_path: Path, case: str) -> None:
    change, message = INVALID[case]
    model = affine()
    change(model)
    path = written(tmp_path, model)
    with pytest.raises(InputError) as caught:
        open_model(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


class TestLenience:
    def test_nodes_in_any_order(self) -> None:
        model = affine()
        model.graph.node.insert(0, helper.make_node("Relu", ["y"], ["z"]))
        model.graph.output[0].name = "z"
        assert [node.op_type for node in open_model(model).model.graph] == ["MatMul", "Relu"]

    @pytest.mark.parametrize("declare", [False, True], ids=["no shape", "a scalar"])
    def test_outputs_declared_wrongly(self, declare: bool) -> None:
        model = affine()
        model.graph.output[0].type.tensor_type.ClearField("shape")
        if declare:
            model.graph.output[0].type.tensor_type.shape.SetInParent()
        opened = open_model(model)
        assert str(opened.model.graph.outputs[0].shape) == "[n,2]"
        onnx.checker.check_model(opened.give_back(opened.model), full_check=True)

    def test_old_ir_versions_with_initialisers_as_inputs(self) -> None:
        model = affine(opset=9)
        model.ir_version = 3
        model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 2]))
        opened = open_model(model)
        normalise(opened.model, opened.label)
        assert [value.name for value in opened.model.graph.inputs] == ["x"]

    def test_operators_of_other_domains(self) -> None:
        assert open_model(small.SMALL["custom_op"]()).model.graph.node(0) is not None


def test_normalising_reports_what_it_cannot_do() -> None:
    model = ir.from_proto(affine(opset=8))
    with pytest.raises(InputError, match="m: cannot be normalised, so nothing was done: opset 8 is older than 9"):
        normalise(model, "m")


BROKEN = {
    "trt_qdq_conv.onnx": "the graph has no inputs, so its outputs are constants and there is nothing to prune for",
    "trt_nested_local_function.onnx": "is not a valid ONNX model: No Op registered for Fake_2 with domain_version of",
}


def test_wild_files_open_or_say_why_not(shared: Path) -> None:
    refused = {}
    for path in sorted((shared / "onnx_wild").glob("*.onnx")):
        try:
            open_model(path)
        except InputError as error:
            refused[path.name] = str(error).removeprefix(f"{path}: ")
    assert refused.keys() == BROKEN.keys()
    for name, message in BROKEN.items():
        assert refused[name].startswith(message)
