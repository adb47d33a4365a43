"""A layer and what it reads, for the tests of Subset Fidelity."""

from __future__ import annotations

import numpy as np

from modhifi_graph.scoring.subset import SubsetFidelity


class Layer:
    """Correlated inputs (G, rows, p) and weights (G, o, p), with blocks of inputs for each component."""

    def __init__(self, components: int = 5, block: int = 3, parts: int = 1, outputs: int = 4, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        p = components * block
        self.x = random.standard_normal((parts, 400, p)) @ random.standard_normal((parts, p, p))
        self.x += random.standard_normal((parts, 1, p))
        self.weight = random.standard_normal((parts, outputs, p))
        self.blocks = random.permutation(p).reshape(components, block)

    @property
    def second(self) -> np.ndarray:
        return self.x.transpose(0, 2, 1) @ self.x / self.x.shape[1]

    def contributions(self, part: int, channel: int) -> np.ndarray:
        """A_c, shape (rows, components)."""
        return np.stack([self.x[part][:, b] @ self.weight[part, channel, b] for b in self.blocks], 1)

    def made(self, kind: str) -> SubsetFidelity:
        return getattr(SubsetFidelity, kind)(self.weight, self.second, self.blocks)

    def by_channel(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The contributions and the output of every channel."""
        g, o, _ = self.weight.shape
        found = [self.contributions(i, c) for i in range(g) for c in range(o)]
        return [(a, a.sum(1)) for a in found]
