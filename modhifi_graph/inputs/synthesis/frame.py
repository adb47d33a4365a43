"""How many samples are made, how long open axes are, and what goes into the inputs that are neither picture nor text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modhifi_graph.errors import InputError
from modhifi_graph.inputs.calibration import Calibration, load
from modhifi_graph.inputs.input_kinds import Reading
from modhifi_graph.inputs.synthesis.signals import sounds
from modhifi_graph.inputs.synthesis.subject import Subject
from modhifi_graph.interface import batch_symbols, is_float, shape_of

BYTES = 1 << 28
"""What is made takes no more than this; fewer samples are made of what is large."""

SAMPLES = {"picture": 1000, "tokens": 128, "sound": 256}
LENGTHS = {"picture": (224, 256, 64, 32, 512), "tokens": (192, 96, 48, 24, 12, 8), "sound": (16000, 4096, 512, 65536)}
OTHER_SAMPLES, OTHER_LENGTHS = 4096, (8, 64, 512, 4096)
"""By the kind of the first input that is a picture, tokens or sound: how many samples are made, and lengths for open axes, of
which the first is taken that the model runs on."""


@dataclass(frozen=True)
class Frame:
    """Everything about the inputs but the values of the leading one.

    Attributes
    ----------
    readings : of every input, in order.
    lead : the first one that is a picture, tokens or sound; else the first one.
    count : samples.
    free : the length of open axes other than the batch.
    seed : of the values of other inputs.
    """

    readings: tuple[Reading, ...]
    lead: Reading
    count: int
    free: int
    seed: int

    @property
    def least(self) -> int:
        """The batch that the graph fixes; 1 where it fixes none."""
        shape = self.lead.spec.shape
        return shape[0] if shape and isinstance(shape[0], int) else 1

    def shape(self, reading: Reading, count: int | None = None) -> list[int]:
        """What an array for an input measures; the count of samples is the frame's by default."""
        count = self.count if count is None else count
        specs = [r.spec for r in self.readings]
        shape = shape_of(reading.spec, dict.fromkeys(batch_symbols(specs), count), count, self.free)
        batch = self.lead.spec.shape[:1]
        if shape and (reading is self.lead or (reading.spec.shape[:1] == batch and isinstance(batch[0], int))):
            shape[0] = count
        return shape

    def with_lead(self, array: NDArray[Any]) -> Calibration:
        """Inputs of which the leading one is ``array``; the others have as many samples."""
        random = np.random.default_rng(self.seed)
        arrays = {
            r.spec.name: array if r is self.lead else drawn(r, self.shape(r, len(array) if array.ndim else 1), random)
            for r in self.readings
        }
        return load(arrays, [r.spec for r in self.readings])

    def plain(self, count: int | None = None) -> Calibration:
        """Inputs without structure."""
        return self.with_lead(drawn(self.lead, self.shape(self.lead, count), np.random.default_rng((self.seed, 1))))


def framed(subject: Subject, samples: int | None, seed: int) -> Frame:
    """The frame that the model runs in; InputError where it takes nothing of what is tried."""
    readings = subject.readings
    if not readings:
        raise InputError(f"{subject.label}: has no inputs, so there is nothing to synthesise")
    if samples is not None and samples < 1:
        raise InputError(f"{subject.label}: samples is {samples}; expected 1 or more")
    lead = next((r for r in readings if r.kind in SAMPLES), readings[0])
    open_ended = any(not isinstance(n, int) for r in readings for n in r.spec.shape[1:])
    first: InputError | None = None
    for free in LENGTHS.get(lead.kind, OTHER_LENGTHS) if open_ended else (1,):
        frame = Frame(readings, lead, 1, free, seed)
        least = frame.least
        try:
            subject.outputs(next(frame.plain(2 * least).batches(2 * least)))
        except InputError as error:
            first = first or error
            continue
        each = sum(math.prod(frame.shape(r, 1)) * r.spec.dtype.itemsize for r in readings)
        most = max(2 * least, BYTES // max(1, each))
        wanted = samples or min(SAMPLES.get(lead.kind, OTHER_SAMPLES), most)
        return Frame(readings, lead, -(-wanted // least) * least, free, seed)
    raise InputError(f"{subject.label}: calibration inputs cannot be synthesised, give --calib: {first}") from first


def drawn(reading: Reading, shape: list[int], random: np.random.Generator) -> NDArray[Any]:
    """Values for an input without structure, in its type: see :class:`Reading` for the kinds."""
    kind, dtype = reading.kind, reading.spec.dtype
    if dtype.kind not in "iubf" or dtype.name == "bfloat16":
        raise InputError(f"cannot synthesise the input {reading.spec}; give calibration inputs")
    if kind == "ones":
        return np.ones(shape, dtype)
    if kind == "zeros":
        return np.zeros(shape, dtype)
    if kind == "positions":
        return np.broadcast_to(np.arange(shape[-1]) % reading.limit, shape).astype(dtype)
    if kind == "sound":
        return sounds(math.prod(shape[:-1]), shape[-1], random).reshape(shape).astype(dtype)
    if is_float(dtype):
        return np.asarray(random.standard_normal(shape)).astype(dtype)
    return np.asarray(random.integers(0, reading.limit, shape)).astype(dtype)


def described(frame: Frame, lead: str | None = None) -> str:
    """What every input is filled with; the leading one, where that is said already, without its reason."""
    other = [r for r in frame.readings if lead is None or r is not frame.lead]
    rest = ", ".join(f"{PLAIN[r.kind]} for {r.spec.name} ({r.why})" for r in other)
    if lead is None:
        return f"{frame.count} samples of {rest}"
    return f"{lead}; {rest}" if rest else lead


PLAIN = {
    "picture": "standard normal numbers",
    "tokens": "uniformly random tokens",
    "positions": "positions 0, 1, 2 and so on",
    "sound": "bursts of 1/f noise",
    "ones": "ones",
    "zeros": "zeros",
    "bits": "zeros and ones",
    "numbers": "standard normal numbers",
}
