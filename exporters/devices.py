"""Where a model is run, observed and repaired."""

from __future__ import annotations

import torch

from modhifi_graph.errors import InputError, first_line


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


def home_of(module: torch.nn.Module) -> torch.device:
    """Where a module's parameters are; the CPU for one that has none."""
    tensors = [*module.parameters(), *module.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")
