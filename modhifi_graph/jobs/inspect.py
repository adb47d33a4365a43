"""What can be pruned in a model, what cannot, and why."""

from __future__ import annotations

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.models.opening import Source, open_model
from modhifi_graph.passes.normal_form import normalise
from modhifi_graph.report.inspection import Inspection


def inspect(source: Source, *, fold_batchnorm: bool = True) -> Inspection:
    """Find what can be pruned in a model.

    Parameters
    ----------
    source : path, "sample:NAME", onnx.ModelProto, onnx_ir.Model or onnx_graphsurgeon.Graph
        The model. It is not modified.
    fold_batchnorm : bool, default True
        Whether batch normalisation is folded first, as `optimize` does.

    Raises
    ------
    InputError
        The model cannot be opened or normalised.

    Examples
    --------
    >>> found = inspect("sample:digits-cnn")
    >>> found.groups[0].kind
    'channels'
    """
    opened = open_model(source)
    model = normalise(opened.model, opened.label, fold_batchnorm=fold_batchnorm)
    return Inspection.of(opened.label, find_groups(couple(lift(model).graph)))
