"""How local errors become global ones: measured, and as normalisations bound it.

A network of Lipschitz layers turns an error of one layer's output into an error of its own output that is at most a constant
times as large (ModHiFi, arXiv 2511.19566). The product of worst cases says nothing (1e38 for a ResNet-50), so the paper
measures the ratio instead, and finds 10 to 50. Here every layer's weights get noise that makes its output wrong by a known
part, the rest of the network runs, and the relative error of the outputs over that part is the layer's gain. A normalisation
is Lipschitz with ``|gamma|_inf / r``, where r is the least norm that it divides by: the smallest one it ever saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from modhifi_graph.dialects.program import Program
from modhifi_graph.inputs.batches import first_samples, samples_in
from modhifi_graph.interface import Feeds
from modhifi_graph.observe.consumers import Consumer, weight_of
from modhifi_graph.observe.moments import Moments
from modhifi_graph.observe.normalisations import NormInput, norm_inputs
from modhifi_graph.observe.output_error import relative_error
from modhifi_graph.progress import Progress, silent
from modhifi_graph.scoring.scores import output_energy
from modhifi_graph.scoring.sensitivity import changed_weights

ERRORS = (0.01, 0.1, 0.3)
"""Local errors that gains are measured at: the root of squared error over variance."""

SAMPLES = 32


@dataclass(frozen=True)
class Gain:
    """What one layer's error becomes.

    Attributes
    ----------
    name, op : the parameter that holds the layer's weight, and the op.
    gains : for each of ERRORS, the relative error of the network's outputs over that of the layer's output.
    """

    name: str
    op: str
    gains: tuple[float, ...]


@dataclass(frozen=True)
class Bounds:
    """Measured gains of every layer, the first layer first, and what every normalisation divides by.

    Attributes
    ----------
    samples : how many calibration samples gains were measured on.
    errors : the relative local errors.
    """

    samples: int
    errors: tuple[float, ...]
    layers: tuple[Gain, ...]
    norms: tuple[NormInput, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def bounds_of(
    program: Program,
    layers: Sequence[Consumer],
    moments: Mapping[Consumer, Moments],
    batches: Sequence[Feeds],
    *,
    seed: int = 0,
    threads: int = 0,
    progress: Progress = silent,
) -> Bounds:
    """Measure the gain of every layer on the first samples, and look at every normalisation on all of them.

    Time: one partial forward pass for each layer and local error on SAMPLES samples, and one forward pass.
    """
    few = first_samples(batches, SAMPLES)
    samples = sum(map(samples_in, few))
    gains = _gains(program, layers, moments, few, seed, threads, progress)
    return Bounds(samples, ERRORS, tuple(gains), tuple(norm_inputs(program, batches, threads)))


def _gains(
    program: Program,
    layers: Sequence[Consumer],
    moments: Mapping[Consumer, Moments],
    batches: Sequence[Feeds],
    seed: int,
    threads: int,
    progress: Progress,
) -> list[Gain]:
    outputs = [value.name for value in program.graph.float_outputs]
    if not outputs:
        return []
    place = {op: i for i, op in enumerate(program.graph.ops)}
    stepper = program.stepper(batches, threads=threads)
    reference = stepper.outcome(outputs, {})
    found = []
    for number, layer in enumerate(sorted(layers, key=lambda c: place[c.op])):
        stepper.advance(layer.y.name)
        noise = _noise(layer, moments[layer], np.random.default_rng([seed, number]))
        gains = []
        for error in ERRORS:
            weight = weight_of(layer, moments[layer].mean) + error * noise
            answer = stepper.outcome(outputs, {layer.y.name: changed_weights(layer, weight, moments[layer])})
            gains.append(relative_error(reference, answer) ** 0.5 / error)
        value = layer.op.inputs[layer.contraction.other]
        assert value is not None
        found.append(Gain(value.name, str(layer.op), tuple(gains)))
        progress("bounds", number + 1, len(layers))
    return found


def _noise(layer: Consumer, moments: Moments, random: np.random.Generator) -> torch.Tensor:
    """Normal noise on W whose effect on the output has the output's own energy, shape (G, o, p)."""
    weight = weight_of(layer, moments.mean)
    noise = torch.from_numpy(random.standard_normal(weight.shape)).to(weight.device)
    energy = ((noise @ moments.covariance) * noise).sum()
    return noise * (output_energy(layer, moments) / energy.clamp_min(1e-300)).sqrt()
