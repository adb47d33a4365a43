"""The neutral view of a graph: what every dialect lifts a model into, and what every analysis reads.

A :class:`Graph` is a topologically ordered list of :class:`Op` over :class:`Value`. Operator kinds and attribute names
are ONNX's, which every dialect can be expressed in; nothing here depends on the ``onnx`` package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Dim = int | str | None
"""One axis length: a number, the name of a symbol, or None where nothing is known."""


@dataclass(eq=False)
class Value:
    """A tensor that flows along an edge.

    Attributes
    ----------
    name : unique within the graph; empty only for an output that its op leaves out.
    shape : one :data:`Dim` per axis, or None where not even the rank is known.
    dtype : the element type, or None where unknown.
    load : returns the array of a constant (weights stay lazy until somebody needs them); None for an activation.
    """

    name: str
    shape: tuple[Dim, ...] | None
    dtype: np.dtype[Any] | None = None
    load: Callable[[], np.ndarray] | None = None

    @property
    def is_constant(self) -> bool:
        return self.load is not None

    def array(self) -> np.ndarray:
        """The constant's array; ValueError for an activation."""
        if self.load is None:
            raise ValueError(f"{self.name!r} is not a constant")
        return self.load()

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether it is known to hold floating-point numbers that numpy can calculate with (bfloat16 is none)."""
        return self.dtype is not None and self.dtype.kind == "f"


@dataclass(eq=False)
class Op:
    """One operator application. ``inputs`` has None where an optional input is left out.

    ``captured`` are outer values that the op's subgraphs (``If``, ``Loop``) read; ``domain`` is empty for ONNX's own.
    """

    kind: str
    name: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    opset: int = 0
    captured: tuple[Value, ...] = ()

    def input(self, slot: int) -> Value | None:
        """The input at ``slot``, or None if it is left out."""
        return self.inputs[slot] if slot < len(self.inputs) else None

    def parameter(self, attribute: str, slot: int) -> np.ndarray | None:
        """An integer parameter that older opsets keep in an attribute and newer ones in an input.

        Returns None where it is absent; raises ValueError where it is an input whose value is not constant.
        """
        if attribute in self.attributes:
            return np.atleast_1d(np.asarray(self.attributes[attribute]))
        value = self.input(slot)
        return None if value is None else value.array()

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}" if self.name else self.kind


@dataclass(eq=False)
class Graph:
    """A whole model: its interface and its ops in an order in which they can run."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    ops: tuple[Op, ...]

    @property
    def float_outputs(self) -> list[Value]:
        """The outputs with an error to measure: whole numbers have none."""
        return [value for value in self.outputs if value.is_float]

    def values(self) -> Iterator[Value]:
        """Every value once, in order of first appearance."""
        seen: set[int] = set()
        for value in self._mentions():
            if id(value) not in seen:
                seen.add(id(value))
                yield value

    def _mentions(self) -> Iterator[Value]:
        yield from self.inputs
        for op in self.ops:
            yield from (value for value in op.inputs if value is not None)
            yield from op.outputs
        yield from self.outputs
