"""What each ATen operator is in the neutral graph: a table from overloads to the kinds that the axis rules know.

An entry gets the operator's arguments by the names of its schema and says which kind it is, which tensors are its inputs, and
which attributes ONNX would give it. Operators that compute position by position need no entry: PyTorch tags them. What is
neither tagged nor here is a boundary, under its own name in the domain ``aten``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modhifi_graph.graph import Value

END = sys.maxsize
"""Where a slice that names no end stops."""


class NotCovered(LookupError):
    """This overload is covered, but not with these arguments."""


@dataclass(frozen=True)
class Call:
    """An operator in neutral terms."""

    kind: str
    inputs: tuple[Value | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""


class Arguments:
    """The arguments of one call by the names of its schema: values for tensors, lists of them for tensor lists."""

    def __init__(self, given: Mapping[str, Any], name: str) -> None:
        self._given = given
        self.node = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._given.get(name)

    def tensors(self) -> tuple[Value, ...]:
        """Every tensor among the arguments, lists included, in the order of the schema."""
        found: list[Value] = []
        for value in self._given.values():
            found += [v for v in (value if isinstance(value, list | tuple) else [value]) if isinstance(v, Value)]
        return tuple(found)

    @property
    def rank(self) -> int:
        """Axes of the first tensor."""
        shape = self.tensors()[0].shape
        if shape is None:
            raise NotCovered("the rank of its input is not known")
        return len(shape)

    def constant(self, name: str, numbers: Any) -> Value:
        """An integer constant that the call has as an argument, as an input of its own."""
        array = np.asarray(numbers, np.int64)
        return Value(f"{self.node}.{name}", array.shape, array.dtype, lambda: array)


Entry = Callable[[Arguments], Call]


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


def _carry(kind: str, **attributes: Any) -> Entry:
    """The first tensor is all that matters."""
    return lambda a: Call(kind, a.tensors()[:1], attributes)


def _pointwise(kind: str) -> Entry:
    return lambda a: Call(kind, a.tensors())


def _product(kind: str) -> Entry:
    """A rounded quotient is no plain division."""
    return lambda a: Call(kind if a.rounding_mode is None else "Pointwise", a.tensors(), _number(a))


def _number(a: Arguments) -> dict[str, float]:
    """The second operand, as an attribute, where it is a number."""
    return {"scalar": float(a.other)} if isinstance(a.other, int | float) else {}


def _add(kind: str) -> Entry:
    """A scaled second summand is no plain addition."""
    return lambda a: Call(kind if a.alpha in (None, 1) else "Pointwise", a.tensors(), _number(a))


def _clamp(a: Arguments) -> Call:
    bounds = {"min": a.min if a.min_val is None else a.min_val, "max": a.max if a.max_val is None else a.max_val}
    if any(isinstance(bound, Value) for bound in bounds.values()):
        return Call("Pointwise", a.tensors())
    return Call("Clip", (a.self,), {name: float(bound) for name, bound in bounds.items() if bound is not None})


def _convolution(a: Arguments) -> Call:
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


def _conv_transpose(a: Arguments) -> Call:
    call = _convolution(a)
    return Call("ConvTranspose", call.inputs, call.attributes)


def _linear(a: Arguments) -> Call:
    return Call("Gemm", (a.input, a.weight, a.bias), {"transB": 1})


def _addmm(a: Arguments) -> Call:
    return Call("Gemm", (a.mat1, a.mat2, a.self), {"alpha": float(a.alpha), "beta": float(a.beta)})


def _grouped_matmul(a: Arguments) -> Call:
    """Rows in order of the matrix that each is multiplied with; what transformers falls back to takes the same arguments."""
    x, weight = a.tensors()[:2]
    offsets = a.offs
    if offsets is None or x.rank != 2 or weight.rank != 3 or a.bias is not None:
        raise NotCovered("only rows times one of several matrices are covered")
    return Call("GroupedMatMul", (x, weight, offsets))


def _attention(a: Arguments) -> Call:
    inputs = (a.query, a.key, a.value, *((a.attn_mask,) if a.attn_mask is not None else ()))
    scale = {} if a.scale is None else {"scale": float(a.scale)}
    return Call("ScaledDotProductAttention", inputs, {"grouped": bool(a.enable_gqa), **scale})


def _batch_norm(a: Arguments) -> Call:
    if a.training:
        raise NotCovered("it normalises by the batch")
    return Call("BatchNormalization", (a.input, a.weight, a.bias, a.running_mean, a.running_var), _epsilon(a))


def _layer_norm(kind: str) -> Entry:
    return lambda a: Call(
        kind,
        tuple(v for v in (a.input, a.weight, a.bias) if v is not None),
        {"axis": -len(a.normalized_shape), **_epsilon(a)},
    )


def _group_norm(a: Arguments) -> Call:
    groups = a.num_groups if a.num_groups is not None else a.group
    return Call("GroupNormalization", (a.input, a.weight, a.bias), {"num_groups": int(groups), **_epsilon(a)})


def _epsilon(a: Arguments) -> dict[str, float]:
    """What is added to a variance; without one PyTorch adds what float32 can just tell from one."""
    return {"epsilon": 2.0**-23 if a.eps is None else float(a.eps)}


def _along(kind: str) -> Entry:
    """An op along one axis."""
    return lambda a: Call(kind, a.tensors()[:1], {"axis": _integers(a.dim)[0]})


def _reduce(kind: str) -> Entry:
    """An op that reduces some axes, or all of them."""

    def entry(a: Arguments) -> Call:
        axes = list(range(a.rank)) if a.dim is None or a.dim == [] else _integers(a.dim)
        return Call(kind, a.tensors()[:1], {"axes": axes, "keepdims": int(bool(a.keepdim))})

    return entry


def _best(kind: str) -> Entry:
    def entry(a: Arguments) -> Call:
        if a.dim is None:
            raise NotCovered("it counts positions of the whole tensor")
        return Call(kind, a.tensors()[:1], {"axis": _integers(a.dim)[0], "keepdims": int(bool(a.keepdim))})

    return entry


def _pool(kind: str, dims: int) -> Entry:
    def entry(a: Arguments) -> Call:
        if a.rank != dims + 2:
            raise NotCovered("its input has no batch axis")
        return Call(kind, a.tensors()[:1])

    return entry


def _permute(a: Arguments) -> Call:
    return Call("Transpose", (a.self,), {"perm": [d % a.rank for d in _integers(a.dims)]})


def _transpose(a: Arguments) -> Call:
    order = list(range(a.rank))
    i, j = a.dim0 % a.rank, a.dim1 % a.rank
    order[i], order[j] = order[j], order[i]
    return Call("Transpose", (a.self,), {"perm": order})


def _matrix_transpose(a: Arguments) -> Call:
    order = list(range(a.rank))
    order[-2:] = order[-2:][::-1]
    return Call("Transpose", (a.self,), {"perm": order})


def _squeeze(a: Arguments) -> Call:
    if a.dim is None:
        return Call("Squeeze", (a.self,))
    shape = a.self.shape
    axes = [d % a.rank for d in _integers(a.dim)]
    return Call("Squeeze", (a.self,), {"axes": [d for d in axes if shape[d] == 1]})


def _slice(a: Arguments) -> Call:
    start, end = 0 if a.start is None else a.start, END if a.end is None else a.end
    if not isinstance(start, int) or not isinstance(end, int) or not isinstance(a.step, int):
        raise NotCovered("its bounds are computed at run time")
    return Call("Slice", (a.self,), {"starts": [start], "ends": [end], "axes": [a.dim], "steps": [a.step]})


def _select(a: Arguments) -> Call:
    return Call("Gather", (a.self, a.constant("index", _integers(a.index)[0])), {"axis": a.dim})


def _index_select(a: Arguments) -> Call:
    return Call("Gather", (a.self, a.index), {"axis": a.dim})


def _index(a: Arguments) -> Call:
    """Indexing one axis by a tensor is a look-up; several at once take another way."""
    given = [(axis, index) for axis, index in enumerate(a.indices) if index is not None]
    if len(given) != 1 or (given[0][1].dtype is not None and given[0][1].dtype.kind not in "iu"):
        raise NotCovered("it takes positions of several axes at once, or by a mask")
    return Call("Gather", (a.self, given[0][1]), {"axis": given[0][0]})


def _embedding(a: Arguments) -> Call:
    return Call("Gather", (a.weight, a.indices), {"axis": 0})


def _pad(a: Arguments) -> Call:
    amounts, rank = _integers(a.pad if a.pad is not None else a.padding), a.rank
    before, after = [0] * rank, [0] * rank
    for k in range(len(amounts) // 2):
        before[rank - 1 - k], after[rank - 1 - k] = amounts[2 * k], amounts[2 * k + 1]
    mode = a.mode if a.mode is not None else "constant"
    return Call("Pad", (a.self,), {"pads": before + after, "mode": mode})


def _content_pad(a: Arguments) -> Call:
    call = _pad(a)
    return Call("Pad", call.inputs, {**call.attributes, "mode": "reflect"})


def _split(a: Arguments) -> Call:
    return Call("Split", (a.self if a.self is not None else a.input,), {"axis": a.dim})


def _cat(kind: str) -> Entry:
    return lambda a: Call(kind, a.tensors(), {"axis": a.dim})


def _repeat(a: Arguments) -> Call:
    return Call("Tile", (a.self,), {"repeats": _integers(a.repeats)})


def _roll(a: Arguments) -> Call:
    return Call("Roll", (a.self,), {"axes": [d % a.rank for d in _integers(a.dims)] or list(range(a.rank))})


def _masked_fill(a: Arguments) -> Call:
    return Call("Where", (a.mask, a.self, *((a.value,) if isinstance(a.value, Value) else ())))


def _einsum(a: Arguments) -> Call:
    return Call("Einsum", a.tensors(), {"equation": a.equation})


def _source(a: Arguments) -> Call:
    """A tensor of one number everywhere, of a size that the arguments give."""
    return Call("ConstantOfShape", ())


REDUCTIONS = {
    "mean": "ReduceMean", "sum": "ReduceSum", "prod": "ReduceProd", "amax": "ReduceMax", "amin": "ReduceMin",
    "all": "ReduceMin", "any": "ReduceMax", "var": "ReduceSumSquare", "std": "ReduceSumSquare",
    "linalg_vector_norm": "ReduceL2", "logsumexp": "ReduceLogSumExp",
}  # fmt: skip

POINTWISE = {
    "relu": "Relu", "sigmoid": "Sigmoid", "where": "Where", "gelu": "Gelu", "silu": "Swish",
    "tanh": "Tanh", "erf": "Erf", "neg": "Neg", "sqrt": "Sqrt", "exp": "Exp", "pow": "Pow", "leaky_relu": "LeakyRelu",
}  # fmt: skip
"""Pointwise operators whose kind somebody asks for."""

CARRIED = """
    alias clone contiguous detach dropout lift_fresh_copy to _to_copy type_as feature_dropout alpha_dropout zeros_like ones_like
    full_like empty_like rand_like randn_like bernoulli native_dropout copy
