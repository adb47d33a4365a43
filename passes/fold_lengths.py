"""Fold the lengths that a graph reads at run time although they are known: what exporters write for ``x.size(1) // 2``.

A vector of lengths is evaluated element by element, so that one open batch does not hide the lengths beside it. A
vector known in full becomes a constant. A target shape with open entries is written with the signs that ``Reshape`` has
for them: 0 copies the input's axis, -1 is inferred; a target that needs two of the latter stays as it is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from modhifi_graph.dialects.onnx_constants import constant_array, new_initialiser, replace_constant

Element = int | str | None
"""A number; the name of an axis length, which is never negative; or None where nothing is known."""

Vector = np.ndarray
"""An object array of :data:`Element`, of rank 0 or 1."""

LONGEST = 64
"""More elements than any vector of lengths has; longer integer constants are not read."""


class FoldLengths(ir.passes.InPlacePass):
    """Replace every vector of lengths that is known by a constant. Shapes must have been inferred."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        known: dict[ir.Value, Vector] = {}
        modified = False
        for node in model.graph:
            vector = _evaluate(node, known)
            if vector is not None:
                known[node.outputs[0]] = vector
                modified |= _replace(model, node.outputs[0], vector, known)
            if not node.domain and node.op_type in SHAPED:
                modified |= _refine(node, known)
            if not node.domain and node.op_type == "Reshape":
                modified |= _fold_target(model, node, known)
        return ir.passes.PassResult(model, modified)


def _evaluate(node: ir.Node, known: Mapping[ir.Value, Vector]) -> Vector | None:
    """The elements of the node's output, or None where it is no vector of lengths."""
    if node.domain or node.op_type not in EVALUATORS or len(node.outputs) != 1:
        return None
    if node.op_type in ("Shape", "Size"):
        arguments: list[Any] = [node.inputs[0]]
    else:
        if not any(value in known for value in node.inputs):
            return None
        arguments = [None if value is None else _read(value, known) for value in node.inputs]
        if any(argument is None for argument, value in zip(arguments, node.inputs, strict=True) if value is not None):
            return None
    try:
        vector = EVALUATORS[node.op_type](node, *arguments)
    except (TypeError, ValueError, IndexError, ZeroDivisionError, AssertionError):
        return None  # an argument that is not known, or not of the rank that lengths have
    return None if vector is None or vector.ndim > 1 or vector.size > LONGEST else vector


def _read(value: ir.Value, known: Mapping[ir.Value, Vector]) -> Vector | None:
    if value in known:
        return known[value]
    if value.dtype is None or not (value.dtype.is_integer() or value.dtype is ir.DataType.BOOL):
        return None
    array = constant_array(value)
    return None if array is None or array.ndim > 1 or array.size > LONGEST else array.astype(object)


def _replace(model: ir.Model, value: ir.Value, vector: Vector, known: dict[ir.Value, Vector]) -> bool:
    """Put a constant in place of a vector that is known in full; its readers are still followed."""
    if not value.uses() or not all(isinstance(element, int | bool) for element in vector.ravel()):
        return False
    dtype = np.dtype(np.int64) if value.dtype is None else value.dtype.numpy()
    constant = new_initialiser(model, vector.astype(dtype), f"{value.name}_known")
    known[constant] = vector
    for node, slot in tuple(value.uses()):
        node.replace_input_with(slot, constant)
    return True


def _refine(node: ir.Node, known: Mapping[ir.Value, Vector]) -> bool:
    """Write what a target says about the shape of the output, where inference could not tell."""
    result = node.outputs[0]
    arguments = [None if value is None else _read(value, known) for value in node.inputs]
    dims = SHAPED[node.op_type](node, _dims(node.inputs[0]), *arguments)
    if dims is None or (result.shape is not None and len(result.shape) != len(dims)):
        return False
    old = _dims(result) or [None] * len(dims)
    new = [before if dim is None or isinstance(before, int) else dim for before, dim in zip(old, dims, strict=True)]
    result.shape = ir.Shape(new)
    if node.op_type in SAME and result.type is None and node.inputs[0] is not None:
        result.type = node.inputs[0].type
    # A name that inference invented is forgotten before it runs again, so it is no progress.
    return any(is_invented(before) and not is_invented(now) for before, now in zip(old, new, strict=True))


