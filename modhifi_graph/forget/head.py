"""Where a classifier's class scores come from: one output of the graph and the last layer behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from modhifi_graph.errors import InputError
from modhifi_graph.forget.membership import log_probabilities
from modhifi_graph.graph import Graph, Op, Value
from modhifi_graph.observe.sites import Site

PLAIN = {
    *("Add", "AveragePool", "Cast", "Div", "Dropout", "Flatten", "GlobalAveragePool", "Identity", "LogSoftmax"),
    *("Mul", "ReduceMean", "Reshape", "Sigmoid", "Softmax", "Squeeze", "Sub"),
}
"""Ops after which the classes still stand in the order in which the last layer made them."""


@dataclass(frozen=True, eq=False)
class Head:
    """The last layer of a classifier.

    Attributes
    ----------
    site : the layer; its output channels are the classes.
    output : the graph output that holds the class scores, (samples, classes) but for axes of length one.
    place : its position among the floating-point outputs of the graph.
    """

    site: Site
    output: Value
    place: int

    @property
    def classes(self) -> int:
        return self.site.consumer.outputs

    def scores(self, output: torch.Tensor) -> torch.Tensor:
        """Class scores of a batch, shape (samples, classes)."""
        return output.reshape(-1, self.classes)


def find_head(graph: Graph, sites: Sequence[Site], label: str = "the model") -> Head:
    """The head of a classifier; InputError where the graph is none, or its scores are not one layer's."""
    made = {value: op for op in graph.ops for value in op.outputs}
    by_op = {site.consumer.op: site for site in sites}
    for place, output in enumerate(graph.float_outputs):
        lengths = [dim for dim in (output.shape or ())[1:] if dim != 1]
        if len(lengths) != 1 or not isinstance(lengths[0], int):
            continue
        op = _layer(output, made, by_op)
        if op is not None and by_op[op].consumer.outputs == lengths[0] and by_op[op].consumer.parts == 1:
            if by_op[op].bias is None:
                raise InputError(f"{label}: the last layer, {op}, has no bias and none can be given; nothing to edit")
            return Head(by_op[op], output, place)
    raise InputError(
        f"{label}: no output holds one score a class that a single last layer makes; only classifiers can unlearn a class"
    )


def _layer(value: Value, made: dict[Value, Op], layers: dict[Op, Site]) -> Op | None:
    """The layer that a value comes from by plain ops alone."""
    while (op := made.get(value)) is not None and op not in layers:
        activations = [v for v in op.inputs if v is not None and not v.is_constant]
        if op.kind not in PLAIN or len(activations) != 1:
            return None
        value = activations[0]
    return op


def predicted_class(scores: torch.Tensor) -> int:
    """The class that the model sees in samples of one class: the greatest mean probability. Scores (samples, classes)."""
    return int(log_probabilities(scores).exp().mean(0).argmax())


def rate(scores: torch.Tensor, label: int) -> float:
    """The share of samples that are taken for the class, in [0, 1]."""
    return float((scores.argmax(-1) == label).double().mean())
