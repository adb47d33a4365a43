"""What TensorRT is given instead of an ONNX model as it comes: the same function, in a form that its parser takes.

What the documents of the parser and of TensorRT ask for, and no more (identities and dropout are theirs to remove, int64 is
a type of theirs since version 10):

- Constants are folded. Exporters compute axes, lengths and weights from constants, where the parser wants initialisers (the
  weights of a convolution, the axes of a slice, K of a top-k: the table of operators of onnx-tensorrt).
- Nodes come in order, and nodes that lead nowhere go, so that what nobody reads is not refused. Initialisers are no inputs:
  those need shapes to be compiled for.
- Every node has a name of its own: errors and layer information name layers after nodes.
- Nothing is a double: TensorRT has no such type. Inputs and outputs in double precision become single.
- What is quantised has its zero at zero and is a signed byte, or the graph is refused here in words: symmetric quantisation
  is the only scheme that there is. Biases in int32, which is none of the quantised types, become single precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from modhifi_graph.errors import InputError, first_line
from modhifi_graph.interface import InputSpec, batch_symbols, inputs_that_run, shape_of, specs_of

if TYPE_CHECKING:
    import onnx_graphsurgeon

LARGEST_FOLDED = 1 << 24
"""Bytes of a constant that is made by folding: beyond that a few nodes (an expanded mask) take less room than their result."""

MOST_BATCH, MOST_LENGTH = 64, 512
"""What the first axis and the other axes of a profile go up to, where the model runs with that."""

FIRST_WITHOUT = 4
"""The version of the format since which initialisers need not be inputs."""

QUANTISED = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Range:
    """The shapes of one input that an engine is compiled for: the least, the one it is best at, and the greatest."""

    least: tuple[int, ...]
    best: tuple[int, ...]
    most: tuple[int, ...]


def prepared(model: onnx.ModelProto, label: str = "the model") -> onnx.ModelProto:
    """A model that computes the same and that TensorRT's parser takes; the original is not touched.

    Raises
    ------
    InputError
        The graph is none, or is quantised in a way that TensorRT does not have.
    """
    import onnx_graphsurgeon

    try:
        graph = onnx_graphsurgeon.import_onnx(model)
        graph.toposort()
    except Exception as error:  # whatever a damaged graph makes the library do
        raise InputError(f"{label}: cannot be compiled: is not a valid graph: {first_line(error)}") from error
    _narrow(graph)
    _dequantise_biases(graph)
    graph.fold_constants(partitioning="recursive", size_threshold=LARGEST_FOLDED)
    graph.cleanup().toposort()
    _name(graph)
    _check_quantised(graph, label)
    graph.ir_version = max(graph.ir_version or FIRST_WITHOUT, FIRST_WITHOUT)
    # The library's own type check stumbles over operators that take several types.
    proto: onnx.ModelProto = onnx_graphsurgeon.export_onnx(graph, do_type_check=False)
    return proto


def ranges(model: onnx.ModelProto) -> dict[str, Range]:
    """For each input with an open axis, the shapes to compile for; empty where every length is fixed.

    A batch goes from 1, which is the best, to 64; other lengths from 1 to 512, best at the smallest of 8, 64, 512 and 4096 that
    the model runs with. What it runs with is tried in ONNX Runtime, unoptimised: where 1 or 512 are too few or too many
    (patches, tables of positions), that end is the best itself.

    Raises
    ------
    InputError
        The model does not run with any lengths that are tried.
    """
    specs = specs_of(model)
    if all(isinstance(dim, int) for spec in specs for dim in spec.shape):
        return {}
    from modhifi_graph.exporters.onnxruntime import Engine

    engine = Engine.compile(model, optimise=False)
    fed = inputs_that_run(engine.run, specs, 0, batch=1)
    best = {name: array.shape for name, array in fed.items()}

    def end(batch: int, free: int, running: int) -> dict[str, tuple[int, ...]]:
        """The shapes at one end, tried with a batch of ``running``; with the best other lengths where they do not run."""
        sizes = _shapes(specs, running, free)
        try:
            engine.run({name: _resized(fed[name], shape) for name, shape in sizes.items()})
        except InputError:
            return {s.name: _batched(s, specs, best[s.name], batch) for s in specs}
        return _shapes(specs, batch, free)

    least, most = end(1, 1, 1), end(MOST_BATCH, MOST_LENGTH, 1)
    return {
        spec.name: Range(
            _each(min, least[spec.name], best[spec.name]),
            best[spec.name],
            _each(max, most[spec.name], best[spec.name]),
        )
        for spec in specs
        if not all(isinstance(dim, int) for dim in spec.shape)
    }


def _shapes(specs: tuple[InputSpec, ...], batch: int, free: int) -> dict[str, tuple[int, ...]]:
    sizes = dict.fromkeys(batch_symbols(specs), batch)
    return {spec.name: tuple(shape_of(spec, sizes, batch, free)) for spec in specs}


def _batched(spec: InputSpec, specs: tuple[InputSpec, ...], shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
    """A shape with another batch, wherever the batch is."""
    symbols = batch_symbols(specs)
    return tuple(
        batch if dim in symbols or (axis == 0 and dim is None) else size
        for axis, (dim, size) in enumerate(zip(spec.shape, shape, strict=True))
    )


def _resized(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The same numbers over and over in another shape."""
    return np.resize(array, shape).astype(array.dtype)