def is_invented(dim: int | str | ir.SymbolicDim | None) -> bool:
    """Whether nothing is known about a length but the name that onnx's shape inference gave it."""
    name = dim.value if isinstance(dim, ir.SymbolicDim) else dim
    return name is None or (isinstance(name, str) and name.startswith("unk__"))


def _fold_target(model: ir.Model, node: ir.Node, known: Mapping[ir.Value, Vector]) -> bool:
    """Write a partly known target shape as a constant."""
    data, target = node.inputs[:2]
    dims = _dims(data)
    if dims is None or target is None or target not in known:
        return False
    entries = _reshaped(node, dims, None, known[target])
    if entries is None or 0 in entries:
        return False
    copied = [0 if isinstance(e, str) and dims[i : i + 1] == [e] else e for i, e in enumerate(entries)]
    numbers = [e if isinstance(e, int) else -1 for e in copied]
    if numbers.count(-1) > 1:
        return False
    replace_constant(model, node, 1, np.array(numbers, np.int64), f"{node.name or node.op_type}_known_shape")
    node.attributes.pop("allowzero", None)
    return True


def _dims(value: ir.Value | None) -> list[Element] | None:
    return None if value is None or value.shape is None else [_element(dim) for dim in value.shape]


def _reshaped(node: ir.Node, dims: list[Element] | None, _: Any, target: Vector | None) -> list[Element] | None:
    """The lengths that a Reshape makes, with 0 and -1 resolved."""
    if dims is None or target is None or target.ndim != 1:
        return None
    entries: list[Element] = list(target)
    if not node.attributes.get_int("allowzero", 0):
        entries = [dims[i] if e == 0 and i < len(dims) else e for i, e in enumerate(entries)]
    if -1 in entries:
        where = entries.index(-1)
        entries[where] = _quotient(dims, entries[:where] + entries[where + 1 :])
    return entries


def _quotient(dims: list[Element], others: list[Element]) -> Element:
    """The length that times ``others`` makes ``dims``, where it is a number or a single name."""
    if None in dims or None in others:
        return None
    names, divisor = (Counter(e for e in side if isinstance(e, str)) for side in (dims, others))
    whole, part = (math.prod(e for e in side if isinstance(e, int)) for side in (dims, others))
    left = list((names - divisor).elements())
    if divisor - names or not part or whole % part or len(left) > 1:
        return None
    return whole // part if not left else left[0] if whole == part else None


def _expanded(node: ir.Node, dims: list[Element] | None, _: Any, target: Vector | None) -> list[Element] | None:
    """Two lengths broadcast: one of them is the other, or one."""
    if dims is None or target is None or target.ndim != 1:
        return None
    rank = max(len(dims), len(target))
    pairs = zip([1] * (rank - len(dims)) + dims, [1] * (rank - len(target)) + list(target), strict=True)
    return [b if a in (1, b) else a if b == 1 or (isinstance(a, int) and a > 1) else None for a, b in pairs]


def _filled(node: ir.Node, _: Any, target: Vector | None) -> list[Element] | None:
    return None if target is None or target.ndim != 1 else list(target)


def _same(node: ir.Node, dims: list[Element] | None, *_: Any) -> list[Element] | None:
    return dims


def _range(node: ir.Node, _: Any, *bounds: Vector | None) -> list[Element] | None:
    start, limit, step = (None if bound is None or bound.ndim else bound.item() for bound in bounds)
    return [limit] if (start, step) == (0, 1) and isinstance(limit, str) else None


SAME = ("GroupNormalization", "MeanVarianceNormalization")
"""Ops that keep their input's shape, which onnx's shape inference does not know."""

SHAPED: Mapping[str, Callable[..., list[Element] | None]] = {
    **dict.fromkeys(SAME, _same),
    "Reshape": _reshaped,
    "Expand": _expanded,
    "ConstantOfShape": _filled,
    "Range": _range,
}


def _element(dim: int | ir.SymbolicDim) -> Element:
    return dim if isinstance(dim, int) else None if dim.value is None else str(dim.value)


