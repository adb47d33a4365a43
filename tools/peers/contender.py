"""What a contender is: a way to a slimmer model, with one knob, a fraction that stays."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass

import onnx

Make = Callable[[str, float], onnx.ModelProto]


@dataclass(frozen=True)
class Contender:
    """One way to prune a model; nothing is trained afterwards.

    Attributes
    ----------
    slim : the model for a backend and a fraction in (0, 1]; the less stays, the faster it is. Its speed is measured.
    finished : the same model, repaired where that is part of the method. Its accuracy is measured.
    libraries : the distributions that do it, as pip calls them.
    """

    slim: Make
    finished: Make
    libraries: tuple[str, ...]

    def versions(self) -> str:
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in self.libraries)