""".split()  # noqa: SIM905

SOURCES = "zeros ones full empty new_zeros new_ones new_full new_empty scalar_tensor".split()  # noqa: SIM905

POOLS = {
    "adaptive_avg_pool": "AveragePool", "adaptive_max_pool": "MaxPool", "avg_pool": "AveragePool", "max_pool": "MaxPool",
    "_adaptive_avg_pool": "AveragePool",
}  # fmt: skip

ATEN: Mapping[str, Entry] = {
    # contractions
    **{f"conv{n}d": _convolution for n in (1, 2, 3)},
    "convolution": _convolution,
    **{f"conv_transpose{n}d": _conv_transpose for n in (1, 2, 3)},
    "linear": _linear,
    "addmm": _addmm,
    **dict.fromkeys(["matmul", "mm", "bmm"], _pointwise("MatMul")),
    "einsum": _einsum,
    **dict.fromkeys(["_grouped_mm", "transformers::grouped_mm_fallback"], _grouped_matmul),
    "scaled_dot_product_attention": _attention,
    # position by position
    "add": _add("Add"),
    "sub": _add("Sub"),
    **dict.fromkeys(["clamp", "hardtanh"], _clamp),
    "relu6": lambda a: Call("Clip", (a.self,), {"min": 0.0, "max": 6.0}),
    **{name: _pointwise(kind) for name, kind in POINTWISE.items()},
    "mul": _product("Mul"),
    "div": _product("Div"),
    **dict.fromkeys(CARRIED, _carry("Identity")),
    "masked_fill": _masked_fill,
    "tril": _carry("Trilu"),
    "triu": _carry("Trilu"),
    # normalisations
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "layer_norm": _layer_norm("LayerNormalization"),
    "native_layer_norm": _layer_norm("LayerNormalization"),
    "rms_norm": _layer_norm("RMSNormalization"),
    "group_norm": _group_norm,
    "native_group_norm": _group_norm,
    # along an axis
    **dict.fromkeys(["softmax", "_softmax"], _along("Softmax")),
    **dict.fromkeys(["log_softmax", "_log_softmax"], _along("LogSoftmax")),
    "cumsum": _along("CumSum"),
    **dict.fromkeys(["topk", "sort"], _along("TopK")),
    "argmax": _best("ArgMax"),
    "argmin": _best("ArgMin"),
    **{name: _reduce(kind) for name, kind in REDUCTIONS.items()},
    # windows
    **{f"{name}{n}d": _pool(kind, n) for name, kind in POOLS.items() for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": _pool("MaxPool", n) for n in (2, 3)},
    **{f"upsample_{mode}": _carry("Resize") for mode in ("nearest1d", "nearest2d", "nearest3d", "linear1d",
       "bilinear2d", "bicubic2d", "trilinear3d")},
    # movement
    **dict.fromkeys(["view", "_unsafe_view", "reshape", "flatten", "unflatten"], _carry("Reshape")),
    "permute": _permute,
    "transpose": _transpose,
    **dict.fromkeys(["t", "mT"], _matrix_transpose),
    "squeeze": _squeeze,
    "unsqueeze": lambda a: Call("Unsqueeze", (a.self,), {"axes": [a.dim]}),
    **dict.fromkeys(["expand", "expand_as"], _carry("Expand")),
    "repeat": _repeat,
    "roll": _roll,
    "flip": _roll,
    "cat": _cat("Concat"),
    "stack": _cat("Stack"),
    **dict.fromkeys(["split", "split_with_sizes", "chunk"], _split),
    "unbind": lambda a: Call("Unbind", (a.self,), {"axis": a.dim}),
    "slice": _slice,
    "select": _select,
    "index_select": _index_select,
    "index": _index,
    "embedding": _embedding,
    "grid_sampler_2d": lambda a: Call("GridSample", (a.input, a.grid)),
    "grid_sampler": lambda a: Call("GridSample", (a.input, a.grid)),
    "fill": _carry("Identity"),
    **dict.fromkeys(["pad", "constant_pad_nd"], _pad),
    **{f"{mode}_pad{n}d": _content_pad for mode in ("reflection", "replication") for n in (1, 2, 3)},
    "pixel_shuffle": lambda a: Call("DepthToSpace", (a.self,), {"blocksize": a.upscale_factor, "mode": "CRD"}),
    "pixel_unshuffle": lambda a: Call("SpaceToDepth", (a.self,), {"blocksize": a.downscale_factor, "mode": "CRD"}),
    **dict.fromkeys(SOURCES, _source),
}  # fmt: skip
"""By the operator's name without its overload, and with its namespace where that is not ``aten``."""

