"""Neutral graphs by hand, for what no runtime executes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modhifi_graph.axes.coupling import Coupling, couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.axes.layout import leaves, render
from modhifi_graph.graph import Dim, Graph, Op, Value


def activation(name: str, *shape: Dim) -> Value:
    return Value(name, shape, np.dtype(np.float32))


def constant(name: str, array: np.ndarray | Sequence[int]) -> Value:
    data = np.asarray(array)
    return Value(name, data.shape, data.dtype, lambda: data)


def weight(name: str, *shape: int) -> Value:
    return constant(name, np.ones(shape, np.float32))


def op(
    kind: str,
    inputs: Sequence[Value | None],
    outputs: Sequence[Value],
    opset: int = 21,
    domain: str = "",
    **attributes: Any,
) -> Op:
    return Op(kind, kind.lower(), tuple(inputs), tuple(outputs), attributes, domain, opset)


def coupled(*ops: Op, inputs: Sequence[Value] = (), outputs: Sequence[Value] = ()) -> Coupling:
    return couple(Graph(tuple(inputs), tuple(outputs), ops))


def written(coupling: Coupling, value: Value, names: Mapping[Any, str] | None = None) -> list[str]:
    return [render(axis, names) for axis in coupling.axes(value) or ()]


def reasons(coupling: Coupling, value: Value, axis: int) -> set[str]:
    """Why an axis of an activation is pinned."""
    found = find_groups(coupling).reasons
    axes = coupling.axes(value)
    assert axes is not None
    return {why.reason for factor in leaves(axes[axis]) for why in found.get(factor, ())}
