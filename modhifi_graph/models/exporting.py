"""Exported programs made of modules, with every axis open that may be."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import Any

import torch
from torch import fx
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from modhifi_graph.dialects.aten_module import placeholders
from modhifi_graph.errors import InputError, first_line
from modhifi_graph.models.calls import Example


def exported(module: torch.nn.Module, example: Example, shapes: Any, label: str) -> ExportedProgram:
    """Export with an open batch where nothing else was asked for and the module allows it."""
    if shapes is None:
        with suppress(Exception):  # a module that does not allow it says so in many ways
            wide = _widened_batch(example)
            return export(module, wide, _open_batch(module, wide))
    try:
        return export(module, example, shapes)
    except Exception as error:
        raise InputError(f"{label}: torch.export cannot export it with these inputs: {first_line(error)}") from error


def export(module: torch.nn.Module, example: Example, shapes: Any) -> ExportedProgram:
    with torch.no_grad():
        return torch.export.export(module, example.args, dict(example.kwargs) or None, dynamic_shapes=shapes)


def _open_batch(module: torch.nn.Module, example: Example) -> dict[str, Any]:
    """Dynamic shapes that open the first axis of every tensor, by the names of the arguments."""
    bound = inspect.signature(module.forward).bind(*example.args, **example.kwargs)
    opened = pytree.tree_map(
        lambda leaf: {0: Dim.AUTO} if isinstance(leaf, torch.Tensor) and leaf.ndim else None, dict(bound.arguments)
    )
    assert isinstance(opened, dict)
    return opened


def _widened_batch(example: Example) -> Example:
    """The same call for a batch of two, where it is for one."""
    flat = example.flat()
    tensors = [leaf for leaf in flat if isinstance(leaf, torch.Tensor) and leaf.ndim]
    if any(len(leaf) != 1 for leaf in tensors):
        return example
    return example.widened([{0} if isinstance(leaf, torch.Tensor) and leaf.ndim else () for leaf in flat])


def open_axes(module: fx.GraphModule) -> list[tuple[int, ...]]:
    """The axes of every input of an exported module that may have any length."""
    values = [node.meta.get("val") for node in placeholders(module)]
    return [
        tuple(axis for axis, dim in enumerate(v.shape) if not str(dim).isdigit()) if isinstance(v, torch.Tensor) else ()
        for v in values
    ]


def open_shapes(module: fx.GraphModule) -> Any:
    """The dynamic shapes that an exported module has, as export takes them."""
    flat = [dict.fromkeys(axes, Dim.AUTO) or None for axes in open_axes(module)]
    args, kwargs = pytree.tree_unflatten(flat, module._in_spec)
    if args and kwargs:
        return {**dict(zip((node.name for node in placeholders(module)), args, strict=False)), **kwargs}
    return kwargs or args
