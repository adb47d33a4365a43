"""Calls of a module: the arguments that it is exported with, and the batches that it is observed on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from modhifi_graph.errors import InputError


@dataclass(frozen=True)
class Example:
    """One call of the module: what it was exported with."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @classmethod
    def of(cls, inputs: Any) -> Example:
        """A tensor, a tuple of arguments, or a dict of keyword arguments."""
        if isinstance(inputs, Mapping):
            return cls((), dict(inputs))
        return cls(tuple(inputs) if isinstance(inputs, list | tuple) else () if inputs is None else (inputs,), {})

    def flat(self) -> list[Any]:
        """The leaves of the arguments, in the order of a module's placeholders."""
        return pytree.tree_flatten((self.args, dict(self.kwargs)))[0]

    def to(self, device: str | torch.device) -> Example:
        moved = pytree.tree_map_only(torch.Tensor, lambda t: t.to(device), (self.args, dict(self.kwargs)))
        return Example(*moved)

    def widened(self, axes: Sequence[Collection[int]]) -> Example:
        """With two in place of one along some axes of every leaf: torch.export takes a length of one for a constant."""
        flat, spec = pytree.tree_flatten((self.args, dict(self.kwargs)))
        wide = [
            leaf.repeat([2 if i in mine and n == 1 else 1 for i, n in enumerate(leaf.shape)]) if mine else leaf
            for leaf, mine in zip(flat, axes, strict=True)
        ]
        return Example(*pytree.tree_unflatten(wide, spec))


def calls_of(given: Any, example: Example) -> Iterator[Example]:
    """Calibration inputs as calls: a tensor, a tuple, a dict, or a loader of these (labels that come along are left out)."""
    if isinstance(given, Example):
        yield given
    elif isinstance(given, np.ndarray):
        yield Example((torch.from_numpy(given),), {})
    elif isinstance(given, torch.Tensor | Mapping):
        yield Example.of(given)
    elif isinstance(given, tuple) and all(isinstance(part, torch.Tensor) for part in given):
        yield Example(given[: len(example.args)], {})
    elif isinstance(given, Iterable):
        for item in given:
            whole = Example.of(item)
            yield Example(whole.args[: len(example.args)], whole.kwargs)
    else:
        raise InputError(f"calibration: expected tensors, a dict of them, or a loader; got {type(given).__name__}")
