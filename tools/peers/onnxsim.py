"""onnxsim's structured pruning: filters ranked by the norm of their weights times that of their activations (Wanda).

Its own repair, which refits fully connected layers and leaves convolutions alone, follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import onnx

from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.models.opening import open_model
from tools.experiments.subjects import Subject
from tools.peers.contender import Contender

SAMPLES = 256
"""It ranks by so many of the calibration inputs; every try of the search runs them anew."""
BATCH = 32


class Wanda:
    """One model and the inputs that it is ranked by."""

    def __init__(self, subject: Subject, together: bool) -> None:
        self._subject, self._together = subject, together

    def slim(self, backend: str, fraction: float) -> onnx.ModelProto:
        import onnxsim

        pruned = onnxsim.apply_structured_wanda_pruning(
            self._dense, self._batches, sparsity=1 - fraction, global_sparsity=self._together
        )
        return _without_stale_shapes(pruned)

    def finished(self, backend: str, fraction: float) -> onnx.ModelProto:
        import onnxsim

        return onnxsim.apply_pruning_finetune(self._dense, self.slim(backend, fraction), self._batches)

    @cached_property
    def _dense(self) -> onnx.ModelProto:
        return to_proto(open_model(self._subject.source).model)

    @cached_property
    def _batches(self) -> list[dict[str, np.ndarray]]:
        inputs = self._subject.first(min(SAMPLES, self._subject.samples))
        count = min(map(len, inputs.values()))
        return [{name: a[start : start + BATCH] for name, a in inputs.items()} for start in range(0, count, BATCH)]


def _without_stale_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """It leaves the declared shapes of the dense model inside the slim one, which runtimes then refuse."""
    del model.graph.value_info[:]
    return model


def contenders(subject: Subject) -> Mapping[str, Contender]:
    """With the same sparsity in all layers, its default, and with one for all layers together."""
    made = {"onnxsim": Wanda(subject, False), "onnxsim-global": Wanda(subject, True)}
    return {name: Contender(wanda.slim, wanda.finished, ("onnxsim",)) for name, wanda in made.items()}
