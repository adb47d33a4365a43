"""What ``torch.export`` makes of a module: functional calls of ATen. Its parameters and its calls, read and changed."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from modhifi_graph.dialects.aten_table import ATEN

CHECKS = ("_assert", "sym_constrain", "_guards")
"""Calls that only check what export assumed: a slim module has other sizes, and its own verification."""


def functional(program: ExportedProgram, device: torch.device | None = None) -> fx.GraphModule:
    """The module of an exported program without mutation, in operators of the table or of core ATen.

    Composite operators that the table knows stay as they are. Parameters and buffers keep their names. With a ``device`` they
    are copied there, and calls that make tensors make them there.
    """
    every: Any = torch.export.default_decompositions()
    table = {op: how for op, how in every.items() if operator_name(op) not in ATEN}
    with _quiet_copies():
        program = program.run_decompositions(table)
        if device is not None:
            program = move_to_device_pass(program, str(device))
        module = program.module()
    assert isinstance(module, fx.GraphModule)
    for node in list(module.graph.nodes):
        if any(check in str(node.target) for check in CHECKS) and not node.users:
            module.graph.erase_node(node)
    module._forward_pre_hooks.clear()  # they check input shapes against those of the example
    tidy(module)
    return module


def tidy(module: fx.GraphModule) -> None:
    """Drop calls, parameters and buffers that nothing reads."""
    module.graph.eliminate_dead_code()
    read = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in (*module.named_parameters(), *module.named_buffers()) if name not in read]:
        owner, _, last = name.rpartition(".")
        delattr(module.get_submodule(owner), last)
    module.delete_all_unused_submodules()
    module.recompile()


def copied(module: fx.GraphModule) -> fx.GraphModule:
    """A copy with parameters of its own."""
    with _quiet_copies():
        return copy.deepcopy(module)


@contextmanager
def _quiet_copies() -> Iterator[None]:
    """PyTorch warns of its own tree specs whenever they are copied."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def placeholders(module: fx.GraphModule) -> list[fx.Node]:
    """The inputs of a module, one for every leaf of its arguments."""
    return [node for node in module.graph.nodes if node.op == "placeholder"]


def operator_name(op: Any) -> str:
    """The operator's name without overload, and without namespace where that is ``aten``; the empty string for what is none."""
    return op._schema.name.removeprefix("aten::").removesuffix("_") if isinstance(op, torch._ops.OpOverload) else ""


def parameters_of(node: fx.Node) -> list[str]:
    """The names of what a call takes, in the order of its schema."""
    return [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]


def argument(node: fx.Node, name: str) -> Any:
    """What a call is given under a name of its schema; None where it leaves that to the default."""
    position = parameters_of(node).index(name)
    return node.args[position] if position < len(node.args) else node.kwargs.get(name)


def set_argument(node: fx.Node, name: str, argument: Any) -> None:
    """Give a call another argument, by its name in the schema."""
    position = parameters_of(node).index(name)
    if position < len(node.args):
        node.update_arg(position, argument)
    else:
        node.update_kwarg(name, argument)


def readers(module: fx.GraphModule, name: str) -> list[fx.Node]:
    """The calls that read a parameter or buffer."""
    return [user for node in module.graph.nodes if node.op == "get_attr" and node.target == name for user in node.users]


def attribute(module: torch.nn.Module, name: str) -> Any:
    """A parameter or buffer by its dotted name."""
    owner, _, last = name.rpartition(".")
    return getattr(module.get_submodule(owner), last)


def constant(module: torch.nn.Module, name: str) -> torch.Tensor:
    """A parameter or buffer as it is now."""
    found = attribute(module, name)
    assert isinstance(found, torch.Tensor)
    return found.detach()


def assign(module: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Put a parameter or buffer under a dotted name, in place of what is there."""
    path, _, last = name.rpartition(".")
    owner = module.get_submodule(path)
    if last in owner._buffers or last in owner._parameters or hasattr(owner, last):
        delattr(owner, last)
    if isinstance(tensor, torch.nn.Parameter):
        owner.register_parameter(last, tensor)
    else:
        owner.register_buffer(last, tensor)
    for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
        if node.op == "get_attr" and node.target == name:
            node.meta["val"] = tensor


def like(old: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """A parameter where ``old`` is one, with its gradient setting."""
    return torch.nn.Parameter(made, requires_grad=old.requires_grad) if isinstance(old, torch.nn.Parameter) else made
