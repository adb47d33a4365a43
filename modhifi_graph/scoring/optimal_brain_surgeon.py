"""Greedy removal by block OBS: at every step the component whose loss least squares repairs best.

With ``H = (C + lambda I)^-1`` over the inputs that are left, dropping the inputs P of one component and refitting all others
costs exactly ``tr(W[:, P] H[P, P]^-1 W[:, P]^T)`` (optimal brain surgeon, Hassibi and Stork 1993, by blocks as in Frantar et
al. 2022), after which ``W -= W[:, P] H[P, P]^-1 H[P, :]`` and H loses P by a Schur complement.

A cost needs only the diagonal blocks of H and of ``W^T W``, so only those follow every removal. The rest of W and H follows
in one product for many removals, which is exact, and faster by as much as a matrix product is than reading all of H again.
"""

from __future__ import annotations

from collections.abc import Collection

import torch

from modhifi_graph.observe.ridge import damped_inverse

PENDING = 128
"""So many inputs are removed before W and H are brought up to date."""


class Eliminator:
    """One consumer with the components of one group being removed from its input.

    Parameters
    ----------
    weight : W of every part, shape (G, o, p).
    covariance : C, shape (G, p, p).
    blocks : for each component its input positions, shape (components, block).
    scale : what one unit of squared error of this consumer counts for.
    ridge : damping relative to the mean diagonal of C.
    """

    # What is pending: [W; H] still lacks - columns rows.
    _columns: torch.Tensor
    _rows: torch.Tensor

    def __init__(
        self, weight: torch.Tensor, covariance: torch.Tensor, blocks: torch.Tensor, scale: float, ridge: float
    ) -> None:
        self._shape, self._outputs = weight.shape, weight.shape[1]
        self._blocks, self._scale = blocks, scale
        self._left = torch.arange(weight.shape[2], device=blocks.device)
        self._alive = torch.arange(len(blocks), device=blocks.device)
        # W above H: a removal takes multiples of the same rows from both.
        self._stacked = torch.cat([weight, damped_inverse(covariance, ridge)], 1)
        self._restart()

    def costs(self) -> torch.Tensor:
        """The exact cost of removing each component next, shape (components,); infinite once it is gone.

        O(G components block^3).
        """
        each: torch.Tensor = torch.linalg.solve(self._inner, self._gram)
        found = each.diagonal(dim1=-2, dim2=-1).sum((0, -1)).clamp_min(0) * self._scale
        costs = each.new_full((len(self._blocks),), torch.inf)
        costs[self._alive] = found.masked_fill(self._gone, torch.inf)
        return costs

    def remove(self, component: int) -> None:
        """Take a component out. O(G p (o + PENDING) block), and O(G p (p + o) PENDING) once in PENDING inputs."""
        here = self._alive == component
        where = self._places[here][0]
        columns = self._stacked[:, :, where] - self._columns @ self._rows[:, :, where]
        inverse = columns[:, self._outputs :]
        rows = torch.linalg.solve(inverse[:, where], inverse.transpose(1, 2))  # H[P, P]^-1 H[P, :]
        self._update_blocks(columns, rows)
        # What is left of its blocks is zero but for rounding; costs must still be able to solve with them.
        self._inner[:, here] = torch.eye(len(where), dtype=rows.dtype, device=rows.device)
        self._gone |= here
        self._columns, self._rows = torch.cat([self._columns, columns], 2), torch.cat([self._rows, rows], 1)
        if self._rows.shape[1] >= PENDING:
            self._catch_up()

    @property
    def weight(self) -> torch.Tensor:
        """W as refitted so far, shape (G, o, p); zero where inputs are gone."""
        self._catch_up()
        result = self._stacked.new_zeros(self._shape)
        result[:, :, self._left] = self._stacked[:, : self._outputs]
        return result

    def _update_blocks(self, columns: torch.Tensor, rows: torch.Tensor) -> None:
        """Bring the diagonal blocks of H and of W^T W up to date with ``[W; H] -= columns rows``."""
        weight, inverse = columns[:, : self._outputs], columns[:, self._outputs :]
        outputs = slice(0, self._outputs)
        against = weight.transpose(1, 2) @ self._stacked[:, outputs]  # W[:, P]^T W
        against -= weight.transpose(1, 2) @ self._columns[:, outputs] @ self._rows
        against -= weight.transpose(1, 2) @ weight @ rows / 2
        rows, against = (r[:, :, self._places].transpose(1, 2) for r in (rows, against))  # G, components, block, block
        self._inner -= inverse[:, self._places] @ rows
        change = rows.transpose(-1, -2) @ against
        self._gram -= change + change.transpose(-1, -2)

    def _catch_up(self) -> None:
        """Bring all of W and H up to date, and drop what is gone from both."""
        if not self._rows.shape[1]:
            return
        self._stacked.baddbmm_(self._columns, self._rows, alpha=-1)
        stays = torch.ones(len(self._left), dtype=torch.bool, device=self._left.device)
        stays[self._places[self._gone].reshape(-1)] = False
        kept = stays.nonzero()[:, 0]
        rows = torch.cat([torch.arange(self._outputs, device=kept.device), self._outputs + kept])
        self._stacked = self._stacked[:, rows[:, None], kept]
        self._left, self._alive = self._left[kept], self._alive[~self._gone]
        self._restart()

    def _restart(self) -> None:
        """Nothing is pending: the diagonal blocks are those of W and H as they are."""
        place = torch.zeros(self._shape[2], dtype=torch.long, device=self._left.device)
        place[self._left] = torch.arange(len(self._left), device=self._left.device)
        self._places = place[self._blocks[self._alive]]
        self._gone = torch.zeros(len(self._alive), dtype=torch.bool, device=self._left.device)
        weight, inverse = self._stacked[:, : self._outputs], self._stacked[:, self._outputs :]
        self._inner = inverse[:, self._places[:, :, None], self._places[:, None, :]]
        own = weight[:, :, self._places].permute(0, 2, 3, 1)  # G, components, block, o
        self._gram = own @ own.transpose(-1, -2)
        self._columns, self._rows = self._stacked[:, :, :0], self._stacked[:, :0]


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
    for done in range(1, components):
        cost = torch.stack([e.costs() for e in eliminators]).sum(0)
        best = int(cost.argmin())
        order.append(best)
        paid.append(float(cost[best]))
        for e in eliminators:
            e.remove(best)
        if done in stops:
            snapshots[done] = [e.weight for e in eliminators]
    return order, paid, snapshots
