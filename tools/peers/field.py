"""All contenders by name, and what each needs to be installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from tools.experiments.subjects import Subject
from tools.peers import onnxsim, ours, torch_pruning
from tools.peers.contender import Contender
from tools.peers.modules import WITH_NORMS

OURS = ("speedup", "macs", "macs-depth")
NAMES = (*OURS, "onnxsim", "onnxsim-global", *torch_pruning.RECIPES)
NEEDS = {"onnxsim": ("onnxsim",), "torch-pruning": ("torch_pruning", "onnx2torch")}
REMEDY = "pip install -e '.[peers]' -c constraints.txt"


def of(subject: Subject) -> Mapping[str, Contender]:
    """What they share is made when it is first needed, and once."""
    return {**ours.contenders(subject), **onnxsim.contenders(subject), **torch_pruning.contenders(subject)}


def missing(name: str) -> str | None:
    """Why a contender cannot take part here, for the user to read; None where it can."""
    for start, modules in NEEDS.items():
        if name.startswith(start):
            for module in modules:
                if importlib.util.find_spec(module) is None:
                    return f"{name}: {module} is not installed: {REMEDY}"
    return None


def applies(name: str, path: Path) -> bool:
    """Only where the published module's batch norms are at hand can their statistics be taken anew."""
    return not name.endswith(WITH_NORMS.replace("_", "-")) or path.stem.startswith("resnet")