def _shape(node: ir.Node, value: ir.Value) -> Vector:
    assert value.shape is not None
    elements = [_element(dim) for dim in value.shape]
    window = slice(node.attributes.get_int("start", 0), node.attributes.get_int("end", None))
    return np.array(elements, object)[window]


def _size(node: ir.Node, value: ir.Value) -> Vector:
    assert value.shape is not None
    return np.array(_product([_element(dim) for dim in value.shape]), object)


def _product(elements: list[Element]) -> Element:
    return math.prod(e for e in elements if isinstance(e, int)) if all(isinstance(e, int) for e in elements) else None


def _numbers(vector: Vector) -> np.ndarray:
    """A vector that must be known in full, as integers; TypeError otherwise."""
    if any(isinstance(element, str) for element in vector.ravel()):
        raise TypeError("a length is open")
    return vector.astype(np.int64)


def _gather(node: ir.Node, data: Vector, index: Vector) -> Vector:
    return np.array(data[_numbers(index)], object)


def _slice(node: ir.Node, data: Vector, *bounds: Vector) -> Vector:
    given = [list(map(int, _numbers(bound))) for bound in bounds]
    if not given:  # up to opset 9 the bounds are attributes
        given = [list(node.attributes.get_ints(name)) for name in ("starts", "ends")]
    (start,), (end,) = given[:2]
    return data[start : end : given[3][0] if len(given) > 3 else 1]


def _axes(node: ir.Node, given: tuple[Vector, ...]) -> tuple[int, ...] | None:
    axes = list(map(int, _numbers(given[0]))) if given else node.attributes.get_ints("axes", None)
    return None if axes is None else tuple(axes)


def _reduce_product(node: ir.Node, data: Vector, *axes: Vector) -> Vector:
    keep = node.attributes.get_int("keepdims", 1)
    return np.array([_product(list(data))] if keep else _product(list(data)), object)


def _cast(node: ir.Node, data: Vector) -> Vector | None:
    return data if ir.DataType(node.attributes.get_int("to")).is_integer() else None


def _constant_of_shape(node: ir.Node, shape: Vector) -> Vector | None:
    tensor = node.attributes.get_tensor("value", None)
    value = 0 if tensor is None else tensor.numpy().item()
    return np.full(_numbers(shape), value, object) if isinstance(value, int) else None


def _each(function: Callable[..., Element]) -> Callable[..., Vector]:
    """Apply to every element."""
    return lambda node, *vectors: np.asarray(np.frompyfunc(function, len(vectors), 1)(*vectors), object)


def _arithmetic(function: Callable[..., int]) -> Callable[..., Vector]:
    """Apply to every number; what involves an open length is not known."""
    return _each(lambda *elements: function(*elements) if all(isinstance(e, int) for e in elements) else None)


def _divide(a: int, b: int) -> int:
    """ONNX divides integers as C does: towards zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _equal(a: Element, b: Element) -> bool | None:
    """A length equals itself, and no negative number."""
    if a is None or b is None:
        return None
    if a == b or (isinstance(a, int) and isinstance(b, int)):
        return a == b
    return False if any(isinstance(e, int) and e < 0 for e in (a, b)) else None


def _where(condition: Element, a: Element, b: Element) -> Element:
    return None if condition is None else a if condition else b


EVALUATORS: Mapping[str, Callable[..., Vector | None]] = {
    "Shape": _shape,
    "Size": _size,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": lambda node, *parts: np.concatenate(parts),
    "Unsqueeze": lambda node, data, *axes: np.expand_dims(data, _axes(node, axes) or 0),
    "Squeeze": lambda node, data, *axes: np.squeeze(data, _axes(node, axes)),
    "Reshape": lambda node, data, target: data.reshape(_numbers(target)),
    "Identity": lambda node, data: data,
    "Cast": _cast,
    "ReduceProd": _reduce_product,
    "ConstantOfShape": _constant_of_shape,
    "Add": _arithmetic(lambda a, b: a + b),
    "Sub": _arithmetic(lambda a, b: a - b),
    "Mul": _arithmetic(lambda a, b: a * b),
    "Div": _arithmetic(_divide),
    "Neg": _arithmetic(lambda a: -a),
    "Equal": _each(_equal),
    "Where": _each(_where),
}
