"""``torch.compile(model, backend="modhifi")``: slim what Dynamo has captured, and hand it on to another backend.

Options (``torch.compile(..., options={...})``): ``backend``, the one that compiles the slim graph (default "inductor");
``mode``, Inductor's, as :func:`torch.compile` takes it for Inductor itself; ``calib``, unlabelled inputs (default: those of
the first call); and those of :func:`modhifi_graph.optimize`, of which one budget (default ``macs=0.5``). For inference: under
``torch.no_grad()``, as parameters are frozen into the slim graph.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import fx

from modhifi_graph.errors import InputError
from modhifi_graph.plan import Plan

Compiled = Callable[..., Any]

_found: dict[tuple[int, ...], tuple[Plan, Any]] = {}
"""Plans and calibration inputs by the identity of the parameters: a graph that is captured again for another batch size is
slimmed and repaired in the same way."""


def modhifi(graph_module: fx.GraphModule, example_inputs: Sequence[Any], *, options: Any = None) -> Compiled:
    """The backend. What cannot be slimmed is handed on as it is, with a warning that says why."""
    given = dict(options or {})
    inner = _inner(given.pop("backend", "inductor"), given.pop("mode", None))
    if torch.is_grad_enabled() and any(isinstance(t, torch.nn.Parameter) and t.requires_grad for t in example_inputs):
        _decline("gradients are enabled; call the compiled model under torch.no_grad()")
        return inner(graph_module, list(example_inputs))
    held, left = bound(graph_module, example_inputs)
    inputs = tuple(example_inputs[i] for i in left)
    try:
        # Export traces too, and what it leaves in this thread's state would fail the guards of the trace under way.
        with ThreadPoolExecutor(max_workers=1) as aside:
            slim = aside.submit(_slimmed, held, inputs, given).result()
    except InputError as error:
        _decline(str(error))
        return inner(graph_module, list(example_inputs))
    compiled = inner(slim, list(inputs))
    return lambda *arguments: compiled(*(arguments[i] for i in left))


def _inner(backend: str, mode: str | None) -> Callable[[fx.GraphModule, list[Any]], Compiled]:
    """What compiles the slim graph."""
    compiler: Callable[..., Compiled] = torch._dynamo.lookup_backend(backend)
    if mode is None:
        return compiler
    if backend != "inductor":
        raise InputError(f"mode {mode!r} is Inductor's; the backend {backend} has none")
    from torch._inductor import list_mode_options

    return partial(compiler, config_patches=list_mode_options(mode))


def _slimmed(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...], options: dict[str, Any]) -> fx.GraphModule:
    from modhifi_graph.jobs.optimize import optimize

    budget = {name: options.pop(name) for name in ("macs", "params", "keep", "budget", "plan") if name in options}
    calib = options.pop("calib", None)
    key = tuple(id(tensor) for tensor in module.parameters())
    if key in _found:
        plan, calib = _found[key]
        budget = {"plan": plan}
    elif calib is None:
        calib = [tuple(tensor.detach().clone() for tensor in inputs)]
    result = optimize(module, inputs, calib=calib, bench_seconds=0.0, **(budget or {"macs": 0.5}), **options)
    _found[key] = result.plan, calib
    assert isinstance(result.model, fx.GraphModule)
    return result.model


def bound(graph_module: fx.GraphModule, example_inputs: Sequence[Any]) -> tuple[fx.GraphModule, list[int]]:
    """A copy that holds its parameters and buffers, and the positions of the inputs that are left.

    Dynamo hands parameters in as inputs, and lengths that it leaves open as numbers: these are read off a tensor here.
    """
    module = fx.GraphModule(graph_module, _copied(graph_module))
    graph = module.graph
    nodes = [node for node in graph.nodes if node.op == "placeholder"]
    left, lengths = [], []
    for position, (node, example) in enumerate(zip(nodes, example_inputs, strict=True)):
        if not isinstance(example, torch.Tensor):
            lengths.append(node)
        elif isinstance(example, torch.nn.Parameter) or _is_static(node):
            _hold(module, node, example)
        else:
            left.append(position)
    for node in lengths:
        _read_off(graph, node, [nodes[i] for i in left])
    module.recompile()
    return module, left


def _copied(module: fx.GraphModule) -> fx.Graph:
    graph = fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    return graph


def _is_static(node: fx.Node) -> bool:
    """Whether Dynamo says that a tensor is part of the module."""
    return "_dynamo_static_input_type" in node.meta.get("tensor_dict", {})


def _hold(module: fx.GraphModule, node: fx.Node, tensor: torch.Tensor) -> None:
    name = f"held_{node.name.strip('_')}"
    if isinstance(tensor, torch.nn.Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)
    with module.graph.inserting_before(node):
        node.replace_all_uses_with(module.graph.get_attr(name))
    module.graph.erase_node(node)


def _read_off(graph: fx.Graph, node: fx.Node, tensors: Sequence[fx.Node]) -> None:
    """Replace a length that is an input by the size of a tensor that has it."""
    length = node.meta.get("example_value")
    for tensor in tensors:
        shape = getattr(tensor.meta.get("example_value"), "shape", ())
        for axis, size in enumerate(shape):
            if not isinstance(size, int) and str(size) == str(length):
                last = [n for n in graph.nodes if n.op == "placeholder"][-1]
                with graph.inserting_after(last):
                    node.replace_all_uses_with(graph.call_method("size", (tensor, axis)))
                graph.erase_node(node)
                return
    if node.users:
        raise InputError(f"{node.name} is a number that no input has as its length")
    graph.erase_node(node)


def _decline(reason: str) -> None:
    warnings.warn(f"modhifi: the graph is compiled as it is: {reason}", stacklevel=4)
