"""How a class is erased: every mode by its name. Names alone, as in :mod:`modhifi_graph.scoring.criteria`."""

from __future__ import annotations

INTERCEPT = {"edit": True, "plain": False}
"""Modes that refit layers (:mod:`modhifi_graph.forget.editing`), by whether the bias is refitted too."""

FACTORS = {"zero": 0.0, "negate": -1.0}
"""Modes that scale kernels (:mod:`modhifi_graph.forget.kernels`), by what."""

MODES = (*INTERCEPT, *FACTORS)
