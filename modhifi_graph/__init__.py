"""modhifi-graph: a structured-pruning compiler pass over ONNX.

>>> import modhifi_graph
>>> slim = modhifi_graph.optimize("model.onnx", "calib.npz", macs=0.5)  # doctest: +SKIP
>>> slim.save("slim.onnx")                                              # doctest: +SKIP

Everything here is loaded when it is first used: importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

from modhifi_graph import public_names as public

if TYPE_CHECKING:
    from modhifi_graph.errors import InputError, ModhifiError, VerificationError
    from modhifi_graph.frontends.frontend import Optimized
    from modhifi_graph.frontends.torch import OptimizedModule
    from modhifi_graph.inputs.calibration import Calibration
    from modhifi_graph.inputs.image_folders import Preprocess
    from modhifi_graph.inputs.synthesis.synthesised import Synthesised
    from modhifi_graph.jobs.compile import compile_model, load_engine
    from modhifi_graph.jobs.inspect import inspect
    from modhifi_graph.jobs.optimize import optimize
    from modhifi_graph.jobs.pareto import pareto
    from modhifi_graph.jobs.score import score
    from modhifi_graph.jobs.synthesise import synthesise
    from modhifi_graph.jobs.unlearn import unlearn
    from modhifi_graph.latency.benchmark import bench
    from modhifi_graph.latency.turns import Comparison, Timing
    from modhifi_graph.models.opening import Opened, open_model
    from modhifi_graph.plan import Plan
    from modhifi_graph.prove.verification import Verification, verify, verify_files
    from modhifi_graph.report.inspection import Inspection
    from modhifi_graph.report.scores import Scores
    from modhifi_graph.scoring.subset import SubsetFidelity
    from modhifi_graph.select.budget import Keep, Macs, Params
    from modhifi_graph.select.goal import Fidelity, Latency, Speedup

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

_found = public.lazily(__name__)
public.install()


def __getattr__(name: str) -> Any:
    return metadata.version("modhifi-graph") if name == "__version__" else _found(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