BOUNDARIES: Mapping[str, str] = {
    **dict.fromkeys(
        ["gather", "index_put", "masked_scatter", "nonzero", "scatter", "scatter_add", "scatter_reduce", "col2im"],
        "it takes or puts positions that are known only at run time",
    ),
    **dict.fromkeys(["slice_scatter", "select_scatter"], "it writes into part of a tensor"),
    **dict.fromkeys(["as_strided", "diagonal", "empty_strided"], "it reads memory, not axes"),
    **dict.fromkeys(["arange", "rand", "randn", "randperm"], "its numbers count its positions, or are drawn one by one"),
    **dict.fromkeys(["max", "min"], "it says at which position it found what it found"),
    **dict.fromkeys(["_fft_c2r", "_fft_r2c"], "every position of its output mixes all of its input"),
    **dict.fromkeys(["_cdist_forward", "_pdist_forward"], "distances are no contraction"),
    "_embedding_bag": "it reduces bags of looked-up rows",
    "_native_batch_norm_legit": "it normalises by the batch",
    "_local_scalar_dense": "a number leaves the graph",
    **dict.fromkeys(
        ["sym_is_contiguous", "sym_numel", "sym_size", "sym_storage_offset", "sym_stride"], "a number, not a tensor"
    ),
    **dict.fromkeys(
        ["_adaptive_avg_pool2d_backward", "avg_pool2d_backward", "convolution_backward", "embedding_dense_backward",
         "max_pool2d_with_indices_backward", "native_group_norm_backward", "native_layer_norm_backward"],
        "gradients are not pruned",
    ),
}  # fmt: skip
"""Operators of core ATen that no rule covers, and why: nothing that they touch is pruned."""
