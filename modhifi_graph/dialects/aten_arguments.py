"""Ways of reading calls of ATen operators: which kind they are, which tensors are inputs, which attributes ONNX would give.

:mod:`modhifi_graph.dialects.aten_table` says which operator is read in which way. A function of arguments is such a way;
a function of a kind makes one that reads calls as that kind.
"""

from __future__ import annotations

import sys
from typing import Any

from modhifi_graph.dialects.aten_call import Arguments, Call, Entry, NotCovered
from modhifi_graph.graph import Value

END = sys.maxsize
"""Where a slice that names no end stops."""


def _integers(numbers: Any) -> list[int]:
    """A list of plain numbers; one that is computed at run time is not covered."""
    found = list(numbers) if isinstance(numbers, list | tuple) else [numbers]
    if not all(isinstance(n, int) for n in found):
        raise NotCovered("an argument is computed at run time")
    return [int(n) for n in found]


def _spread(numbers: Any, count: int) -> list[int]:
    """One number for every window axis."""
    found = _integers(numbers)
    return found * count if len(found) == 1 else found


def carry(kind: str, **attributes: Any) -> Entry:
    """The first tensor is all that matters."""
    return lambda a: Call(kind, a.tensors()[:1], attributes)


def pointwise(kind: str) -> Entry:
    return lambda a: Call(kind, a.tensors())


def product(kind: str) -> Entry:
    """A rounded quotient is no plain division."""
    return lambda a: Call(kind if a.rounding_mode is None else "Pointwise", a.tensors(), _number(a))


def _number(a: Arguments) -> dict[str, float]:
    """The second operand, as an attribute, where it is a number."""
    return {"scalar": float(a.other)} if isinstance(a.other, int | float) else {}


def add(kind: str) -> Entry:
    """A scaled second summand is no plain addition."""
    return lambda a: Call(kind if a.alpha in (None, 1) else "Pointwise", a.tensors(), _number(a))


def clamp(a: Arguments) -> Call:
    bounds = {"min": a.min if a.min_val is None else a.min_val, "max": a.max if a.max_val is None else a.max_val}
    if any(isinstance(bound, Value) for bound in bounds.values()):
        return Call("Pointwise", a.tensors())
    return Call("Clip", (a.self,), {name: float(bound) for name, bound in bounds.items() if bound is not None})


def convolution(a: Arguments) -> Call:
    weight, x = a.weight, a.input
    dims = len(weight.shape) - 2
    if x.shape is None or len(x.shape) != dims + 2:
        raise NotCovered("its input has no batch axis")
    attributes: dict[str, Any] = {
        "group": int(a.groups),
        "strides": _spread(a.stride, dims),
        "dilations": _spread(a.dilation, dims),
    }
    if isinstance(a.padding, str):
        attributes["auto_pad"] = {"same": "SAME_UPPER", "valid": "VALID"}[a.padding]
    else:
        attributes["pads"] = _spread(a.padding, dims) * 2
    return Call("ConvTranspose" if a.transposed else "Conv", (x, weight, a.bias), attributes)


def conv_transpose(a: Arguments) -> Call:
    call = convolution(a)
    return Call("ConvTranspose", call.inputs, call.attributes)


def linear(a: Arguments) -> Call:
    return Call("Gemm", (a.input, a.weight, a.bias), {"transB": 1})


def addmm(a: Arguments) -> Call:
    return Call("Gemm", (a.mat1, a.mat2, a.self), {"alpha": float(a.alpha), "beta": float(a.beta)})


def grouped_matmul(a: Arguments) -> Call:
    """Rows in order of the matrix that each is multiplied with; what transformers falls back to takes the same arguments."""
    x, weight = a.tensors()[:2]
    offsets = a.offs
    if offsets is None or x.rank != 2 or weight.rank != 3 or a.bias is not None:
        raise NotCovered("only rows times one of several matrices are covered")
    return Call("GroupedMatMul", (x, weight, offsets))


def attention(a: Arguments) -> Call:
    inputs = (a.query, a.key, a.value, *((a.attn_mask,) if a.attn_mask is not None else ()))
    scale = {} if a.scale is None else {"scale": float(a.scale)}
    return Call("ScaledDotProductAttention", inputs, {"grouped": bool(a.enable_gqa), **scale})


def batch_norm(a: Arguments) -> Call:
    if a.training:
        raise NotCovered("it normalises by the batch")
    return Call("BatchNormalization", (a.input, a.weight, a.bias, a.running_mean, a.running_var), _epsilon(a))


def layer_norm(kind: str) -> Entry:
    return lambda a: Call(
        kind,
        tuple(v for v in (a.input, a.weight, a.bias) if v is not None),
        {"axis": -len(a.normalized_shape), **_epsilon(a)},
    )


def group_norm(a: Arguments) -> Call:
    groups = a.num_groups if a.num_groups is not None else a.group
    return Call("GroupNormalization", (a.input, a.weight, a.bias), {"num_groups": int(groups), **_epsilon(a)})


