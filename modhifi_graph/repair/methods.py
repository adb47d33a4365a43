"""How what is left is repaired: every compensation by its name. Names alone, as in :mod:`modhifi_graph.scoring.criteria`."""

from __future__ import annotations

from collections.abc import Mapping

MEANING: Mapping[str, str] = {
    "none": "weights stay as they are",
    "bias": "the mean of what went is added to the bias",
    "scalar": "besides, each contribution that stays is scaled, as in the paper",
    "lstsq": "affine least squares, one layer at a time, from what the dense model feeds it",
    "sequential": "affine least squares in the order in which layers run, from what the slim model feeds them",
    "joint": "besides, chains of layers are refitted as a whole",
}

METHODS = tuple(MEANING)

LOCAL = ("bias", "scalar", "lstsq")
"""These repair each layer that lost inputs by itself (:mod:`modhifi_graph.repair.local`)."""

SEQUENTIAL = ("sequential", "joint")
"""These run the dense and the slim model in step (:mod:`modhifi_graph.repair.sequential`)."""
