"""What a site of a slim model is of its consumer in the dense one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from modhifi_graph.axes.groups import Groups
from modhifi_graph.axes.layout import Layout, kept
from modhifi_graph.graph import Graph
from modhifi_graph.observe.consumers import Consumer, consumers_of
from modhifi_graph.observe.sites import Site, sites


@dataclass(frozen=True, eq=False)
class Window:
    """A site of a slim model, and which of the dense consumer's numbers it still has.

    Attributes
    ----------
    dense : the consumer in the dense model, of G parts with O outputs and P inputs each.
    parts : the parts that are left, shape (g,).
    rows : the outputs of each that are left, shape (g, o).
    columns : the inputs that are left, sorted, shape (p,).
    """

    site: Site
    dense: Consumer
    parts: np.ndarray
    rows: np.ndarray
    columns: np.ndarray

    def cut(self, array: np.ndarray) -> np.ndarray:
        """What is left of a dense weight (G, O, P) or bias (G, O): shape (g, o, p) or (g, o)."""
        taken: np.ndarray = array[self.parts[:, None], self.rows]
        return taken if taken.ndim == 2 else taken[:, :, self.columns]

    def paste(self, array: np.ndarray, into: np.ndarray) -> None:
        """The inverse of :meth:`cut`, in place."""
        if array.ndim == 2:
            into[self.parts[:, None], self.rows] = array
        else:
            into[self.parts[:, None, None], self.rows[:, :, None], self.columns] = array

    def positions(self, columns: np.ndarray) -> np.ndarray:
        """Where some of the dense inputs, all of which are left, are among those of the slim site."""
        return np.searchsorted(self.columns, columns)


def windows(groups: Groups, slim: Graph, keep: Mapping[Layout, np.ndarray]) -> Iterator[Window]:
    """The sites of a slim model in the order in which it runs, beside the dense consumers of ``groups``."""
    dense = {c.y.name: c for c in consumers_of(groups).values() if isinstance(c, Consumer)}
    for site in sites(groups, slim, keep):
        consumer = dense.get(site.consumer.y.name)
        if consumer is None:
            continue
        if consumer.parts == 1 or consumer.stacked:
            parts = np.arange(consumer.parts)
            rows = np.tile(site.channels, (consumer.parts, 1))
        else:
            parts = kept(groups.coupling.bindings[consumer.op].factors["g"], keep)
            rows = site.channels.reshape(len(parts), -1) % consumer.outputs
        yield Window(site, consumer, parts, rows, with_taps(kept(consumer.contraction.layout, keep), consumer.taps))


def with_taps(channels: np.ndarray, taps: int) -> np.ndarray:
    """The inputs of a consumer that some of its channels hold."""
    return (channels[:, None] * taps + np.arange(taps)).ravel()
