"""What a package of AOTInductor is fed and gives: it keeps neither names nor types and checks nothing, so this goes with it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modhifi_graph.errors import InputError
from modhifi_graph.exporters.backend import check_names
from modhifi_graph.interface import InputSpec

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64"}

ASSUMED = 2
"""Export takes open lengths for at least this, and lets 0 and 1 through when the program runs."""

ENDLESS = 1 << 62


@dataclass(frozen=True)
class Signature:
    """What a package says of itself.

    Attributes
    ----------
    inputs : tuple of InputSpec
        The tensors that the program takes, in the order of its arguments.
    orders : tuple of tuples of int
        The axes of every input from the outermost to the innermost as they lie in memory: the code relies on it.
    ranges : dict
        Least and greatest length by symbol; None where there is no greatest.
    outputs : tuple of str
    precision : str
        "fp32", "fp16", "bf16" or "fp64": of most of the parameters.
    """

    inputs: tuple[InputSpec, ...]
    orders: tuple[tuple[int, ...], ...]
    ranges: Mapping[str, tuple[int, int | None]]
    outputs: tuple[str, ...]
    precision: str

    @classmethod
    def of(cls, program: ExportedProgram, label: str) -> Signature:
        """InputError where an input or an output is no tensor, or a length follows from another."""
        from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, TensorArgument

        held = program.graph_signature
        taken = [s.arg for s in held.input_specs if s.kind is InputKind.USER_INPUT]
        given = [s.arg for s in held.output_specs if s.kind is OutputKind.USER_OUTPUT]
        tensors = [arg for arg in taken if not isinstance(arg, ConstantArgument)]
        for arg in (*tensors, *given):
            if not isinstance(arg, TensorArgument):
                raise InputError(f"{label}: {arg} is no tensor; export a module that takes and returns tensors")
        values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
        ranges = {str(symbol): _bounds(found) for symbol, found in program.range_constraints.items()}
        inputs = tuple(_spec(arg.name, values[arg.name], label) for arg in tensors)
        orders = tuple(tuple(values[arg.name].dim_order()) for arg in tensors)
        return cls(inputs, orders, ranges, tuple(arg.name for arg in given), _precision(program))

    def to_json(self) -> str:
        """As :meth:`from_json` reads it."""
        inputs = [{"name": s.name, "shape": s.shape, "dtype": s.dtype.name} for s in self.inputs]
        return json.dumps(
            {
                "inputs": inputs,
                "orders": self.orders,
                "ranges": self.ranges,
                "outputs": self.outputs,
                "precision": self.precision,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Signature:
        held = json.loads(text)
        inputs = tuple(InputSpec.of(s["name"], s["shape"], dtype_of(s["dtype"])) for s in held["inputs"])
        orders = tuple(tuple(order) for order in held["orders"])
        ranges = {symbol: (low, high) for symbol, (low, high) in held["ranges"].items()}
        return cls(inputs, orders, ranges, tuple(held["outputs"]), held["precision"])

    def check(self, feeds: Mapping[str, NDArray[Any]], label: str) -> None:
        """InputError where the program was not compiled for these arrays: native code would read past their ends."""
        check_names(feeds, self.inputs, label)
        lengths: dict[str, int] = {}
        for spec in self.inputs:
            array = np.asarray(feeds[spec.name])
            fits = array.dtype == spec.dtype and array.ndim == len(spec.shape)
            for dim, size in zip(spec.shape, array.shape, strict=False):
                fits = fits and size == (lengths.setdefault(dim, size) if isinstance(dim, str) else dim)
                fits = fits and (not isinstance(dim, str) or _within(size, self.ranges.get(dim, (0, None))))
            if not fits:
                told = f"{array.dtype} {array.shape}"
                bounds = "; ".join(f"{s} in {low}..{high or ''}" for s, (low, high) in self.ranges.items())
                raise InputError(
                    f"{label}: fed {spec.name} as {told}; expected {spec}{f' with {bounds}' if bounds else ''}"
                )


def _bounds(found: Any) -> tuple[int, int | None]:
    """A range of lengths in integers; one that goes on for ever, which is written in several ways, has no end."""
    return int(max(found.lower, 0)), int(found.upper) if found.upper < ENDLESS else None


def _within(size: int, bounds: tuple[int, int | None]) -> bool:
    low, high = bounds
    return (low <= ASSUMED or size >= low) and (high is None or size <= high)


def _spec(name: str, value: torch.Tensor, label: str) -> InputSpec:
    shape: list[int | str] = []
    for dim in value.shape:
        if not isinstance(dim, int) and not dim.node.expr.is_symbol:
            raise InputError(f"{label}: input {name} has the length {dim}, which follows from others; export it open")
        shape.append(dim if isinstance(dim, int) else str(dim))
    return InputSpec(name, tuple(shape), dtype_of(str(value.dtype).removeprefix("torch.")))


def dtype_of(name: str) -> np.dtype[Any]:
    import onnx_ir as ir

    return np.dtype(ir.DataType.BFLOAT16.numpy()) if name == "bfloat16" else np.dtype(name)


def _precision(program: ExportedProgram) -> str:
    sizes: Counter[str] = Counter()
    for tensor in program.state_dict.values():
        if tensor.is_floating_point():
            sizes[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    return PRECISIONS.get(max(sizes, key=lambda name: sizes[name]), "fp32") if sizes else "fp32"
