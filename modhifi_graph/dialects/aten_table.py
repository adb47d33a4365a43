"""What each ATen operator is in the neutral graph: a table from operators to ways of reading their calls.

A new operator is a line in :data:`ATEN`. The way of reading is one of :mod:`modhifi_graph.dialects.aten_arguments`, or a new
one there: given the arguments by the names of the schema, it says which of the kinds that the axis rules know the call is,
which tensors are its inputs, and which attributes ONNX would give it. Operators that compute position by position need no line:
PyTorch tags them. What is neither tagged nor here is a boundary, under its own name in the domain ``aten``; where it is core
ATen, :data:`BOUNDARIES` says why.
"""

from __future__ import annotations

from collections.abc import Mapping

from modhifi_graph.dialects import aten_arguments as read
from modhifi_graph.dialects.aten_call import Call, Entry

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
    **{f"conv{n}d": read.convolution for n in (1, 2, 3)},
    "convolution": read.convolution,
    **{f"conv_transpose{n}d": read.conv_transpose for n in (1, 2, 3)},
    "linear": read.linear,
    "addmm": read.addmm,
    **dict.fromkeys(["matmul", "mm", "bmm"], read.pointwise("MatMul")),
    "einsum": read.einsum,
    **dict.fromkeys(["_grouped_mm", "transformers::grouped_mm_fallback"], read.grouped_matmul),
    "scaled_dot_product_attention": read.attention,
    # position by position
    "add": read.add("Add"),
    "sub": read.add("Sub"),
    **dict.fromkeys(["clamp", "hardtanh"], read.clamp),
    "relu6": lambda a: Call("Clip", (a.self,), {"min": 0.0, "max": 6.0}),
    **{name: read.pointwise(kind) for name, kind in POINTWISE.items()},
    "mul": read.product("Mul"),
    "div": read.product("Div"),
    **dict.fromkeys(CARRIED, read.carry("Identity")),
    "masked_fill": read.masked_fill,
    "tril": read.carry("Trilu"),
    "triu": read.carry("Trilu"),
    # normalisations
    "batch_norm": read.batch_norm,
    "_native_batch_norm_legit_no_training": read.batch_norm,
    "layer_norm": read.layer_norm("LayerNormalization"),
    "native_layer_norm": read.layer_norm("LayerNormalization"),
    "rms_norm": read.layer_norm("RMSNormalization"),
    "group_norm": read.group_norm,
    "native_group_norm": read.group_norm,
    # along an axis
    **dict.fromkeys(["softmax", "_softmax"], read.along("Softmax")),
    **dict.fromkeys(["log_softmax", "_log_softmax"], read.along("LogSoftmax")),
    "cumsum": read.along("CumSum"),
    **dict.fromkeys(["topk", "sort"], read.along("TopK")),
    "argmax": read.best("ArgMax"),
    "argmin": read.best("ArgMin"),
    **{name: read.reduce(kind) for name, kind in REDUCTIONS.items()},
    # windows
    **{f"{name}{n}d": read.pool(kind, n) for name, kind in POOLS.items() for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": read.pool("MaxPool", n) for n in (2, 3)},
    **{f"upsample_{mode}": read.carry("Resize") for mode in ("nearest1d", "nearest2d", "nearest3d", "linear1d",
       "bilinear2d", "bicubic2d", "trilinear3d")},
    # movement
    **dict.fromkeys(["view", "_unsafe_view", "reshape", "flatten", "unflatten"], read.carry("Reshape")),
    "permute": read.permute,
    "transpose": read.transpose,
    **dict.fromkeys(["t", "mT"], read.matrix_transpose),
    "squeeze": read.squeeze,
    "unsqueeze": lambda a: Call("Unsqueeze", (a.self,), {"axes": [a.dim]}),
    **dict.fromkeys(["expand", "expand_as"], read.carry("Expand")),
    "repeat": read.repeat,
    "roll": read.roll,
    "flip": read.roll,
    "cat": read.cat("Concat"),
    "stack": read.cat("Stack"),
    **dict.fromkeys(["split", "split_with_sizes", "chunk"], read.split),
    "unbind": lambda a: Call("Unbind", (a.self,), {"axis": a.dim}),
    "slice": read.slice_,
    "select": read.select,
    "index_select": read.index_select,
    "index": read.index,
    "embedding": read.embedding,
    "grid_sampler_2d": lambda a: Call("GridSample", (a.input, a.grid)),
    "grid_sampler": lambda a: Call("GridSample", (a.input, a.grid)),
    "fill": read.carry("Identity"),
    **dict.fromkeys(["pad", "constant_pad_nd"], read.pad),
    **{f"{mode}_pad{n}d": read.content_pad for mode in ("reflection", "replication") for n in (1, 2, 3)},
    "pixel_shuffle": lambda a: Call("DepthToSpace", (a.self,), {"blocksize": a.upscale_factor, "mode": "CRD"}),
    "pixel_unshuffle": lambda a: Call("SpaceToDepth", (a.self,), {"blocksize": a.downscale_factor, "mode": "CRD"}),
    **dict.fromkeys(SOURCES, read.source),
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
