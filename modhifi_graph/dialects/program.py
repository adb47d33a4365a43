"""What analyses ask of a model, whatever its dialect: its graph, its values on given inputs, and other constants.

A :class:`Program` is a model that has been lifted. A :class:`Stepper` executes one in steps: run up to some values, look at
them, change a constant, go on. What later steps still need is kept, for every batch; what nobody needs any more is dropped.
Where a frontier would be too wide to keep, the one before it stays, and the next step starts there again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from modhifi_graph.graph import Graph, Op
from modhifi_graph.interface import Feeds

Runner = Callable[[Feeds], dict[str, torch.Tensor]]
"""Gives the named values of one batch."""

Weights = tuple[int, np.ndarray, np.ndarray]
"""The input slot of an op, another weight for it, and what to add to the output."""

KEPT_BYTES = 1 << 31
"""A frontier that would take more than this, over all batches, is kept only if it takes less than the one before it."""


class Program(ABC):
    """A lifted model."""

    graph: Graph

    @abstractmethod
    def stepper(self, batches: Sequence[Feeds], wanted: Iterable[str] = (), threads: int = 0) -> Stepper:
        """Run this model on ``batches`` in steps; ``wanted`` names what will be visited, each as often as it will be."""

    @abstractmethod
    def runner(self, names: Sequence[str], threads: int = 0) -> Runner:
        """Made once, it runs one batch after another: the named values, graph inputs included."""

    def results(
        self, batches: Iterable[Feeds], names: Sequence[str], threads: int = 0
    ) -> Iterator[dict[str, torch.Tensor]]:
        """The named values of every batch in turn."""
        run = self.runner(names, threads)
        return (run(batch) for batch in batches)

    @abstractmethod
    def assign(self, op: Op, slot: int, array: np.ndarray, stepper: Stepper | None = None) -> None:
        """Give an op a constant of its own, in the model and in a run of it that is under way."""


@dataclass(frozen=True, eq=False)
class Mark:
    """Where a run stood: before which node, and what it held of every batch."""

    position: int
    live: tuple[Feeds, ...]


class Stepper(ABC):
    """Runs a model on batches, step by step in the order of its nodes.

    Parameters
    ----------
    made : for every value, the position of the node that makes it.
    last_use : for every value, the position of the last node that reads it.
    """

    def __init__(
        self, made: Mapping[str, int], last_use: Mapping[str, int], batches: Sequence[Feeds], wanted: Iterable[str]
    ) -> None:
        self._next = 0
        self._live: list[Feeds] = [dict(batch) for batch in batches]
        self._made, self._last_use = made, last_use
        self._wanted = Counter(wanted)

    @property
    def batches(self) -> int:
        return len(self._live)

    def visit(self, names: Sequence[str], stay: bool = False) -> Iterator[list[torch.Tensor]]:
        """The named values of every batch in turn, running as many nodes as that takes.

        A batch's values are dropped after its turn unless a later node or visit needs them, so that no more than one batch
        of what is only looked at is ever held. The iterator must be exhausted before the next visit. With ``stay`` the run
        then stands where it stood before.
        """
        before = self.mark() if stay else None  # a mark keeps in memory what it holds
        end = max([self._next, *(self._made[n] + 1 for n in names if n in self._made)])
        for found in self._turns(end, names):
            yield [tensor(value) for value in found]
        if before is not None:
            self.rewind(before)

    def advance(self, name: str) -> None:
        """Run every node before the one that makes ``name``, unless what that leaves is too much to keep."""
        position = self._made[name]
        if position > self._next:
            for _ in self._turns(position, []):
                pass

    def mark(self) -> Mark:
        """Where the run stands, to come back to; what it holds stays in memory as long as the mark does."""
        return Mark(self._next, tuple(self._live))

    def rewind(self, mark: Mark) -> None:
        """Go back to a mark. What runs again from there reads constants as they are now."""
        self._next, self._live = mark.position, list(mark.live)

    @abstractmethod
    def outcome(
        self, outputs: Sequence[str], weights: Mapping[str, Weights], constants: Mapping[str, np.ndarray] | None = None
    ) -> list[dict[str, torch.Tensor]]:
        """What the rest of the model would compute if some ops had other weights; nothing is changed.

        ``weights`` maps the name of an op's output to its change; ``constants`` the name of a value that has not been
        computed yet to what takes its place, broadcast to its shape. An output that has been asked for is kept when its node
        runs: other outcomes will be compared with it.
        """

    @abstractmethod
    def _segment(self, end: int, visited: set[str]) -> Callable[[Feeds], Feeds]:
        """Runs the nodes up to ``end`` on what is held of one batch; gives what is visited or needed from there on."""

    def _turns(self, end: int, names: Sequence[str]) -> Iterator[list[Any]]:
        run = self._segment(end, set(names))
        self._wanted.subtract(names)
        start, moves = self._next, True
        for number, batch in enumerate(self._live):
            found = {**batch, **run(batch)}
            kept = {name: found[name] for name in found if self._is_needed(name, end)}
            if number == 0:
                size = _bytes(kept)
                moves = size * len(self._live) <= KEPT_BYTES or size <= _bytes(batch)
            yield [found[name] for name in names]
            self._live[number] = kept if moves else {n: a for n, a in batch.items() if self._is_needed(n, start)}
        if moves:
            self._next = end

    def _is_needed(self, name: str, position: int) -> bool:
        """Whether a node from ``position`` on, or a visit to come, reads the value."""
        return self._last_use.get(name, -1) >= position or self._wanted[name] > 0


def tensor(value: Any) -> torch.Tensor:
    """An array as a tensor, without a copy."""
    return value if isinstance(value, torch.Tensor) else torch.from_numpy(np.asarray(value))


def _bytes(values: Mapping[str, Any]) -> int:
    return sum(getattr(value, "nbytes", 0) for value in values.values())
