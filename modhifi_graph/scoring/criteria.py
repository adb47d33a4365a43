"""By what components are judged: every criterion by its name, and what else a user chooses about scoring.

Names alone, so that the command line's help and its completion wait for nothing. The formulas are in
:mod:`modhifi_graph.scoring.scores`, but that of ``obs`` (:mod:`modhifi_graph.scoring.optimal_brain_surgeon`). A new criterion
is a line here and a case in ``scores.component_scores`` and ``scores.meeting_scores``; the options, the command line and the
tests read this.
"""

from __future__ import annotations

from collections.abc import Mapping

MEANING: Mapping[str, str] = {
    "obs": "what is lost once the components that stay make up for it: greedy block OBS",
    "fidelity": "the share of the output that the component alone accounts for, as in the paper's Algorithm 1",
    "alpha": "the best scale for the component's contribution alone, as in the paper's text",
    "rowsum": "the covariance of the component's contribution and the output, as in the paper's appendix",
    "energy": "the energy of the component's contribution, as the paper has it for language models",
    "magnitude": "the squares of the component's weights; no calibration inputs are looked at",
    "random": "nothing: a draw by the seed",
}

CRITERIA = tuple(MEANING)

READINGS = ("fidelity", "alpha", "rowsum", "energy")
"""The paper's scores: its Algorithm 1, its text, its appendix, and its language models. Those of mode "paper"."""

UNOBSERVED = ("magnitude", "random")
"""These look at no calibration inputs."""

PRICES = ("output", "local")
"""What groups compete by: what is lost of the network's outputs, or of the streams that they join."""

SETS = ("layer", "channel")
"""Whose HiFi sets are united: those of layers, or of every output channel as in the paper's text."""
