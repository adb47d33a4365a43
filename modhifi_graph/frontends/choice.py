"""Which front end a model has."""

from __future__ import annotations

import os
from typing import Any

from modhifi_graph.frontends.frontend import FrontEnd
from modhifi_graph.frontends.onnx import OnnxFrontEnd
from modhifi_graph.options.request import Options


def opened(model: Any, inputs: Any, options: Options, dynamic_shapes: Any = None) -> FrontEnd:
    """The front end for a model; torch.export is imported only for a module."""
    if not is_module(model):
        return OnnxFrontEnd(model, options)
    from modhifi_graph.frontends.torch import TorchFrontEnd

    return TorchFrontEnd(model, inputs, options, dynamic_shapes=dynamic_shapes)


def is_module(model: Any) -> bool:
    """Whether it is an ``nn.Module``, an exported program or a file of one."""
    if isinstance(model, str | os.PathLike):
        return os.fspath(model).endswith(".pt2")
    return any(base.__module__.startswith("torch.") for base in type(model).__mro__)
