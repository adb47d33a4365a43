"""torch, fit for the libraries that architectures come from."""

from __future__ import annotations

import functools
import importlib
import sys
from typing import Any


@functools.cache
def import_torch() -> Any:
    """torch, after making sure that torchvision imports.

    A torchvision wheel whose C++ operators this torch cannot load fails on import, for want of two schemas that
    no classifier uses; declared here, the import goes through. Intact wheels declare them themselves.
    """
    import torch

    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for half_imported in [key for key in sys.modules if key.partition(".")[0] == "torchvision"]:
            del sys.modules[half_imported]
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torch.library._torchvision_schemas = library  # the schemas live as long as this object does
        importlib.import_module("torchvision")
    return torch
