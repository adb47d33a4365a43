"""The form that everything else works on: what an opened ONNX model becomes before anything looks at it."""

from __future__ import annotations

import onnx_ir as ir

from modhifi_graph.errors import InputError
from modhifi_graph.models import validity
from modhifi_graph.passes.fold_batchnorm import FoldBatchNorm
from modhifi_graph.passes.normalise import Normalise


def normalise(model: ir.Model, label: str, *, fold_batchnorm: bool = True) -> ir.Model:
    """Bring an opened model, in place, into the form that everything else works on.

    Raises
    ------
    InputError
        A pass cannot handle the model.
    """

    try:
        Normalise()(model)
        if fold_batchnorm:
            FoldBatchNorm()(model)
    except Exception as error:  # the passes are libraries', and so are their exceptions
        reason = validity.one_line(error.__cause__ or error)
        raise InputError(f"{label}: cannot be normalised, so nothing was done: {reason}") from error
    return model
