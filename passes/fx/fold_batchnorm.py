"""Fold batch norms into the convolution or linear layer before them.

``W' = a W`` and ``b' = a (b - m) + c`` with ``a = g / sqrt(v + e)``, computed in float64.
"""

from __future__ import annotations

import operator

import torch
from torch import fx
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from modhifi_graph.dialects.aten import Lifted, lift
from modhifi_graph.dialects.aten_module import argument, attribute, readers, tidy
from modhifi_graph.graph import Op, Value

FOLDED = ("Conv", "Gemm")


class FoldBatchNorm(PassBase):
    """Fold every batch norm whose input is a layer that nothing else reads; weights keep their names."""

    def call(self, graph_module: fx.GraphModule) -> PassResult:
        lifted = lift(graph_module)
        made = {value: op for op in lifted.graph.ops for value in op.outputs}
        count = 0
        for op in lifted.graph.ops:
            source = op.input(0)
            layer = made.get(source) if source is not None else None
            if op.kind == "BatchNormalization" and layer is not None and _fits(lifted, op, layer):
                _fold(lifted, op, layer)
                count += 1
        tidy(graph_module)
        return PassResult(graph_module, modified=count > 0)


def _fits(lifted: Lifted, norm: Op, layer: Op) -> bool:
    """Whether only the norm reads the layer, and only the layer its parameters."""
    if layer.kind not in FOLDED or len(lifted.nodes[layer].users) != 1 or lifted.graph.outputs.count(layer.outputs[0]):
        return False
    if any(result.name and i for i, result in enumerate(norm.outputs)):
        return False
    constants = [layer.input(1), layer.input(2), *norm.inputs[1:]]
    if any(value is not None and not value.is_constant for value in constants):
        return False
    if layer.kind == "Gemm" and (layer.outputs[0].rank != 2 or not layer.attributes.get("transB")):
        return False
    own = [value for value in constants[:2] if value is not None]
    return all(len(readers(lifted.module, value.name)) == 1 for value in own)


def _fold(lifted: Lifted, norm: Op, layer: Op) -> None:
    module, node, after = lifted.module, lifted.nodes[layer], lifted.nodes[norm]
    gain, shift, mean, variance = (_tensor(module, value) for value in norm.inputs[1:5])
    weight, bias = _tensor(module, layer.inputs[1]), _tensor(module, layer.input(2))
    assert weight is not None
    assert mean is not None
    assert variance is not None
    scale = (1 if gain is None else gain) / torch.sqrt(variance + float(argument(after, "eps")))
    moved = ((0 if bias is None else bias) - mean) * scale + (0 if shift is None else shift)
    lifted.assign(layer, 1, (weight * scale.reshape(-1, *[1] * (weight.ndim - 1))).cpu().numpy())
    lifted.assign(layer, 2, moved.cpu().numpy())
    results = [user for user in after.users if user.target is operator.getitem] or [after]
    for result in results:
        result.replace_all_uses_with(node)


def _tensor(module: torch.nn.Module, value: Value | None) -> torch.Tensor | None:
    return None if value is None else attribute(module, value.name).detach().double()
