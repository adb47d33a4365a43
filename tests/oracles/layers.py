"""Small models with their groups, consumers and activations, for the tests of everything that is measured on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Group, Groups, find_groups
from modhifi_graph.dialects.onnx import Lifted, lift
from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.exporters.onnxruntime import Engine
from modhifi_graph.observe.consumers import Consumer, consumers_of
from modhifi_graph.observe.moments import Moments
from modhifi_graph.passes.compensate import Compensate
from modhifi_graph.passes.normal_form import normalise
from modhifi_graph.passes.slim import Slim
from modhifi_graph.plan import GroupPlan, Plan

from . import small

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Net:
    """A normalised model and inputs for it."""

    model: ir.Model
    feeds: dict[str, np.ndarray]

    @classmethod
    def of(cls, source: str | onnx.ModelProto, samples: int = 64, seed: int = 0) -> Net:
        """A graph in the notation of `small`, or a model, with normal inputs."""
        proto = small.build(source) if isinstance(source, str) else source
        return cls(normalise(ir.from_proto(proto), "model"), small.samples(proto, seed, samples))

    @classmethod
    def named(cls, name: str, samples: int = 64, seed: int = 0) -> Net:
        """One of `small.SMALL`."""
        return cls.of(small.SMALL[name](), samples, seed)

    @cached_property
    def program(self) -> Lifted:
        return lift(self.model)

    @cached_property
    def groups(self) -> Groups:
        return find_groups(couple(self.program.graph))

    def group(self, name: str) -> Group:
        return self.groups.by_name()[name]

    @cached_property
    def layers(self) -> list[Consumer]:
        """Every consumer with a weight."""
        return [c for c in consumers_of(self.groups).values() if isinstance(c, Consumer)]

    @property
    def consumers(self) -> dict[str, Consumer]:
        """The same by the name of the weight; of several that share one, the last."""
        return {_weight_of(c): c for c in self.layers}

    @cached_property
    def batches(self) -> list[dict[str, np.ndarray]]:
        """The inputs in four batches."""
        size = max(1, len(next(iter(self.feeds.values()))) // 4)
        return [{name: array[i * size : (i + 1) * size] for name, array in self.feeds.items()} for i in range(4)]

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """Every input and every activation."""
        proto = to_proto(self.model)
        names = [name for node in proto.graph.node for name in node.output]
        return {**self.feeds, **run(proto, self.feeds, names)}

    @cached_property
    def outputs(self) -> dict[str, np.ndarray]:
        return run(self.model, self.feeds)

    def rows(self, weight: str | Consumer) -> np.ndarray:
        """Everything that the consumer (with this weight) reads, (G, rows, p), float64."""
        consumer = self.consumers[weight] if isinstance(weight, str) else weight
        x = self.values[consumer.x.name]
        picks = torch.arange(consumer.positions(x.shape)[0])
        return consumer.input_rows(torch.from_numpy(x), picks).double().numpy()

    def moments(self, weight: str | Consumer) -> Moments:
        return Moments.of(torch.from_numpy(self.rows(weight)))

    def all_moments(self) -> dict[Consumer, Moments]:
        return {consumer: self.moments(consumer) for consumer in self.layers}

    def plan(self, keep: Mapping[str, Sequence[int]], branches: Sequence[str] = ()) -> Plan:
        entries = [GroupPlan(name, self.group(name).size, tuple(kept)) for name, kept in keep.items()]
        return Plan(tuple(entries), branches=tuple(branches))

    def compensated(
        self, keep: Mapping[str, Sequence[int]], method: str, branches: Sequence[str] = (), **settings: Any
    ) -> ir.Model:
        """The model slimmed to ``keep`` without ``branches`` and repaired."""
        plan = self.plan(keep, branches)
        slim = self.model.clone()
        Slim(plan)(slim)
        settings = {"batches": self.batches, "moments": self.all_moments(), "threads": 1, **settings}
        Compensate(self.model, self.groups, plan, method, **settings)(slim)
        return slim

    def error(self, slim: ir.Model, output: str | None = None) -> float:
        """Mean squared error of an output (all of them by default), over the variance of it."""
        found = run(slim, self.feeds)
        names = [output] if output else list(self.outputs)
        return float(np.mean([np.mean((found[n] - self.outputs[n]) ** 2.0) / self.outputs[n].var() for n in names]))


def _weight_of(consumer: Consumer) -> str:
    value = consumer.op.inputs[consumer.contraction.other]
    assert value is not None
    return value.name


def run(model: ir.Model | onnx.ModelProto, feeds: Arrays, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Outputs by name; ``names`` may be any values of the graph."""
    proto = to_proto(model) if isinstance(model, ir.Model) else onnx.ModelProto.FromString(model.SerializeToString())
    present = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names or () if name not in present)
    return Engine.compile(proto, threads=1, optimise=False).run(feeds, names)


def parameter(model: ir.Model, op: str, number: int, slot: int) -> np.ndarray:
    """The constant in a slot of the node that is number ``number`` of its kind."""
    node = [node for node in model.graph if node.op_type == op][number]
    value = node.inputs[slot]
    assert value is not None
    assert value.const_value is not None
    return value.const_value.numpy()
