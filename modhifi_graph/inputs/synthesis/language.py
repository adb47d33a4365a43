"""Text for a model of tokens: its own, where it is a language model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modhifi_graph.inputs.synthesis.frame import Frame
from modhifi_graph.inputs.synthesis.sequences import SAMPLES, affordable, beginnings, is_causal, sampled
from modhifi_graph.inputs.synthesis.subject import Subject
from modhifi_graph.progress import Progress

BYTES = 1 << 28
"""Logits of one run take no more than this."""
ASIDES = ("ones", "zeros", "positions")


def spoken(
    subject: Subject, frame: Frame, samples: int | None, progress: Progress
) -> tuple[Frame, NDArray[np.int64]] | None:
    """Sequences that a causal language model samples from itself, and their frame; None where it is none.

    It is one where ids (samples, length) are its only input but for masks and positions, an output (samples, length,
    vocabulary) has as many logits as the table of embeddings has rows, and later tokens do not change earlier ones' logits.
    """
    lead, shape = frame.lead, frame.lead.spec.shape
    output = next((value for value in subject.program.graph.float_outputs if value.rank == 3), None)
    if output is None or len(shape) != 2 or any(r.kind not in ASIDES for r in frame.readings if r is not lead):
        return None
    fixed = isinstance(shape[1], int)
    length = shape[1] if isinstance(shape[1], int) else frame.free
    run = subject.outputs

    def logits(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        # A graph that fixes the batch or the length reads more: other rows, and later tokens, which do not matter before them.
        rows, given = ids.shape
        ids = np.pad(ids, ((0, -rows % frame.least), (0, length - given if fixed else 0)))
        step = max(1, min(subject.step, BYTES // (4 * lead.limit * ids.shape[1])))
        now = Frame(frame.readings, lead, len(ids), ids.shape[1], frame.seed)
        data = now.with_lead(ids.astype(lead.spec.dtype))
        parts = [run(part)[output.name][:, :given].float().cpu().numpy() for part in data.batches(step)]
        return np.concatenate(parts)[:rows]

    random = np.random.default_rng(frame.seed)
    if not is_causal(logits, lead.limit, length, random):
        return None
    count = -(-(samples or SAMPLES) // frame.least) * frame.least
    length = length if fixed else affordable(length, count, subject.work)
    first = beginnings(logits, lead.limit, count, length, random)
    ids = sampled(logits, first, length, random, lambda done, total: progress("synthesise", done, total))
    return Frame(frame.readings, lead, count, length, frame.seed), ids
