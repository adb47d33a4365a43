"""Greedy removal by block OBS: at every step the component whose loss least squares repairs best.

With ``H = (C + lambda I)^-1`` over the inputs that are left, dropping the inputs P of one component and refitting all others
costs exactly ``tr(W[:, P] H[P, P]^-1 W[:, P]^T)`` (optimal brain surgeon, Hassibi and Stork 1993, by blocks as in Frantar et
al. 2022), after which ``W -= W[:, P] H[P, P]^-1 H[P, :]`` and H loses P by a Schur complement.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch

from modhifi_graph.fidelity.ridge import damped_inverse


@dataclass
class Eliminator:
    """One consumer with the components of one group being removed from its input.

    Attributes
    ----------
    weight : W of every part, shape (G, o, p); refitted in place as components go.
    inverse : H, shape (G, p, p).
    blocks : for each component its input positions, shape (components, block).
    scale : what one unit of squared error of this consumer counts for.
    """

    weight: torch.Tensor
    inverse: torch.Tensor
    blocks: torch.Tensor
    scale: float

    @classmethod
    def of(
        cls, weight: torch.Tensor, covariance: torch.Tensor, blocks: torch.Tensor, scale: float, ridge: float
    ) -> Eliminator:
        """``covariance`` is C, shape (G, p, p); ``ridge`` is relative to its mean diagonal."""
        return cls(weight.clone(), damped_inverse(covariance, ridge), blocks, scale)

    def costs(self) -> torch.Tensor:
        """The exact cost of removing each component next, shape (components,). O(components * block * (block^2 + G o))."""
        b = self.blocks
        inner = self.inverse[:, b[:, :, None], b[:, None, :]]  # G, components, block, block
        outer = self.weight[:, :, b].permute(0, 2, 3, 1)  # G, components, block, o
        solved: torch.Tensor = torch.linalg.solve(inner, outer)
        return (outer * solved).sum((0, 2, 3)).clamp_min(0) * self.scale

    def remove(self, component: int) -> None:
        """Take a component out: refit the weights that are left and shrink H. O(G p (p + o) block)."""
        p = self.blocks[component]
        rows = torch.linalg.solve(self.inverse[:, p[:, None], p], self.inverse[:, p, :])  # G, block, p
        self.weight -= self.weight[:, :, p] @ rows
        self.inverse -= self.inverse[:, :, p] @ rows
        # What is gone must neither be refitted nor cost anything again.
        self.weight[:, :, p] = 0
        self.inverse[:, p, :] = 0
        self.inverse[:, :, p] = 0
        self.inverse[:, p, p] = 1


def removal_order(
    eliminators: list[Eliminator], components: int, stops: Collection[int] = ()
) -> tuple[list[int], list[float], dict[int, list[torch.Tensor]]]:
    """Remove all but one component, cheapest first.

    Returns the order, what each removal cost on top of those before it, and for every count in ``stops`` the refitted
    weights of all consumers after that many removals.
    """
    order: list[int] = []
    paid: list[float] = []
    snapshots: dict[int, list[torch.Tensor]] = {}
    gone = torch.zeros(components, dtype=torch.bool)
    for done in range(1, components):
        cost = torch.stack([e.costs().double().cpu() for e in eliminators]).sum(0)
        cost[gone] = torch.inf
        best = int(cost.argmin())
        order.append(best)
        paid.append(float(cost[best]))
        gone[best] = True
        for e in eliminators:
            e.remove(best)
        if done in stops:
            snapshots[done] = [e.weight.clone() for e in eliminators]
    return order, paid, snapshots
