"""Call weights by their parameters again, where folding or an exporter gave them names of their own.

Folding ``Transpose(weight)`` leaves a constant called after the transposition, and TorchScript calls the transposed
weight of ``mlp.fc`` ``onnx::MatMul_708``. People know parameters, and plans name groups by them.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Collection
from itertools import pairwise

import onnx_ir as ir

FOLDED_FROM = "pkg.onnxscript.optimizer.folded_from"
"""Under this key onnxscript's folder notes the names that a constant was made from."""

_EXPORTED = re.compile(r"onnx::\w+_\d+")
_SLOTS = {1: "weight", 2: "bias"}


class RestoreNames(ir.passes.InPlacePass):
    """Rename initialisers to the parameters that they come from, where no other value claims the name.

    ``parameters`` are the names that the model's weights had before anything was folded.
    """

    def __init__(self, parameters: Collection[str]) -> None:
        super().__init__()
        self.parameters = frozenset(parameters)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        claims: dict[str, list[ir.Value]] = defaultdict(list)
        for value in model.graph.initializers.values():
            name = self._folded(value) or _module(value)
            if name is not None:
                claims[name].append(value)
        taken = {value.name for node in model.graph.all_nodes() for value in (*node.inputs, *node.outputs) if value}
        taken |= {value.name for value in (*model.graph.inputs, *model.graph.outputs)} | set(model.graph.initializers)
        renamed = {name: values[0] for name, values in claims.items() if len(values) == 1 and name not in taken}
        for name, value in renamed.items():
            value.name = name
        return ir.passes.PassResult(model, modified=bool(renamed))

    def _folded(self, value: ir.Value) -> str | None:
        """The one parameter that a constant was folded from: by us, or before us by the exporter."""
        try:
            sources = set(ast.literal_eval(value.metadata_props.get(FOLDED_FROM, "[]")))
        except (ValueError, SyntaxError):
            return None
        known = sources if value.name in self.parameters else sources & self.parameters
        return str(next(iter(known))) if len(known) == 1 else None


def _module(value: ir.Value) -> str | None:
    """The parameter's name by the module that TorchScript says the only reader belongs to: ``/mlp/mlp.0/Gemm``."""
    uses = tuple(value.uses())
    if len(uses) != 1 or not _EXPORTED.fullmatch(value.name or ""):
        return None
    node, slot = uses[0]
    root, *path = (node.name or "").split("/")
    if root or len(path) < 2 or path[-1] != node.op_type or slot not in _SLOTS:
        return None
    # A module in a list repeats the list's name: /features/features.1/features.1.0
    inner = [scope for scope, after in pairwise(path) if not after.startswith(f"{scope}.")]
    return ".".join([*inner, _SLOTS[slot]])
