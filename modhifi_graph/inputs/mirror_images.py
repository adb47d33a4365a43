"""Mirror images beside the calibration pictures: twice as much to refit on, where there is little.

What a refit has not seen it keeps only as far as the weights do, and late layers see few positions of a small picture. A
mirrored photograph is as good a photograph, and no label is needed to use it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from modhifi_graph.graph import Graph
from modhifi_graph.inputs.batches import Batches
from modhifi_graph.inputs.input_kinds import Reading, read
from modhifi_graph.interface import Feeds

COLOURED = 3
"""So many channels make a picture a photograph; what is grey may be writing."""

SCARCE = 1 << 22
"""Pictures that hold fewer pixels than this, all together, are mirrored by default."""


def with_mirrors(data: Batches, graph: Graph, wanted: bool | None) -> Batches:
    """The calibration inputs and, after them, the same with their pictures mirrored left to right.

    Parameters
    ----------
    wanted : whether to; None for photographs of fewer than :data:`SCARCE` pixels.
    """
    pictures = {reading.spec.name: reading for reading in read(graph) if reading.kind == "picture"}
    if not pictures or not (_pays(data.feeds, pictures) if wanted is None else wanted):
        return data
    turned = [{name: _mirrored(a, pictures.get(name)) for name, a in feed.items()} for feed in data.feeds]
    return dataclasses.replace(data, feeds=[*data.feeds, *turned], mirrored=True)


def _pays(feeds: Sequence[Feeds], pictures: Mapping[str, Reading]) -> bool:
    """Whether there are photographs, and few."""
    shapes = [(feed[name].shape, reading) for feed in feeds for name, reading in pictures.items()]
    return (
        all(shape[r.axis] == COLOURED for shape, r in shapes)
        and sum(math.prod(shape) // COLOURED for shape, _ in shapes) < SCARCE
    )


def _mirrored(array: Any, reading: Reading | None) -> Any:
    """An input with its last spatial axis reversed; any other input as it is."""
    if reading is None:
        return array
    width = 3 if reading.axis == 1 else 2
    return array.flip(width) if isinstance(array, torch.Tensor) else np.ascontiguousarray(np.flip(array, width))
