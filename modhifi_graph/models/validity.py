"""What a model must be for us to work on it. Every refusal names the model, the node and what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from modhifi_graph.errors import InputError

EARLIEST_OPSET = 9
TRAINING_ATTRIBUTE_OPSET = 14
"""From this opset on batch normalisation trains where an attribute says so; before, where it has more outputs."""

INITIALISERS_NEED_NO_INPUT = 4
"""The first IR version in which an initialiser need not also be a graph input; runtimes never asked for it."""

SMALL = 1 << 10
"""Largest constant, in elements, that may be a shape or an index and matter to shape inference."""


def one_line(error: BaseException) -> str:
    """The message of an exception of a library, which may run over many lines."""
    return " ".join(str(error).split()) or type(error).__name__


def check_stored(proto: onnx.ModelProto, label: str) -> None:
    """Refuse weights whose bytes do not fit their shape, and those that nothing here can read."""
    if proto.graph.sparse_initializer:
        name = proto.graph.sparse_initializer[0].values.name
        raise InputError(f"{label}: the weight {name!r} is a sparse tensor, which is not supported; store it densely")
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            continue
        try:
            onnx.checker.check_tensor(tensor)
        except onnx.checker.ValidationError as error:
            reason = one_line(error)
            raise InputError(f"{label}: the weight {tensor.name!r} is damaged: {reason}; export it again") from error


def check_external(model: ir.Model, label: str, folder: Path | None) -> None:
    """Point external weights at ``folder``, and refuse those that are missing, short, or that lie outside of it."""
    for tensor in _external(model):
        where = f"{label}: the weight {tensor.name!r} is kept in {os.fspath(tensor.location)!r}"
        if folder is None:
            raise InputError(f"{where}, and an object does not say beside which file; give the path of the model")
        location = os.fspath(tensor.location)
        real = Path(os.path.realpath(folder / location))
        relative = not os.path.isabs(location) and not PureWindowsPath(location).is_absolute()
        if not relative or not real.is_relative_to(os.path.realpath(folder)):
            raise InputError(f"{where}, outside of the model's folder {folder}; copy it there, and name it by its name")
        if not real.is_file():
            raise InputError(f"{where}, not found in {folder}; it belongs beside the model")
        status = real.stat()
        if status.st_nlink > 1:
            raise InputError(f"{where}, a file with several hard links; copy it, so that only the model has it")
        offset, needed = tensor.offset or 0, tensor.nbytes
        if (tensor.length is not None and tensor.length < needed) or status.st_size < offset + needed:
            raise InputError(
                f"{where}, which is too short: {needed} bytes from {offset} on are missing some of them; "
                "export or download it again"
            )
        tensor.base_dir = folder


def checked(model: ir.Model, label: str) -> ir.Model:
    """The model, with its nodes in order and wrongly declared outputs corrected, if it is one that we can work on."""
    _check_opset(model, label)
    _check_interface(model, label)
    _check_mode(model, label)
    _check_defined(model, label)
    try:
        common.TopologicalSortPass()(model)
    except Exception as error:  # a cycle
        raise InputError(f"{label}: its nodes cannot be put in order: {one_line(error.__cause__ or error)}") from error
    try:
        onnx.checker.check_model(skeleton(model))
    except (onnx.checker.ValidationError, ValueError) as error:
        reason = one_line(error)
        if "No Op registered" in reason:
            reason += "; use an opset that has it, or a domain of its own if it is a custom operator"
        raise InputError(f"{label}: is not a valid ONNX model: {reason}") from error
    _mend_outputs(model)
    return model


def _check_opset(model: ir.Model, label: str) -> None:
    version = model.opset_imports.get("", model.opset_imports.get("ai.onnx"))
    newest = onnx.defs.onnx_opset_version()
    if version is None and any(node.domain in ("", "ai.onnx") for node in model.graph):
        raise InputError(f"{label}: does not say which opset it uses; export it again with opset {EARLIEST_OPSET}+")
    if version is not None and version < EARLIEST_OPSET:
        raise InputError(
            f"{label}: opset {version} is older than {EARLIEST_OPSET}; convert it first with onnx.version_converter"
        )
    if version is not None and version > newest:
        raise InputError(f"{label}: opset {version} is newer than the installed onnx knows ({newest}); update onnx")


def _check_interface(model: ir.Model, label: str) -> None:
    if not [value for value in model.graph.inputs if not value.is_initializer()]:
        raise InputError(
            f"{label}: the graph has no inputs, so its outputs are constants and there is nothing to prune for; "
            "export it with its data as graph inputs"
        )
    if not model.graph.outputs:
        raise InputError(f"{label}: the graph has no outputs; export it with what it computes as graph outputs")
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.type is None:
            raise InputError(f"{label}: {value.name!r} has no type; declare one in the graph's inputs and outputs")


def _check_defined(model: ir.Model, label: str) -> None:
    read = [(value, node) for node in model.graph.all_nodes() for value in node.inputs if value is not None]
    for value, node in (*read, *((value, None) for value in model.graph.outputs)):
        if value.producer() is None and not value.is_graph_input() and not value.is_initializer():
            reader = (
                "is an output" if node is None else f"is read by {node.op_type} {node.name or node.outputs[0].name!r}"
            )
            raise InputError(
                f"{label}: {value.name!r} {reader}, but nothing computes it; the graph was cut wrongly, export it again"
            )


def _check_mode(model: ir.Model, label: str) -> None:
    version = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0))
    graphs = [model.graph, *(function.graph for function in model.functions.values())]
    for node in (node for graph in graphs for node in graph.all_nodes()):
        if node.domain in ("", "ai.onnx") and _is_training(node, version):
            raise InputError(
                f"{label}: {node.op_type} {node.name or node.outputs[0].name!r} is in training mode; export the model "
                "in evaluation mode (model.eval() in PyTorch)"
            )


def _is_training(node: ir.Node, opset: int) -> bool:
    if node.op_type == "BatchNormalization":
        if opset < TRAINING_ATTRIBUTE_OPSET:
            return any(result.uses() or result.is_graph_output() for result in node.outputs[1:])
        return "training_mode" in node.attributes and node.attributes.get_int("training_mode", 0) != 0
    if node.op_type == "Dropout" and len(node.inputs) > 2 and (mode := node.inputs[2]) is not None:
        constant = ir.convenience.get_const_tensor(mode)
        return constant is not None and bool(constant.numpy().any())
    return False


def skeleton(model: ir.Model) -> onnx.ModelProto:
    """The model with its large weights as graph inputs: everything the checker looks at, and no copy of the data."""
    bare = model.clone()
    bare.ir_version = max(bare.ir_version or 0, INITIALISERS_NEED_NO_INPUT)
    declared = set(bare.graph.inputs)
    for name, value in list(bare.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or (tensor.size <= SMALL and not isinstance(tensor, ir.ExternalTensor)):
            continue
        del bare.graph.initializers[name]
        value.const_value = None
        value.shape, value.type = ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)
        if value not in declared:
            bare.graph.inputs.append(value)
    proto = ir.to_proto(bare)
    # Runtimes accept an output of undeclared shape; the checker does not.
    for output in proto.graph.output:
        if output.type.HasField("tensor_type") and not output.type.tensor_type.HasField("shape"):
            output.type.tensor_type.shape.SetInParent()
    return proto


def _mend_outputs(model: ir.Model) -> None:
    """Infer the shape of outputs that declare none, or that declare a scalar, which some exporters write for none."""
    declared = {value: value.shape for value in model.graph.outputs if not value.shape}
    if not declared:
        return
    for value in declared:
        value.shape = None
    common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    for value, shape in declared.items():
        if value.shape is None:
            value.shape = shape


def _external(model: ir.Model) -> Iterator[ir.ExternalTensor]:
    """Every tensor kept in another file: weights, and constants in nodes and subgraphs."""
    for graph in model.graphs():
        tensors = [value.const_value for value in graph.initializers.values()]
        for node in graph:
            tensors += [a.as_tensor() for a in node.attributes.values() if a.type is ir.AttributeType.TENSOR]
        yield from (tensor for tensor in tensors if isinstance(tensor, ir.ExternalTensor))
