"""Calibration inputs for a model of which nothing but the model is at hand."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modhifi_graph.files import atomic_write
from modhifi_graph.inputs.calibration import Calibration
from modhifi_graph.inputs.synthesis import pictures
from modhifi_graph.inputs.synthesis.frame import described, framed
from modhifi_graph.inputs.synthesis.language import spoken
from modhifi_graph.inputs.synthesis.subject import Subject
from modhifi_graph.progress import Progress, silent

COSTS = {
    "picture": "on CIFAR-10 ResNets at 0.69 of the MACs such pictures cost 0.5 to 1.5 points of accuracy against real ones",
    "language": "on a small language model such text costs 1 to 2 % of perplexity",
    "other": "inputs without structure can cost most of the accuracy (noise for pictures: 30 points)",
}
"""What was measured against real inputs, for the report."""


@dataclass(frozen=True)
class Synthesised:
    """Inputs that were made, and how.

    Attributes
    ----------
    data : the inputs, by name.
    what : what they are.
    cost : what calibrating on such inputs usually costs.
    natural : whether they resemble what the model was trained on: pictures, its own text, sound.
    """

    data: Calibration
    what: str
    cost: str
    natural: bool

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        return self.data.arrays

    @property
    def samples(self) -> int:
        return self.data.samples

    @property
    def warning(self) -> str:
        made = f"no calibration inputs were given, so they were synthesised: {self.what}"
        return f"{made}; {self.cost}; give real ones if you can"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .npz that ``--calib`` takes."""
        with atomic_write(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez(file, **self.arrays)  # type: ignore[arg-type]


def made_for(subject: Subject, samples: int | None, seed: int, progress: Progress = silent) -> Synthesised:
    """Inputs for a model that has been opened; see :func:`modhifi_graph.synthesise`."""
    frame = framed(subject, samples, seed)
    lead = frame.lead
    if lead.kind == "picture":
        array, what = pictures.made(subject, frame, progress)
        return Synthesised(frame.with_lead(array), described(frame, what), COSTS["picture"], True)
    if lead.kind == "tokens" and (found := spoken(subject, frame, samples, progress)) is not None:
        frame, ids = found
        what = f"{frame.count} sequences of {frame.free} tokens that the model sampled from itself at temperature 1"
        data = frame.with_lead(ids.astype(lead.spec.dtype))
        return Synthesised(data, described(frame, what), COSTS["language"], True)
    return Synthesised(frame.plain(), described(frame), COSTS["other"], lead.kind == "sound")
