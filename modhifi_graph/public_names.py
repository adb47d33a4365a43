"""What users find by name, and where it lives: data, so that the house may be rebuilt behind it.

Nothing named here is imported before it is asked for: importing the package costs next to nothing, and a room that lends its
name to something of a higher one (``modhifi_graph.passes.fx.ModHiFi``) does not import that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import CodeType, ModuleType
from typing import Any

ROOT = "modhifi_graph"

NAMES: Mapping[str, Mapping[str, Sequence[str]]] = {
    ROOT: {
        "errors": ("InputError", "ModhifiError", "VerificationError"),
        "frontends.frontend": ("Optimized",),
        "frontends.torch": ("OptimizedModule",),
        "inputs.calibration": ("Calibration",),
        "inputs.image_folders": ("Preprocess",),
        "inputs.synthesis.synthesised": ("Synthesised",),
        "jobs.compile": ("compile_model", "load_engine"),
        "jobs.inspect": ("inspect",),
        "jobs.optimize": ("optimize",),
        "jobs.pareto": ("pareto",),
        "jobs.score": ("score",),
        "jobs.synthesise": ("synthesise",),
        "jobs.unlearn": ("unlearn",),
        "latency.benchmark": ("bench",),
        "latency.turns": ("Comparison", "Timing"),
        "models.opening": ("Opened", "open_model"),
        "plan": ("Plan",),
        "prove.verification": ("Verification", "verify", "verify_files"),
        "report.inspection": ("Inspection",),
        "report.scores": ("Scores",),
        "scoring.subset": ("SubsetFidelity",),
        "select.budget": ("Keep", "Macs", "Params"),
        "select.goal": ("Fidelity", "Latency", "Speedup"),
    },
    f"{ROOT}.passes.fx": {"dropins.torch_fx": ("ModHiFi",)},
    f"{ROOT}.scoring": {
        "observe.moments": ("Moments",),
        "scoring.scores": ("Contributions",),
        "scoring.subset": ("Subset", "SubsetFidelity"),
    },
}
"""By package: the modules below :data:`ROOT` that its public names come from."""

MOVED: Mapping[str, str] = {
    f"{ROOT}.benchmark": f"{ROOT}.latency.benchmark",
    f"{ROOT}.calibration": f"{ROOT}.inputs.calibration",
    f"{ROOT}.exporters.dynamo": f"{ROOT}.dropins.dynamo",
    f"{ROOT}.exporters.olive": f"{ROOT}.dropins.olive",
    f"{ROOT}.fidelity": f"{ROOT}.scoring",
    f"{ROOT}.page": f"{ROOT}.report.page",
    f"{ROOT}.passes.fx.modhifi": f"{ROOT}.dropins.torch_fx",
}
"""Modules that documents and stored configurations call by an older path, and where they are."""


def names_of(package: str) -> dict[str, str]:
    """The public names of a package, and the module of each."""
    return {name: f"{ROOT}.{module}" for module, names in NAMES[package].items() for name in names}


def lazily(package: str) -> Callable[[str], Any]:
    """A package's ``__getattr__``: loads a public name when it is first used."""
    homes = names_of(package)

    def found(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return found


class Moved(MetaPathFinder, InspectLoader):
    """Finds the modules of :data:`MOVED`, and what is in them, under their older paths: the same modules, not copies."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        there = moved(fullname)
        found = find_spec(there) if there else None
        return found and ModuleSpec(
            fullname, self, origin=found.origin, is_package=found.submodule_search_locations is not None
        )

    def exec_module(self, module: ModuleType) -> None:
        here, there = module.__name__, moved(module.__name__) or ""
        sys.modules[here] = import_module(there)
        # What is loaded already is not loaded again, nor set on its package in place of a name that this has given since.
        for name in [name for name in sys.modules if name.startswith(f"{there}.")]:
            sys.modules.setdefault(here + name.removeprefix(there), sys.modules[name])

    def get_code(self, fullname: str) -> CodeType | None:
        """For ``python -m``."""
        return self._loader(fullname).get_code(moved(fullname) or "")

    def get_source(self, fullname: str) -> str | None:
        return self._loader(fullname).get_source(moved(fullname) or "")

    def _loader(self, fullname: str) -> InspectLoader:
        spec = find_spec(moved(fullname) or "")
        assert spec is not None
        assert isinstance(spec.loader, InspectLoader)
        return spec.loader


def moved(name: str) -> str | None:
    """Where a module is that is called by an older path, or one in it; None for any other."""
    if not name.startswith(ROOT):  # every import of a process asks
        return None
    found = next((old for old in MOVED if name == old or name.startswith(f"{old}.")), None)
    return None if found is None else MOVED[found] + name.removeprefix(found)


def install() -> None:
    """Let older paths be found, once; before others look, since what is in a package is found by its new place as well."""
    if not any(isinstance(finder, Moved) for finder in sys.meta_path):
        sys.meta_path.insert(0, Moved())
