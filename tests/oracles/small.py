"""Small hand-made ONNX models: one hard shape each, a few hundred weights, the kind that users file issues about.

The graphs are in `graphs/`; several of them differ only in how an exporter spells the same thing.

>>> from tests.oracles import small
>>> small.SMALL["squeeze_excite"]().graph.output[0].name
'y'

Each is written in the notation of `onnx.parser`. What a graph's header declares without a value is a weight, and
`_draw` draws it by its name and shape from a fixed seed; what it declares with a value (shapes, indices, epsilons)
is kept. Sizes on the axes that matter are all different where the topology allows, so that a mix-up cannot pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

from .graphs.convolutions import CONVOLUTIONS
from .graphs.opsets import OTHER_OPSETS
from .graphs.sequences import SEQUENCES
from .graphs.shortcuts import SHORTCUTS
from .graphs.spatial import SPATIAL

SEED = 20240
HEADER = '<ir_version: 8, opset_import: ["" : 17]>'
BATCH = 3
"""What a symbolic batch `N` is fed with."""


def _declared(graph: onnx.GraphProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """What the header declares without a value and no node makes: the weights."""
    made = {name for node in graph.node for name in node.output}
    for info in graph.value_info:
        if info.name not in made:
            yield info.name, tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)


def _draw(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Gains and variances U(.5, 1.5), other vectors N(0, .3^2), kernels N(0, 2/fan-in), so that all of it matters."""
    if name.startswith(("gain", "variance")):
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    size = math.prod(shape)
    vector = size in shape
    deviation = 0.3 if vector else math.sqrt(2 * shape[0] / size)
    return (deviation * generator.standard_normal(shape)).astype(np.float32)


def build(text: str) -> onnx.ModelProto:
    """Parse a graph, draw its weights."""
    text = text.strip()
    model = parser.parse_model(text if text.startswith("<") else f"{HEADER}\n{text}")
    generator = np.random.default_rng(SEED)
    weights = [numpy_helper.from_array(_draw(generator, *each), each[0]) for each in _declared(model.graph)]
    drawn = {weight.name for weight in weights}
    kept = [info for info in model.graph.value_info if info.name not in drawn]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    model.graph.initializer.extend(weights)
    return model


def _initializers_as_inputs(text: str) -> onnx.ModelProto:
    """As IR 3 requires: every initializer is an input of the graph too."""
    model = build(text)
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


def _constants(text: str) -> onnx.ModelProto:
    """Weights as Constant nodes, which is how tf2onnx and old PyTorch wrote some of them."""
    model = build(text)
    nodes = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in model.graph.initializer]
    nodes.extend(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


SMALL: dict[str, Callable[[], onnx.ModelProto]] = {
    **{
        name: partial(build, text)
        for table in (CONVOLUTIONS, SHORTCUTS, SPATIAL, SEQUENCES, OTHER_OPSETS)
        for name, text in table.items()
    },
    "initializers_as_inputs": partial(_initializers_as_inputs, OTHER_OPSETS["static_opset9"]),
    "constant_nodes": partial(_constants, CONVOLUTIONS["residual_projection"]),
}

NOT_RUNNABLE = {"custom_op": "com.acme.Mystery has no kernel anywhere"}
"""Models that no runtime executes, and why."""


def samples(model: onnx.ModelProto, seed: int = 0, batch: int = BATCH) -> dict[str, np.ndarray]:
    """Inputs by name: normal numbers, or indices below 4; a symbolic axis gets `batch`."""
    generator = np.random.default_rng(seed)
    constant = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name in constant:
            continue
        tensor = value.type.tensor_type
        shape = tuple(dim.dim_value or batch for dim in tensor.shape.dim)
        if tensor.elem_type == TensorProto.FLOAT:
            feeds[value.name] = generator.standard_normal(shape, dtype=np.float32)
        else:
            feeds[value.name] = generator.integers(0, 4, shape)
    return feeds
