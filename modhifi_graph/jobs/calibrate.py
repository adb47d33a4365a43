"""Putting calibration inputs together: given, a sample's own, a module's example, or made for the model."""

from __future__ import annotations

from typing import Any

from modhifi_graph.errors import InputError
from modhifi_graph.frontends.frontend import FrontEnd
from modhifi_graph.inputs.batches import Batches, samples_in
from modhifi_graph.inputs.synthesis.synthesised import Synthesised, made_for
from modhifi_graph.options.request import Options
from modhifi_graph.progress import Progress, silent

FEWEST_EXAMPLES = 32
"""An example with fewer samples is there for its shapes, not to calibrate with."""


def calibrated(front: FrontEnd, calib: Any, options: Options, progress: Progress = silent) -> Batches | None:
    """The calibration inputs of a run, in batches; None where there are none and none are needed.

    Raises
    ------
    InputError
        What was given does not fit the model, or nothing can be made for it.
    """
    given = front.own if calib is None else calib
    if given is not None:
        return front.batches(given, options)
    if not options.needs_data:
        return None
    made = _made(front, options, progress)
    if made is not None:
        return Batches(front.fed(made.data), made.samples, "synthesised", made.what, made.warning)
    data = front.batches(None, options)
    if data.samples >= FEWEST_EXAMPLES:
        return data
    few = f"the only calibration inputs were the {data.samples} samples of the example: give more with calib"
    return Batches(data.feeds, data.samples, warning=few)


def _made(front: FrontEnd, options: Options, progress: Progress) -> Synthesised | None:
    """Inputs made for the model; None where its example is better than what can be made."""
    example, names = front.example, [value.name for value in front.program.graph.inputs]
    if example is not None and (samples_in(example) >= FEWEST_EXAMPLES or names != list(example)):
        return None
    try:
        made = made_for(front.subject(options.threads), options.samples, options.seed, progress)
    except InputError:
        if example is None:
            raise
        return None
    return made if made.natural or example is None else None