def _each(choose: Any, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(choose(x, y) for x, y in zip(a, b, strict=True))


def _graphs(graph: onnx_graphsurgeon.Graph) -> Iterator[onnx_graphsurgeon.Graph]:
    """A graph, and those in its branches, loops and functions."""
    yield graph
    yield from graph.subgraphs(recursive=True)
    for function in graph.functions:
        yield function
        yield from function.subgraphs(recursive=True)


def _narrow(graph: onnx_graphsurgeon.Graph) -> None:
    """Single precision in place of double, for constants, values and what nodes are told to make."""
    import onnx_graphsurgeon as gs

    for part in _graphs(graph):
        for tensor in [*part.tensors().values(), *part.inputs, *part.outputs]:
            if isinstance(tensor, gs.Constant):
                if tensor.values.dtype == np.float64:
                    tensor.values = _single(tensor.values)
            elif tensor.dtype is not None and tensor.dtype == np.float64:
                tensor.dtype = np.dtype(np.float32)
        for node in part.nodes:
            for name, value in node.attrs.items():
                if name in ("to", "dtype") and value == onnx.TensorProto.DOUBLE:
                    node.attrs[name] = int(onnx.TensorProto.FLOAT)
                elif isinstance(value, gs.Tensor) and value.dtype == np.float64:
                    node.attrs[name] = gs.Constant(value.name, _single(value.values))


def _single(values: np.ndarray) -> np.ndarray:
    """Single precision; what is too large becomes the largest there is: it stands for it (masks of the least double)."""
    largest = np.finfo(np.float32).max
    return np.where(np.isinf(values), values, np.clip(values, -largest, largest)).astype(np.float32)


def _name(graph: onnx_graphsurgeon.Graph) -> None:
    """A name for every node that has none, or one that another node has."""
    used: set[str] = {node.name for part in _graphs(graph) for node in part.nodes}
    seen: set[str] = set()
    for part in _graphs(graph):
        for node in part.nodes:
            if not node.name or node.name in seen:
                node.name = _fresh(node.name or node.op, used)
                used.add(node.name)
            seen.add(node.name)


def _fresh(stem: str, used: set[str]) -> str:
    number = 1
    while f"{stem}_{number}" in used:
        number += 1
    return f"{stem}_{number}"


def _dequantise_biases(graph: onnx_graphsurgeon.Graph) -> None:
    """What ONNX Runtime's quantiser writes for biases, an int32 constant and a scale a channel, as the number that it is."""
    import onnx_graphsurgeon as gs

    for part in _graphs(graph):
        for node in part.nodes:
            held = node.inputs[:2]
            if node.op != "DequantizeLinear" or not all(isinstance(tensor, gs.Constant) for tensor in held):
                continue
            whole, scale = (tensor.values for tensor in held)
            if whole.dtype == np.int32 and whole.ndim <= 1:
                node.op, node.attrs = "Identity", {}
                node.inputs = [
                    gs.Constant(f"{held[0].name}_{node.outputs[0].name}", (whole * scale).astype(scale.dtype))
                ]


def _check_quantised(graph: onnx_graphsurgeon.Graph, label: str) -> None:
    import onnx_graphsurgeon as gs

    for part in _graphs(graph):
        for node in part.nodes:
            if node.op not in QUANTISED or len(node.inputs) < 3 or node.inputs[2].is_empty():
                continue
            zero = node.inputs[2]
            if not isinstance(zero, gs.Constant) or zero.values.dtype == np.uint8 or np.any(_numbers(zero.values)):
                raise InputError(
                    f"{label}: {node.op} {node.name} has a zero point; TensorRT quantises to signed bytes about zero only: "
                    "compile the model in fp32 with precision int8, or quantise it again with symmetric activations"
                )


def _numbers(values: np.ndarray) -> np.ndarray:
    """As numpy calculates with; eight-bit floats are an extension of it."""
    return values.astype(np.float32) if values.dtype.kind not in "iu" else values
