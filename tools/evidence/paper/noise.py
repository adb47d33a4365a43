"""Noise where it hurts: the same energy of Gaussian noise on the HiFi set of every layer, on the others, or on a random set.

Every layer that reads a group gets ``x + e`` for its input x. The HiFi set is the best 20 % of the group's components
(greedily, by Subset Fidelity), the random set is as large. The noise's variance, summed over the layer's input channels, is
``level`` times that of x, spread evenly over the channels of the set: where the set is small every channel of it gets more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from modhifi_graph.dialects.onnx import Lifted
from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.exporters import onnxruntime as backend
from modhifi_graph.frontends.onnx import OnnxFrontEnd
from modhifi_graph.inputs.batches import first_samples
from modhifi_graph.interface import Feeds
from modhifi_graph.jobs.calibrate import calibrated
from modhifi_graph.jobs.score import scored
from modhifi_graph.observe.consumers import Consumer
from modhifi_graph.observe.moments import Moments
from modhifi_graph.observe.output_error import relative_error
from modhifi_graph.options.request import Options
from modhifi_graph.scoring.results import GroupScores
from modhifi_graph.select.budget import Keep
from tools.experiments.experiment import MISSING, Cell, Experiment, Measured, Row, Series, markdown, number, rows_of
from tools.experiments.subjects import Subject

SHARE = 0.2
LEVELS = ("0.1", "0.3", "1", "3")
PLACES = ("hifi", "random", "others")
JUDGED = 100
"""Calibration samples that the error of the outputs is measured on."""


@dataclass(frozen=True, eq=False)
class Noisy:
    """A layer's input: where it is read, the variance of every channel, and the channels of each set."""

    consumer: Consumer
    variance: np.ndarray
    sets: Mapping[str, np.ndarray]

    def deviations(self, place: str, level: float) -> np.ndarray:
        """The standard deviation of the noise on every channel, shape (channels,)."""
        found = np.zeros(len(self.variance))
        chosen = self.sets[place]
        found[chosen] = np.sqrt(level * self.variance.sum() / len(chosen))
        return found


def measure(subject: Subject, cells: Sequence[Cell]) -> Measured:
    options = Options(budget=Keep(1.0), plan=None, seed=subject.seed, threads=subject.threads)
    front = OnnxFrontEnd(subject.source, options)
    data = calibrated(front, subject.calib, options)
    assert data is not None
    few = first_samples(data.feeds, JUDGED)
    reference = _outputs(to_proto(front.opened.model), few, subject.threads)
    random = np.random.default_rng(subject.seed)
    layers = [noisy for group in scored(front, data, options).groups for noisy in readers(group, random)]
    for cell in cells:
        level, place = cell
        noisy_model = with_noise(front.program, layers, place, float(level), subject.seed)
        proto = to_proto(front.opened.restored(noisy_model))
        error = relative_error(reference, _outputs(proto, few, subject.threads))
        yield cell, [{"layers": len(layers), "error": error, "score": subject.rate(proto), "dense": subject.dense}]


def _outputs(model: onnx.ModelProto, feeds: Sequence[Feeds], threads: int) -> list[dict[str, np.ndarray]]:
    engine = backend.Engine.compile(model, threads=threads)
    return [{n: a for n, a in engine.run(batch).items() if a.dtype.kind == "f"} for batch in feeds]


def readers(group: GroupScores, random: np.random.Generator) -> Iterator[Noisy]:
    """The layers that read a group, but for grouped convolutions, whose channels are in several maps."""
    k = max(1, round(SHARE * group.size))
    drawn = random.permutation(group.size)[:k]
    for layer in group.layers if group.size > 1 else ():
        consumer: Consumer = layer._consumer
        moments: Moments = layer._moments
        if consumer.parts > 1 or consumer.contraction.slot != 0:
            continue
        owners = consumer.columns(layer._group.factor)[:: consumer.taps]
        variance = moments.covariance.diagonal(dim1=1, dim2=2)[0].reshape(-1, consumer.taps).mean(1).cpu().numpy()
        hifi = np.isin(owners, group.order[:k])
        places = {"hifi": hifi, "random": np.isin(owners, drawn), "others": ~hifi & (owners >= 0)}
        yield Noisy(consumer, variance, {name: np.flatnonzero(chosen) for name, chosen in places.items()})


def with_noise(program: Lifted, layers: Sequence[Noisy], place: str, level: float, seed: int) -> ir.Model:
    """A copy in which these layers read their inputs with noise; ONNX Runtime draws the same noise for the same seed."""
    model = program.model.clone()
    nodes = {node.outputs[0].name: node for node in model.graph}
    for count, noisy in enumerate(layers):
        node, slot = nodes[noisy.consumer.y.name], noisy.consumer.contraction.slot
        x = node.inputs[slot]
        assert x is not None
        channels_last = node.op_type != "Conv"
        shape = (-1,) if channels_last else (1, -1, *(1,) * (len(noisy.consumer.op.inputs[1].shape) - 2))  # type: ignore[union-attr, arg-type]
        scale = ir.tensor(noisy.deviations(place, level).reshape(shape).astype(np.float32), name=f"noise_scale_{count}")
        constant = ir.node("Constant", [], {"value": scale})
        drawn = ir.node("RandomNormalLike", [x], {"seed": float(1000 * seed + count + 1)})
        scaled = ir.node("Mul", [drawn.outputs[0], constant.outputs[0]])
        added = ir.node("Add", [x, scaled.outputs[0]])
        for new, name in ((constant, "scale"), (drawn, "drawn"), (scaled, "scaled"), (added, "added")):
            new.outputs[0].name = f"noise_{name}_value_{count}"
        node.replace_input_with(slot, added.outputs[0])
        model.graph.insert_before(node, (constant, drawn, scaled, added))
    onnx.checker.check_model(to_proto(model))
    return model


def panels(rows: Sequence[Row]) -> Mapping[str, Series]:
    models = dict.fromkeys(row["model"] for row in rows)
    return {
        model: {
            place: [(float(row["level"]), float(row["error"])) for row in rows_of(rows, model, place=place)]
            for place in PLACES
        }
        for model in models
    }


def table(rows: Sequence[Row], subjects: Sequence[Subject]) -> str:
    body = []
    for subject in subjects:
        mine = rows_of(rows, subject.name)
        for level in LEVELS:
            found = [rows_of(mine, subject.name, level=level, place=place) for place in PLACES]
            shown = [f"{number(one, 'score')} ({number(one, 'error', 3)})" if one else MISSING for one in found]
            body.append([f"{subject.name}, {subject.metric}", number(mine, "dense"), level, *shown])
    header = ["model, score (error of the outputs)", "without noise", "noise / signal"]
    return markdown([*header, *(f"on {place}" for place in PLACES)], body, 2)


def cells(subject: Subject) -> list[Cell]:
    return [(level, place) for level in LEVELS for place in PLACES]


EXPERIMENT = Experiment(
    "noise", ("level", "place"), ("layers", "error", "score", "dense"), cells, measure, panels,
    ("energy of the noise over that of the layer's input", "relative squared error of the outputs"), table,
)  # fmt: skip