def _epsilon(a: Arguments) -> dict[str, float]:
    """What is added to a variance; without one PyTorch adds what float32 can just tell from one."""
    return {"epsilon": 2.0**-23 if a.eps is None else float(a.eps)}


def along(kind: str) -> Entry:
    """An op along one axis."""
    return lambda a: Call(kind, a.tensors()[:1], {"axis": _integers(a.dim)[0]})


def reduce(kind: str) -> Entry:
    """An op that reduces some axes, or all of them."""

    def entry(a: Arguments) -> Call:
        axes = list(range(a.rank)) if a.dim is None or a.dim == [] else _integers(a.dim)
        return Call(kind, a.tensors()[:1], {"axes": axes, "keepdims": int(bool(a.keepdim))})

    return entry


def best(kind: str) -> Entry:
    def entry(a: Arguments) -> Call:
        if a.dim is None:
            raise NotCovered("it counts positions of the whole tensor")
        return Call(kind, a.tensors()[:1], {"axis": _integers(a.dim)[0], "keepdims": int(bool(a.keepdim))})

    return entry


def pool(kind: str, dims: int) -> Entry:
    def entry(a: Arguments) -> Call:
        if a.rank != dims + 2:
            raise NotCovered("its input has no batch axis")
        return Call(kind, a.tensors()[:1])

    return entry


def permute(a: Arguments) -> Call:
    return Call("Transpose", (a.self,), {"perm": [d % a.rank for d in _integers(a.dims)]})


def transpose(a: Arguments) -> Call:
    order = list(range(a.rank))
    i, j = a.dim0 % a.rank, a.dim1 % a.rank
    order[i], order[j] = order[j], order[i]
    return Call("Transpose", (a.self,), {"perm": order})


def matrix_transpose(a: Arguments) -> Call:
    order = list(range(a.rank))
    order[-2:] = order[-2:][::-1]
    return Call("Transpose", (a.self,), {"perm": order})


def squeeze(a: Arguments) -> Call:
    if a.dim is None:
        return Call("Squeeze", (a.self,))
    shape = a.self.shape
    axes = [d % a.rank for d in _integers(a.dim)]
    return Call("Squeeze", (a.self,), {"axes": [d for d in axes if shape[d] == 1]})


def slice_(a: Arguments) -> Call:
    start, end = 0 if a.start is None else a.start, END if a.end is None else a.end
    if not isinstance(start, int) or not isinstance(end, int) or not isinstance(a.step, int):
        raise NotCovered("its bounds are computed at run time")
    return Call("Slice", (a.self,), {"starts": [start], "ends": [end], "axes": [a.dim], "steps": [a.step]})


def select(a: Arguments) -> Call:
    return Call("Gather", (a.self, a.constant("index", _integers(a.index)[0])), {"axis": a.dim})


def index_select(a: Arguments) -> Call:
    return Call("Gather", (a.self, a.index), {"axis": a.dim})


def index(a: Arguments) -> Call:
    """Indexing one axis by a tensor is a look-up; several at once take another way."""
    given = [(axis, index) for axis, index in enumerate(a.indices) if index is not None]
    if len(given) != 1 or (given[0][1].dtype is not None and given[0][1].dtype.kind not in "iu"):
        raise NotCovered("it takes positions of several axes at once, or by a mask")
    return Call("Gather", (a.self, given[0][1]), {"axis": given[0][0]})


def embedding(a: Arguments) -> Call:
    return Call("Gather", (a.weight, a.indices), {"axis": 0})


def pad(a: Arguments) -> Call:
    amounts, rank = _integers(a.pad if a.pad is not None else a.padding), a.rank
    before, after = [0] * rank, [0] * rank
    for k in range(len(amounts) // 2):
        before[rank - 1 - k], after[rank - 1 - k] = amounts[2 * k], amounts[2 * k + 1]
    mode = a.mode if a.mode is not None else "constant"
    return Call("Pad", (a.self,), {"pads": before + after, "mode": mode})


def content_pad(a: Arguments) -> Call:
    call = pad(a)
    return Call("Pad", call.inputs, {**call.attributes, "mode": "reflect"})


def split(a: Arguments) -> Call:
    return Call("Split", (a.self if a.self is not None else a.input,), {"axis": a.dim})


def cat(kind: str) -> Entry:
    return lambda a: Call(kind, a.tensors(), {"axis": a.dim})


def repeat(a: Arguments) -> Call:
    return Call("Tile", (a.self,), {"repeats": _integers(a.repeats)})


def roll(a: Arguments) -> Call:
    return Call("Roll", (a.self,), {"axes": [d % a.rank for d in _integers(a.dims)] or list(range(a.rank))})


def masked_fill(a: Arguments) -> Call:
    return Call("Where", (a.mask, a.self, *((a.value,) if isinstance(a.value, Value) else ())))


def einsum(a: Arguments) -> Call:
    return Call("Einsum", a.tensors(), {"equation": a.equation})


def source(a: Arguments) -> Call:
    """A tensor of one number everywhere, of a size that the arguments give."""
    return Call("ConstantOfShape", ())
