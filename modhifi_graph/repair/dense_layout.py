"""Repairs that are kept in the dense model's layout.

They outlive any further slimming: the model that is slimmed next takes of them what it still has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from modhifi_graph.axes.groups import Groups
from modhifi_graph.axes.layout import Layout
from modhifi_graph.dialects.program import Program
from modhifi_graph.observe.sites import Editor
from modhifi_graph.observe.windows import Window, windows


@dataclass
class Repairs:
    """Weights and biases that are no longer the dense model's, laid out as there.

    Attributes
    ----------
    weights, biases : by the name of the consumer's output, shapes (G, O, P) and (G, O); what is gone has no meaning.
    """

    weights: dict[str, np.ndarray] = field(default_factory=dict)
    biases: dict[str, np.ndarray] = field(default_factory=dict)

    def current(self, window: Window) -> np.ndarray:
        """The weight at a site, shape (g, o, p), float64."""
        return window.cut(self.weights.get(window.dense.y.name, window.dense.weight())).astype(np.float64)

    def replace(self, window: Window, weight: np.ndarray, shift: np.ndarray) -> None:
        """Another weight for a site, and what is added to its bias. Shapes (g, o, p) and (g, o)."""
        name = window.dense.y.name
        if name not in self.weights:
            self.weights[name] = window.dense.weight().astype(np.float64)
            self.biases[name] = np.zeros(self.weights[name].shape[:2])
        window.paste(weight, self.weights[name])
        self.biases[name][window.parts[:, None], window.rows] += shift

    def write(self, groups: Groups, program: Program, keep: Mapping[Layout, np.ndarray]) -> int:
        """Repair the dense model, or what was slimmed of it to ``keep``, in place; returns how many sites."""
        editor, count = Editor(program), 0
        for window in windows(groups, program.graph, keep):
            name = window.dense.y.name
            if name in self.weights:
                editor.weight(window.site, window.cut(self.weights[name]))
                if window.site.bias is not None:
                    before = editor.current_bias(window.site)
                    editor.bias(window.site, before + window.cut(self.biases[name]))
                count += 1
        return count
