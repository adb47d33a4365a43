"""Bring a model from any exporter into one form: no functions, no constant nodes, constants folded, shapes inferred."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript import optimizer

from modhifi_graph.passes.fold_lengths import FoldLengths, is_invented
from modhifi_graph.passes.restore_names import RestoreNames

FOLD_LIMIT = 1 << 28
"""Largest constant, in elements, that folding may read or make."""

FOLDING_ROUNDS = 64
"""Folding a shape lets the next inference know more; ShuffleNet, whose blocks each read the last one's, takes nine."""

EARLIEST_OPSET = 9
INITIALISERS_NEED_NO_INPUT = 4
"""The first IR version in which an initialiser need not also be a graph input."""


class Normalise(ir.passes.InPlacePass):
    """Local functions inlined, constants lifted to initialisers and folded, dead nodes removed, shapes inferred."""

    def requires(self, model: ir.Model) -> None:
        version = model.opset_imports.get("", model.opset_imports.get("ai.onnx"))
        if version is not None and version < EARLIEST_OPSET:
            raise ir.passes.PreconditionError(
                f"opset {version} is older than {EARLIEST_OPSET}; convert it first with onnx.version_converter"
            )

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        if model.ir_version < INITIALISERS_NEED_NO_INPUT:
            model.ir_version = INITIALISERS_NEED_NO_INPUT
        common.InlinePass()(model)
        common.RemoveInitializersFromInputsPass()(model)
        parameters = [name for name, value in model.graph.initializers.items() if _is_weight(value)]
        for _ in range(FOLDING_ROUNDS):
            common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
            _infer(model)
            lengths = FoldLengths()(model)
            with _quietly("onnxscript"):
                folded = optimizer.fold_constants_ir(
                    model,
                    onnx_shape_inference=True,
                    input_size_limit=FOLD_LIMIT,
                    output_size_limit=FOLD_LIMIT,
                    should_fold=_should_fold,
                )
            common.RemoveUnusedNodesPass()(model)
            if not lengths.modified and not folded.modified:
                break
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        common.TopologicalSortPass()(model)
        RestoreNames(parameters)(model)
        common.NameFixPass()(model)
        _infer(model)
        return ir.passes.PassResult(model, modified=True)

    def ensures(self, model: ir.Model) -> None:
        if any(node.op_type == "Constant" and not node.domain for node in model.graph):
            raise ir.passes.PostconditionError("a constant is left as a node")


@contextmanager
def _quietly(library: str) -> Iterator[None]:
    """Without the warnings of a library: the folder warns of every op that it then leaves alone."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _infer(model: ir.Model) -> None:
    """Infer shapes, and give every name that inference once invented the chance of a better one."""
    for node in model.graph:
        for value in node.outputs:
            if value.shape is not None and any(is_invented(dim) for dim in value.shape):
                value.shape = ir.Shape([None if is_invented(dim) else dim for dim in value.shape])
    common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)


def _is_weight(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def _should_fold(node: ir.Node) -> bool | None:
    """Shape arithmetic folds even where it makes a tensor (``ConstantOfShape``); the folder chooses about the rest."""
    return True if node.op_type == "ConstantOfShape" else None
