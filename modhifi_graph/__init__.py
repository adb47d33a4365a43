"""modhifi-graph: a structured-pruning compiler pass over ONNX.

>>> import modhifi_graph
>>> slim = modhifi_graph.optimize("model.onnx", "calib.npz", macs=0.5)  # doctest: +SKIP
>>> slim.save("slim.onnx")                                              # doctest: +SKIP

Everything here is loaded when it is first used: importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modhifi_graph.benchmark import bench
    from modhifi_graph.calibration import Calibration
    from modhifi_graph.compilation import compile_model, load_engine
    from modhifi_graph.errors import InputError, ModhifiError, VerificationError
    from modhifi_graph.fidelity.selection import Keep, Macs, Params
    from modhifi_graph.fidelity.subset import SubsetFidelity
    from modhifi_graph.frontends.torch import OptimizedModule
    from modhifi_graph.images import Preprocess
    from modhifi_graph.inspection import Inspection, inspect
    from modhifi_graph.latency.goal import Fidelity, Latency, Speedup
    from modhifi_graph.models import Opened, open_model
    from modhifi_graph.optimization import Optimized, optimize
    from modhifi_graph.pareto import pareto
    from modhifi_graph.plan import Plan
    from modhifi_graph.scoring import Scores, score
    from modhifi_graph.synthesis.synthesise import Synthesised, synthesise
    from modhifi_graph.timing import Comparison, Timing
    from modhifi_graph.unlearning import unlearn
    from modhifi_graph.verification import Verification, verify, verify_files

__all__ = [
    "Calibration",
    "Comparison",
    "Fidelity",
    "InputError",
    "Inspection",
    "Keep",
    "Latency",
    "Macs",
    "ModhifiError",
    "Opened",
    "Optimized",
    "OptimizedModule",
    "Params",
    "Plan",
    "Preprocess",
    "Scores",
    "Speedup",
    "SubsetFidelity",
    "Synthesised",
    "Timing",
    "Verification",
    "VerificationError",
    "bench",
    "compile_model",
    "inspect",
    "load_engine",
    "open_model",
    "optimize",
    "pareto",
    "score",
    "synthesise",
    "unlearn",
    "verify",
    "verify_files",
]

_MODULES = {
    "benchmark": ("bench",),
    "calibration": ("Calibration",),
    "compilation": ("compile_model", "load_engine"),
    "errors": ("InputError", "ModhifiError", "VerificationError"),
    "fidelity.selection": ("Keep", "Macs", "Params"),
    "fidelity.subset": ("SubsetFidelity",),
    "frontends.torch": ("OptimizedModule",),
    "images": ("Preprocess",),
    "inspection": ("Inspection", "inspect"),
    "latency.goal": ("Fidelity", "Latency", "Speedup"),
    "models": ("Opened", "open_model"),
    "optimization": ("Optimized", "optimize"),
    "pareto": ("pareto",),
    "plan": ("Plan",),
    "synthesis.synthesise": ("Synthesised", "synthesise"),
    "scoring": ("Scores", "score"),
    "timing": ("Comparison", "Timing"),
    "unlearning": ("unlearn",),
    "verification": ("Verification", "verify", "verify_files"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("modhifi-graph")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
