"""Fold batch normalisation into the layer before it.

At inference it is y = a x + c with a = gain / sqrt(variance + epsilon) and c = bias - a mean. After a linear layer
x = W u + b that is a linear layer again, with weight a W and bias a b + c. Everything is computed in float64 and
rounded once, to the type that the weight already has.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from modhifi_graph.dialects.onnx import interface, opset_of
from modhifi_graph.dialects.onnx_constants import constant_array, origin, replace_constant

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")

TRAINING_MODE_OPSET = 14
"""From this opset on an attribute says whether the op trains; before, it trained where it had more than one output."""


@dataclass(frozen=True)
class Foldable:
    """A normalisation and the linear layer before it, perhaps with the addition of a constant between the two.

    Attributes
    ----------
    norm : the BatchNormalization.
    layer : the Conv, ConvTranspose, Gemm or MatMul.
    addition : the Add and which of its inputs is the constant, or None.
    """

    norm: ir.Node
    layer: ir.Node
    addition: tuple[ir.Node, int] | None

    @cached_property
    def parameters(self) -> list[np.ndarray | None]:
        """Gain, bias, mean and variance; None where one is not constant."""
        return [constant_array(value) for value in self.norm.inputs[1:5]]

    @cached_property
    def scale(self) -> np.ndarray:
        gain, _, _, variance = map(_float64, self.parameters)
        scale: np.ndarray = gain / np.sqrt(variance + self.norm.attributes.get_float("epsilon", 1e-5))
        return scale

    @cached_property
    def shift(self) -> np.ndarray:
        _, bias, mean, _ = map(_float64, self.parameters)
        shift: np.ndarray = bias - self.scale * mean
        return shift

    def constants(self) -> dict[tuple[ir.Node, int], np.ndarray] | None:
        """The new constants, by node and input; None where something is missing or does not fit."""
        weight, bias = (constant_array(_input(self.layer, slot)) for slot in (1, 2))
        unreadable = bias is None and _input(self.layer, 2) is not None
        if weight is None or unreadable or any(array is None for array in self.parameters):
            return None
        scaled = self._weight(_float64(weight))
        if scaled is None:
            return None
        found = {(self.layer, 1): scaled.astype(weight.dtype)}
        beta = self.layer.attributes.get_float("beta", 1.0)
        scaled_bias = 0.0 if bias is None else beta * _float64(bias) * self.scale
        if self.addition is None:
            found[self.layer, 2] = (scaled_bias + self.shift).astype(weight.dtype)
            return found
        if bias is not None:
            found[self.layer, 2] = np.asarray(scaled_bias).astype(weight.dtype)
        node, slot = self.addition
        constant = constant_array(node.inputs[slot])
        assert constant is not None
        scale, shift = (vector.reshape(-1, *[1] * (weight.ndim - 2)) for vector in (self.scale, self.shift))
        found[node, slot] = (_float64(constant) * scale + shift).astype(constant.dtype)
        return found if constant.ndim <= weight.ndim else None

    def _weight(self, weight: np.ndarray) -> np.ndarray | None:
        """The weight with every output channel scaled; None where it does not have as many as there are scales."""
        channels, kind = len(self.scale), self.layer.op_type
        if kind == "ConvTranspose":
            groups = self.layer.attributes.get_int("group", 1)
            inputs, outputs, *kernel = weight.shape
            if outputs * groups != channels:
                return None
            grouped = weight.reshape(groups, inputs // groups, outputs, *kernel)
            scaled: np.ndarray = grouped * self.scale.reshape(groups, 1, outputs, *[1] * len(kernel))
            return scaled.reshape(weight.shape)
        outer = kind == "Conv" or (kind == "Gemm" and self.layer.attributes.get_int("transB", 0) == 1)
        if weight.shape[0 if outer else -1] != channels or (kind == "MatMul" and weight.ndim != 2):
            return None
        result: np.ndarray = weight * (self.scale.reshape(-1, *[1] * (weight.ndim - 1)) if outer else self.scale)
        return result


class FoldBatchNorm(ir.passes.InPlacePass):
    """Fold every inference-mode ``BatchNormalization`` whose input is a linear layer that nothing else reads.

    Conv, ConvTranspose (grouped and depthwise ones too), Gemm and MatMul qualify, with a constant added or not. A
    weight that other nodes read stays as it is for them. What does not qualify is left alone.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        self._interface = interface(model)
        opset = opset_of(model)
        norms = [node for node in model.graph if node.op_type == "BatchNormalization" and not node.domain]
        folded = [norm for norm in norms if _is_inference(norm, opset) and _fold(model, norm)]
        if folded:
            common.RemoveUnusedNodesPass()(model)
            common.NameFixPass()(model)
        return ir.passes.PassResult(model, modified=bool(folded))

    def ensures(self, model: ir.Model) -> None:
        if interface(model) != self._interface:
            raise ir.passes.PostconditionError("folding changed the graph's inputs or outputs")


