"""Calibration inputs made for a model, to look at or to keep."""

from __future__ import annotations

from typing import Any

from modhifi_graph.frontends.choice import opened
from modhifi_graph.inputs.synthesis.synthesised import Synthesised, made_for
from modhifi_graph.options.request import Options
from modhifi_graph.plan import Plan


def synthesise(
    model: Any,
    inputs: Any = None,
    *,
    samples: int | None = None,
    seed: int = 0,
    threads: int = 0,
    device: str | None = None,
) -> Synthesised:
    """Make calibration inputs for a model, as :func:`modhifi_graph.optimize` does where none are given.

    Parameters
    ----------
    model, inputs : as for :func:`modhifi_graph.optimize`; ``inputs`` are the example inputs of a module.
    samples : int, optional
        How many. By default 1,000 pictures, 48 sequences of a language model (128 of another model of tokens), 256 sounds, or
        4,096 of anything else, and fewer where that would be more than 256 MiB.
    seed : int, default 0
        The same seed gives the same bytes.

    Raises
    ------
    InputError
        The model cannot be used, or takes nothing of what was tried.
    """
    options = Options(plan=Plan(), samples=samples, seed=seed, threads=threads, device=device)
    return made_for(opened(model, inputs, options).subject(threads), samples, seed)
