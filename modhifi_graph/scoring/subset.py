"""Subset Fidelity, to be asked for and searched: the class that users hold.

The formula and its three readings are in :mod:`modhifi_graph.scoring.reconstruction`, the searches in
:mod:`modhifi_graph.scoring.search`.
"""

from __future__ import annotations

from dataclasses import dataclass

from modhifi_graph.errors import InputError
from modhifi_graph.scoring import search
from modhifi_graph.scoring.reconstruction import Reconstruction, smallest


@dataclass(frozen=True)
class Subset:
    """Some components, in ascending order, and their Subset Fidelity."""

    components: tuple[int, ...]
    fidelity: float


class SubsetFidelity(Reconstruction):
    """The Subset Fidelity of any set of components of one layer, or of several layers that read the same components.

    Make one with :meth:`of`, :meth:`shared` or :meth:`least_squares`.

    Attributes
    ----------
    weight : maps ``y = W x``, one for every output channel of :meth:`of`, shape (G, o, p), float64.
    covariance : of ``x``, shape (G, p, p), float64.
    blocks : the inputs that each component owns in every map, shape (components, block).

    Examples
    --------
    >>> fs = SubsetFidelity.of(np.ones((1, 3)), np.diag([6.0, 3.0, 1.0]))
    >>> round(fs.fidelity([0, 2]), 6)
    0.7
    >>> fs.hifi_set(0.85).components
    (0, 1)
    """

    def order(self, method: str = "forward") -> tuple[int, ...]:
        """All components, best first, by a method whose sets are nested: forward, backward or singletons."""
        return search.order(self, method)

    def search(self, k: int, method: str = "exchange", *, trials: int = 1000, seed: int = 0) -> Subset:
        """A set of k components with high fidelity: the k-MFS, or near it.

        Parameters
        ----------
        k : int, 1 to components.
        method : str, default "exchange"
            ``exchange`` (from these and from random sets, improved one exchange at a time; within 1 % of the k-MFS wherever
            that was enumerated), ``forward`` (greedy), ``backward`` (greedy removal, optimal brain surgeon), ``singletons``
            (the best k alone; exact where contributions are uncorrelated), ``random`` (Monte Carlo) or ``exhaustive`` (the
            k-MFS itself).
        trials, seed : how many random sets, and of which seed (that of the random starts of ``exchange`` too).
        """
        if not 1 <= k <= self.components:
            raise InputError(f"k is {k}; expected 1 to {self.components}, the number of components")
        found = tuple(sorted(search.best(self, k, method, trials, seed)))
        return Subset(found, self.fidelity(found))

    def hifi_set(self, eta: float, method: str = "forward") -> Subset:
        """The smallest set with FS >= ``eta`` (0 to 1) that the method finds: a (k, eta)-HiFi set of k components."""
        if not 0 <= eta <= 1:
            raise InputError(f"eta is {eta:g}; expected 0 to 1")
        if method in search.NESTED:
            order = self.order(method)
            k = smallest(self.curve(order), eta)
            return Subset(tuple(sorted(order[:k])), self.fidelity(order[:k]))
        sets = (self.search(k, method) for k in range(1, self.components))
        return next((found for found in sets if found.fidelity >= eta), self.search(self.components, "forward"))