def _fold(model: ir.Model, norm: ir.Node) -> bool:
    """Fold one normalisation; False, with nothing changed, where it cannot be."""
    found = _find(norm)
    constants = None if found is None else found.constants()
    if found is None or constants is None or not all(np.isfinite(array).all() for array in constants.values()):
        return False
    last = found.layer if found.addition is None else found.addition[0]
    new: list[ir.Node] = []
    if last.op_type == "MatMul":
        # It has no bias: the normalisation becomes the addition of one.
        last = ir.node("Add", [found.layer.outputs[0], None], name=norm.name)
        new.append(last)
        constants[last, 1] = constants.pop((found.layer, 2))
    bias = _bias_name(found.layer)
    for (node, slot), array in constants.items():
        replace_constant(model, node, slot, array, bias)
    if found.layer.op_type == "Gemm":
        found.layer.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    ir.convenience.replace_nodes_and_values(model.graph, norm, [norm], new, norm.outputs[:1], last.outputs[:1])
    return True


def _bias_name(layer: ir.Node) -> str:
    """What the bias of a layer would be called, going by its weight: ``conv1.weight`` has ``conv1.bias``."""
    weight = layer.inputs[1]
    name = (origin(weight).name if weight is not None else None) or layer.name or layer.op_type
    return name.removesuffix("weight") + "bias" if name.endswith(".weight") else f"{name}_bias"


def _is_inference(norm: ir.Node, opset: int) -> bool:
    if opset >= TRAINING_MODE_OPSET:
        return norm.attributes.get_int("training_mode", 0) == 0
    return not any(result.name for result in norm.outputs[1:])


def _find(norm: ir.Node) -> Foldable | None:
    """The linear layer before a normalisation, if nothing else reads what lies between."""
    layer, addition = _only_reader(norm.inputs[0], norm), None
    if layer is not None and layer.op_type == "Add":
        constants = [slot for slot, value in enumerate(layer.inputs) if constant_array(value) is not None]
        if len(constants) != 1:
            return None
        addition = (layer, constants[0])
        layer = _only_reader(layer.inputs[1 - constants[0]], layer)
    if layer is None or layer.op_type not in LINEAR:
        return None
    # Channels are axis 1; the outputs of a product with a matrix are its last axis.
    if layer.op_type == "MatMul" and (_rank(layer.outputs[0]) or _rank(layer.inputs[0])) != 2:
        return None
    return Foldable(norm, layer, addition)


def _only_reader(value: ir.Value | None, reader: ir.Node) -> ir.Node | None:
    """The node that makes ``value``, if ``reader`` is the only one that reads it."""
    if value is None or value.is_graph_output() or len(value.uses()) != 1:
        return None
    node = value.producer()
    return node if node is not None and not node.domain and node.graph is reader.graph else None


def _input(node: ir.Node, slot: int) -> ir.Value | None:
    return node.inputs[slot] if slot < len(node.inputs) else None


def _rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)


def _float64(array: np.ndarray | None) -> np.ndarray:
    assert array is not None
    return array.astype(np.float64)
