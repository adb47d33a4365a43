"""A report of a run, small and made up, with everything that a page can show."""

from __future__ import annotations

import copy
from typing import Any

TIMING = {"median": 2.0, "p95": 3.0, "minimum": 1.9, "spread": 0.1, "n": 40}

REPORT: dict[str, Any] = {
    "macs": {"before": 2_000_000, "after": 1_000_000},
    "params": {"before": 4_000, "after": 3_000},
    "components": {"before": 12, "after": 8},
    "groups": [
        {
            "name": "conv1.weight", "kind": "channels", "before": 8, "after": 4,
            "spectrum": {"per": 1, "stays": [None, 0.5, 0.1, 0.05], "went": [0.01, 0.001, 0.0005, 0.0001]},
        },
        {"name": "conv2.weight", "kind": "channels", "before": 4, "after": 4, "not_scored": "consumed by Foo 'f'"},
    ],
    "branches": [],
    "pinned": [{"name": "head.weight", "size": 10, "reasons": ["the graph's output", "b", "c"]}],
    "bytes": {"before": 17_000, "after": 13_000},
    "latency_ms": {"before": TIMING, "after": {**TIMING, "median": 1.0}},
    "speedup": 2.0,
    "interval": [1.8, 2.2],
    "timing": {
        "batch": 1,
        "engine": {
            "backend": "onnxruntime", "version": "1.0", "device": "cpu", "provider": "CPUExecutionProvider",
            "threads": 1, "precision": "fp32",
        },
        "machine": {"processor": "P", "cores": 2, "memory_gib": 4.0, "system": "Linux 6", "python": "3.12.0"},
    },
    "layers": {
        "rows": [
            {"name": "conv1", "ops": ["Conv", "Add", "Mul", "Relu"], "before": 1.5, "after": 0.5},
            {"name": "gone", "ops": ["Conv"], "before": 0.25, "after": None},
        ],
        "not_timed": [{"name": "foo", "reason": "no such operator"}],
    },
    "fidelity": 0.98,
    "calibration": {"source": "given", "what": "", "samples": 500, "mirrored": True},
    "warnings": ["few rows"],
    "verify": {"max_abs_error": 1e-6, "tolerance": 1e-3, "output": "y", "runs": 2},
    "seconds": {"load": 1.0, "score": 4.0},
    "plan": {
        "groups": [],
        "settings": {"macs": 0.5, "criterion": "obs", "compensation": "joint", "seed": 0, "samples": 500},
    },
}  # fmt: skip


def report(**other: Any) -> dict[str, Any]:
    """A copy, with some entries of its own."""
    return {**copy.deepcopy(REPORT), **other}
