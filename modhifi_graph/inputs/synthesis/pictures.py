"""Pictures for a network: painted, normalised as it expects them, bred for its classes, matched to its batch norms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modhifi_graph.inputs.calibration import Calibration
from modhifi_graph.inputs.synthesis import matching
from modhifi_graph.inputs.synthesis.breeding import GENERATIONS, bred, information
from modhifi_graph.inputs.synthesis.dead_leaves import photographs
from modhifi_graph.inputs.synthesis.frame import Frame
from modhifi_graph.inputs.synthesis.normalisations import BYTES, Normalisation, conventions
from modhifi_graph.inputs.synthesis.subject import Subject
from modhifi_graph.progress import Progress

Floats = NDArray[np.float32]

TRIED = 300
"""Pictures on which normalisations are compared."""
WORK = 2e12
"""Multiply-accumulates that breeding may take; there are fewer generations, or none, where that would be more."""
POOL = 1.5
"""Where there are batch norms, so many pictures are made for every one that is then chosen."""
OUTLIER = 9.0
"""Mean squares beyond this many times what a norm remembers count as this: one picture should not be chosen to undo another."""


def made(subject: Subject, frame: Frame, progress: Progress) -> tuple[NDArray[Any], str]:
    """As many pictures as the frame has samples, as the model takes them, and what they are."""
    random = np.random.default_rng(frame.seed)
    axis, shape = frame.lead.axis, frame.shape(frame.lead)
    height, width = (shape[2], shape[3]) if axis == 1 else (shape[1], shape[2])
    count = int(frame.count * (POOL if subject.norms else 1)) // frame.least * frame.least
    pictures = photographs(count, height, width, shape[axis], random)
    progress("synthesise", 1, GENERATIONS + 2)
    normalisation, how = _normalisation(subject, frame, pictures[:TRIED])

    def fed(some: Floats) -> Calibration:
        return frame.with_lead(_as_fed(some, normalisation, frame))

    notes = [f"{frame.count} pictures of overlapping textured shapes", how]
    p = np.zeros((count, 0), np.float32)
    generations = min(GENERATIONS, int(WORK / (subject.work * count)))
    if subject.scores is not None and generations:
        pictures, p = bred(
            pictures,
            lambda some: subject.probabilities(fed(some)),
            random,
            generations=generations,
            progress=lambda done, total: progress("synthesise", 1 + done, total + 2),
        )
        known, most = information(p), np.log(p.shape[1])
        notes.append(f"bred for {generations} generations to look like every class ({known:.2f} of {most:.2f} nats)")
    if subject.norms:
        chosen, note = _matching(subject, subject.moments(fed(pictures)), p, frame.count)
        pictures = pictures[chosen]
        notes.append(note)
    progress("synthesise", GENERATIONS + 2, GENERATIONS + 2)
    return _as_fed(pictures, normalisation, frame), ", ".join(notes)


def _normalisation(subject: Subject, frame: Frame, pictures: Floats) -> tuple[Normalisation, str]:
    """The convention under which the network behaves most as on photographs, and why it was taken."""
    if frame.lead.spec.dtype.kind == "u":
        return BYTES, "pixels of 0 to 255"
    candidates = conventions(pictures.shape[1])
    if not subject.norms and subject.scores is None:
        return candidates[0], f"normalised to {candidates[0].name}, the most common convention"
    some = pictures[: max(frame.least, len(pictures) // frame.least * frame.least)]
    costs = []
    for candidate in candidates:
        data = frame.with_lead(_as_fed(some, candidate, frame))
        if subject.norms:
            cost = matching.discrepancy(subject.norms, subject.moments(data))
        else:
            cost = -information(subject.probabilities(data))
        costs.append(cost if np.isfinite(cost) else np.inf)
    best = candidates[int(np.argmin(costs))]
    reason = "as its batch norms remember" if subject.norms else "under which it tells most of them apart"
    return best, f"normalised to {best.name}, {reason}"


def _matching(subject: Subject, found: Floats, p: Floats, count: int) -> tuple[NDArray[np.int64], str]:
    """Those that together are closest to what batch norms remember, and are taken for every class equally often."""
    norms = subject.norms
    weights = np.concatenate([np.full(2 * len(n.mean), (len(n.mean) * len(norms)) ** -0.5, np.float32) for n in norms])
    features, target = np.minimum(found, OUTLIER) * weights, matching.targets(norms) * weights
    if p.shape[1]:
        features = np.concatenate([features, np.eye(p.shape[1], dtype=np.float32)[p.argmax(1)]], 1)
        target = np.concatenate([target, np.full(p.shape[1], 1 / p.shape[1], np.float32)])
    chosen = matching.herd(features, target, count)
    before, after = matching.discrepancy(norms, found), matching.discrepancy(norms, found[chosen])
    return chosen, f"chosen to match its {len(norms)} batch norms (divergence {before:.3f}, then {after:.3f})"


def _as_fed(pictures: Floats, normalisation: Normalisation, frame: Frame) -> NDArray[Any]:
    """Pixels in [0, 1], channels first, in the range, layout and type of the input."""
    fed = normalisation(pictures)
    dtype = frame.lead.spec.dtype
    fed = np.rint(fed) if dtype.kind == "u" else fed
    return np.ascontiguousarray(fed if frame.lead.axis == 1 else np.moveaxis(fed, 1, 3)).astype(dtype)
