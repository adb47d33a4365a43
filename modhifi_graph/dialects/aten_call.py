"""One call of an ATen operator: its arguments by name, and what it is in the neutral graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modhifi_graph.graph import Value


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
"""A way of reading a call, which raises :class:`NotCovered` where it does not apply."""
