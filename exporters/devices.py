"""Where a model is observed and repaired, and how much fits there."""

from __future__ import annotations

import torch

from modhifi_graph.errors import InputError, first_line
from modhifi_graph.inputs.calibration import BATCH_BYTES

GPU_BATCH_BYTES = 1 << 32
"""What one batch's activations may take on a GPU; less where less than four times as much is free."""


def device_of(name: str | None) -> torch.device | None:
    """The device of that name, "cpu", "cuda" or "cuda:1"; InputError where it cannot be used here."""
    try:
        device = torch.device(name) if name else None
        if device is not None:
            torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {name!r} cannot be used here: {first_line(error)}; leave it out to stay on the CPU"
        ) from error
    return device


def batch_bytes(device: torch.device) -> int:
    """How many bytes the activations of one batch may take: on a GPU at most a quarter of what is free."""
    if device.type != "cuda":
        return BATCH_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return min(GPU_BATCH_BYTES, free // 4)


def home_of(module: torch.nn.Module) -> torch.device:
    """Where a module's parameters are; the CPU for one that has none."""
    tensors = [*module.parameters(), *module.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")
