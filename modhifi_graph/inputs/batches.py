"""Calibration inputs in batches: how they are cut, how many fit, and where they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modhifi_graph.interface import Feeds

if TYPE_CHECKING:
    import torch

BATCH_BYTES = 1 << 28
"""What the activations of one batch may take, on the CPU."""

GPU_BATCH_BYTES = 1 << 32
"""The same on a GPU; less where less than four times as much is free."""

Axes = Mapping[str, int | None]
"""By the name of an input the axis along which its samples lie; None for a constant, which every batch repeats."""


@dataclass(frozen=True)
class Batches:
    """Calibration inputs, in batches, how many samples they hold, and where they come from.

    ``source`` is "given" or "synthesised", ``what`` says what was synthesised, ``warning`` what the user should know of it, and
    ``mirrored`` whether each picture comes with its mirror image, which does not count as a sample.
    """

    feeds: Sequence[Feeds]
    samples: int
    source: str = "given"
    what: str = ""
    warning: str = ""
    mirrored: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"source": self.source, "what": self.what, "samples": self.samples, "mirrored": self.mirrored}


def samples_in(feed: Feeds) -> int:
    """How many samples a batch holds: the greatest first length."""
    return max((len(value) for value in feed.values() if getattr(value, "ndim", 0)), default=1)


def taken(feed: Feeds, axes: Axes, part: slice | NDArray[np.int64]) -> Feeds:
    """Some of a batch's samples, without a copy where they are a slice."""
    return {
        name: value if (axis := axes[name]) is None else value[(slice(None),) * axis + (part,)]
        for name, value in feed.items()
    }


def slices(samples: int, step: int, whole: bool = False) -> Iterator[slice]:
    """One after another ``step`` samples; a remainder comes last, or is left out where batches must be ``whole``."""
    return (slice(start, start + step) for start in range(0, samples - samples % step if whole else samples, step))


def leading(feed: Feeds) -> tuple[Axes, int] | None:
    """The first axis of all that has one, and its length; None where lengths differ or nothing has an axis."""
    axes = {name: 0 if getattr(value, "ndim", 0) else None for name, value in feed.items()}
    lengths = {len(feed[name]) for name, axis in axes.items() if axis is not None}
    return (axes, lengths.pop()) if len(lengths) == 1 else None


def cut(feed: Feeds, step: int, whole: bool = False) -> Iterator[Feeds]:
    """One batch in batches of ``step`` samples, where all its arrays have as many; otherwise as it is."""
    found = leading(feed)
    if found is None or found[1] <= step:
        yield feed
        return
    axes, count = found
    yield from (taken(feed, axes, part) for part in slices(count, step, whole))


def first_samples(batches: Sequence[Feeds], samples: int) -> list[Feeds]:
    """The first batches that hold ``samples`` samples; one that is too large is cut where its arrays all allow it."""
    found: list[Feeds] = []
    for batch in batches:
        found.append(next(cut(batch, samples)))
        samples -= samples_in(batch)
        if samples <= 0:
            break
    return found


def exactly(batches: Sequence[Feeds], samples: int) -> Feeds | None:
    """The first so many samples of the first batch, where every array holds as many; None otherwise."""
    found = leading(batches[0]) if batches else None
    if found is None or None in found[0].values() or found[1] < max(1, samples):
        return None
    return taken(batches[0], found[0], slice(samples))


def subset(feeds: Sequence[Feeds], samples: int | None, seed: int, whole: bool) -> list[Feeds]:
    """Random batches that hold so many samples, the last of them cut unless batches must stay ``whole``."""
    if samples is None:
        return list(feeds)
    chosen: dict[int, Feeds] = {}
    for number in np.random.default_rng(seed).permutation(len(feeds)).tolist():
        left = samples - sum(map(samples_in, chosen.values()))
        if left > 0:
            chosen[number] = feeds[number] if whole else next(cut(feeds[number], left))
    return [chosen[number] for number in sorted(chosen)]


def batch_bytes(device: torch.device) -> int:
    """How many bytes the activations of one batch may take: on a GPU at most a quarter of what is free."""
    if device.type != "cuda":
        return BATCH_BYTES
    from torch.cuda import mem_get_info

    free, _ = mem_get_info(device)
    return min(GPU_BATCH_BYTES, free // 4)
