"""What the oracles do to a model: normalise it, remove components, zero them, permute them, and compare what comes out.

>>> from tests.oracles import equivalence, small
>>> case = equivalence.Case.of(small.SMALL["conv_chain"](), small.samples(small.SMALL["conv_chain"]()))
>>> case.slim_against_mask(seed=0, fraction=0.5) < 1e-6
True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from modhifi_graph.axes.branches import Branch, find_branches
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Groups, find_groups
from modhifi_graph.axes.shrink import Shrink
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.dialects.onnx_lowering import Lowering
from modhifi_graph.exporters.onnxruntime import Engine
from modhifi_graph.passes.mask import Mask
from modhifi_graph.passes.normalise import Normalise
from modhifi_graph.passes.slim import Slim
from modhifi_graph.plan import Plan, random_plan

Outputs = Mapping[str, np.ndarray]


def groups_of(model: onnx.ModelProto | ir.Model) -> Groups:
    """The groups of a normalised model."""
    return find_groups(couple(lift(model if isinstance(model, ir.Model) else ir.from_proto(model)).graph))


def normalised(model: onnx.ModelProto) -> onnx.ModelProto:
    result = ir.from_proto(model)
    Normalise()(result)
    return ir.to_proto(result)


def apply(model: onnx.ModelProto, change: ir.passes.InPlacePass) -> onnx.ModelProto:
    result = ir.from_proto(model)
    change(result)
    return ir.to_proto(result)


def permuted(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The same function, with the components of every group in another order, everywhere the group appears."""
    result = ir.from_proto(model)
    lifted = lift(result)
    coupling = couple(lifted.graph)
    generator = np.random.default_rng(seed)
    orders = {group.factor: generator.permutation(group.size) for group in find_groups(coupling).groups}
    Lowering(lifted, Shrink(coupling, orders)).run()
    return ir.to_proto(result)


def run(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> Outputs:
    return Engine.compile(model, threads=1).run(feeds)


def distance(one: Outputs, other: Outputs, scale: Outputs) -> float:
    """The largest difference of any output, relative to the largest magnitude of that output in ``scale``."""
    assert one.keys() == other.keys() == scale.keys()
    worst = 0.0
    for name, reference in scale.items():
        a, b = one[name].astype(np.float64), other[name].astype(np.float64)
        assert a.shape == b.shape == reference.shape
        worst = max(worst, float(np.abs(a - b).max() / max(np.abs(reference.astype(np.float64)).max(), 1e-6)))
    return worst


@dataclass(frozen=True)
class Case:
    """A normalised model, an input for it, and what it answers."""

    model: onnx.ModelProto
    feeds: Mapping[str, Any]

    @classmethod
    def of(cls, model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> Case:
        return cls(normalised(model), feeds)

    @cached_property
    def groups(self) -> Groups:
        return groups_of(self.model)

    @cached_property
    def answers(self) -> Outputs:
        return run(self.model, self.feeds)

    @cached_property
    def branches(self) -> dict[str, Branch]:
        return find_branches(self.groups).by_name()

    def slim_against_mask(self, seed: int, fraction: float, must_matter: bool = True, depth: float = 0.0) -> float:
        """How far a slim model is from the model in which the same components are zeroed.

        A plan that zeroes what does not matter would prove nothing, so the masked model must differ from the dense one
        (unless ``must_matter`` is false, for models that may be dead by chance).
        """
        plan = random_plan(self.groups, seed, fraction, depth)
        slim, mask = (run(apply(self.model, change(plan)), self.feeds) for change in (Slim, Mask))
        if must_matter and removes(plan):
            assert distance(mask, self.answers, self.answers) > 1e-3, "the plan removes nothing that matters"
        return distance(slim, mask, self.answers)

    def permuted_against_original(self, seed: int) -> float:
        return distance(run(permuted(self.model, seed), self.feeds), self.answers, self.answers)


def removes(plan: Plan) -> bool:
    return bool(plan.branches) or any(len(group.keep) < group.size for group in plan.groups)
