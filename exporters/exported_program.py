"""Exported programs as files."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch.export import ExportedProgram

from modhifi_graph.errors import InputError, first_line

FORCE, FORCE_NOT = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def load(path: str | os.PathLike[str]) -> ExportedProgram:
    """Read a ``.pt2`` file that ``torch.export.save`` wrote; InputError where it is something else, or would run code.

    PyTorch's reader unpickles some payloads without restrictions, unless the environment forbids it; here it does.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such file; give a .pt2 file that torch.export.save wrote")
    before = {name: os.environ.pop(name, None) for name in (FORCE, FORCE_NOT)}
    os.environ[FORCE] = "1"
    try:
        return torch.export.load(Path(path))
    except Exception as error:  # whatever a damaged or hostile archive makes the reader do
        raise InputError(f"{path}: is not an exported program that can be read safely: {first_line(error)}") from error
    finally:
        del os.environ[FORCE]
        os.environ.update({name: value for name, value in before.items() if value is not None})
