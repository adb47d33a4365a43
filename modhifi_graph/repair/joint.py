"""Joint refitting of a chain of linear maps: what the branch of a block gives to its stream is what counts.

Refitted one by one, every map comes as near as it can to the dense model's values at its own output, and a narrow hidden
layer can do no better than repeat some of the dense one's channels. Refitted together, the channels that are left take over
what the others did. The loss is the squared error at the end of the chain over calibration positions,

    L(W_1, ..., W_n) = E||t - (W_n f_{n-1}(W_{n-1} ... f_1(W_1 x)) + s)||^2,

a nonlinear least-squares problem. It is solved by conjugate directions on the Gauss-Newton model (Nocedal and Wright 2006,
chapters 5 and 10), from the sequential fit on: the residual is carried back through the chain and regressed on what each map
reads, ``D_i = M_i^-1 E[r_i x_i^T] C_i^-1``, and the step is the one that is best to first order at the end of the chain.
``C_i`` is the covariance of what map i reads and ``M_i`` that of white noise carried back to its output: the Kronecker
factors of the normal equations (Martens and Grosse 2015, arXiv 1503.05671). No step is taken that does not lower the error,
and none is kept that does not lower it on batches that are held out: late layers of a small network see too few positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from modhifi_graph.graph import Value
from modhifi_graph.observe.chains import Chain
from modhifi_graph.observe.consumers import Consumer
from modhifi_graph.observe.moments import outer
from modhifi_graph.observe.ridge import damped, solve_right
from modhifi_graph.observe.sites import channel_axis
from modhifi_graph.repair.clipped import wanted
from modhifi_graph.repair.linear_map import LinearMap

STEPS = 15
"""So many steps at most: the first five do most of it."""

HELD_OUT = 8
"""One batch in so many only says when to stop; where there are fewer, their parts do."""

PATIENCE = 3
"""The refit ends after so many steps that bring nothing on what is held out."""

TRIES = 4
"""A step that does not lower the error is cut to a third, so often."""

ENOUGH = 1e-3
"""The refit ends where a step lowers the error by less than this part of it."""

NOISE_RIDGE = 1e-2
"""Damping of M, relative to its mean diagonal: it is a rough model."""

Weights = list[tuple[torch.Tensor, torch.Tensor]]
"""W and b of every map in order, shapes (G, o, p) and (G, o)."""


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch: what the chain reads, what else its activations read, what is added to its output, what is wanted."""

    x: torch.Tensor
    others: Mapping[Value, torch.Tensor]
    stream: torch.Tensor | None
    target: torch.Tensor

    def parts(self, count: int) -> list[Batch]:
        """Cut in so many along the first axis; whole where not all of it is as long there, or too short."""
        streams = [] if self.stream is None else [self.stream]
        if any(t.shape[:1] != self.x.shape[:1] for t in (*self.others.values(), *streams, self.target)):
            return [self]
        if len(self.x) < count:
            return [self]
        cuts = [tensor.tensor_split(count) for tensor in (self.x, self.target, *streams, *self.others.values())]
        return [
            Batch(x, dict(zip(self.others, rest[len(streams) :], strict=True)), rest[0] if streams else None, target)
            for x, target, *rest in zip(*cuts, strict=True)
        ]


def held_out(chain: Chain, batches: Sequence[Batch]) -> tuple[list[Batch], list[Batch]]:
    """What a chain is refitted on, and what it is held against: other samples.

    The second half of the batches may mirror the first (:mod:`modhifi_graph.inputs.mirror_images`): both are split alike.
    """
    found = list(batches)
    if len(found) < HELD_OUT and all(_has_samples_first(site.consumer) for site in chain.sites):
        found = [part for batch in batches for part in batch.parts(HELD_OUT)]
    if len(found) < HELD_OUT:
        return found, []
    half = len(found) // 2 if len(found) % 2 == 0 else len(found)
    aside = {number for number in range(len(found)) if (number % half) % HELD_OUT == min(HELD_OUT, half) - 1}
    return [b for i, b in enumerate(found) if i not in aside], [found[i] for i in sorted(aside)]


def _has_samples_first(consumer: Consumer) -> bool:
    """Whether neither channels nor the matrices of a stack lie along the first axis."""
    rank = consumer.y.rank or 0
    inside = consumer.contraction.axis > 0 and channel_axis(consumer) % max(1, rank) > 0
    return inside and (rank > 3 or not consumer.stacked)


@dataclass(frozen=True, eq=False)
class _Trace:
    """What a forward run of one batch leaves: the input and the slope before every map, and the error at the end."""

    inputs: list[torch.Tensor]
    slopes: list[torch.Tensor]
    residual: torch.Tensor


@dataclass(frozen=True, eq=False)
class Reading:
    """What one map reads: the Cholesky factor of C and the mean; ``intercept`` says whether its bias may move."""

    factor: torch.Tensor
    mean: torch.Tensor
    intercept: bool

    def solve(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The direction that regression gives for sums ``E[r x^T]`` and ``E[r]``."""
        if not self.intercept:
            return solve_right(weight, self.factor), torch.zeros_like(bias)
        found = solve_right(weight - outer(bias, self.mean), self.factor)
        return found, bias - torch.einsum("gop,gp->go", found, self.mean)


class Refit:
    """The chain's loss on some batches, and the steps that lower it.

    Parameters
    ----------
    readings : of every map.
    clip : the bounds beyond which the output of the chain is as good as at them, or None.
    held : batches that only say which of the weights on the way are the best; none by default.
    """

    def __init__(
        self,
        chain: Chain,
        readings: Sequence[Reading],
        batches: Sequence[Batch],
        clip: tuple[float, float] | None,
        held: Sequence[Batch] = (),
    ) -> None:
        self._chain, self._readings, self._batches, self._clip, self._held = chain, readings, batches, clip, held
        self._maps = [LinearMap(site.consumer) for site in chain.sites]
        self._rows = sum(self._maps[-1].channels(batch.target).shape[1] for batch in batches)

    def run(self, weights: Weights, steps: int = STEPS) -> tuple[Weights, list[float]]:
        """Better weights, and the loss before the first step and after each. O(steps rows n o p) for n maps."""
        traces = [self._forward(batch, weights) for batch in self._batches]
        losses, previous = [self._loss(traces)], None
        best, lowest, since = weights, self._held_loss(weights, losses[0]), 0
        for _ in range(steps):
            downhill = self._gradient(traces, weights)
            solved = self._preconditioned(traces, weights, downhill)
            previous = downhill, solved, _conjugate(downhill, solved, previous)
            taken = self._step(traces, weights, previous[2], losses[-1])
            if taken is None:
                break
            weights, traces, loss = taken
            losses.append(loss)
            held, since = self._held_loss(weights, loss), since + 1
            if held < lowest:
                best, lowest, since = weights, held, 0
            if since == PATIENCE or loss > (1 - ENOUGH) * losses[-2]:
                break
        return best, losses

    def _forward(self, batch: Batch, weights: Weights) -> _Trace:
        inputs, slopes, x = [batch.x], list[torch.Tensor](), batch.x
        for i, (weight, bias) in enumerate(weights):
            y = self._affine(i, x, weight, bias)
            if i < len(self._chain.regions):
                x, slope = self._chain.regions[i](y, batch.others)
                inputs.append(x)
                slopes.append(slope)
        if batch.stream is not None:
            y = y + batch.stream
        aim = batch.target if self._clip is None else wanted(y, batch.target, *self._clip)
        return _Trace(inputs, slopes, aim - y)

    def _affine(self, i: int, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        y = self._maps[i].apply(x, weight.to(x))
        return y + self._maps[i].shaped(bias.to(x), y)

    def _loss(self, traces: Sequence[_Trace]) -> float:
        return sum(_dot(trace.residual, trace.residual) for trace in traces) / self._rows

    def _held_loss(self, weights: Weights, loss: float) -> float:
        """The loss on what is held out, up to a factor; where nothing is, that on the rest."""
        return self._loss([self._forward(batch, weights) for batch in self._held]) if self._held else loss

    def _gradient(self, traces: Sequence[_Trace], weights: Weights) -> Weights:
        """Minus half of the slope of the loss: ``E[r_i x_i^T]`` and ``E[r_i]`` of every map."""
        sums = [(torch.zeros_like(w), torch.zeros_like(b)) for w, b in weights]
        for trace in traces:
            back = trace.residual
            for i in reversed(range(len(weights))):
                weight, bias = sums[i]
                bias += self._maps[i].channels(back).sum(1).double() / self._rows
                before, products = self._maps[i].pull(trace.inputs[i], weights[i][0].to(back), back)
                weight += products.double() / self._rows
                if i:
                    back = before * trace.slopes[i - 1]
        return sums

    def _preconditioned(self, traces: Sequence[_Trace], weights: Weights, downhill: Weights) -> Weights:
        """The directions ``M_i^-1 E[r_i x_i^T] C_i^-1``."""
        found: Weights = []
        noise: torch.Tensor | None = None
        for i in reversed(range(len(weights))):
            weight, bias = self._readings[i].solve(*downhill[i])
            if noise is not None:
                blocks = _blocks(noise, *weight.shape[:2])
                factor = torch.linalg.cholesky(damped(blocks, NOISE_RIDGE))
                weight, bias = (
                    torch.cholesky_solve(weight, factor),
                    torch.cholesky_solve(bias[..., None], factor)[..., 0],
                )
            found.append((weight, bias))
            if i:
                noise = self._carried(i, weights[i][0], noise) * self._slopes(traces, i - 1)
        return found[::-1]

    def _carried(self, i: int, weight: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """The covariance over input channels of ``W^T e``, for e of covariance ``noise`` (white if None)."""
        parts, outputs, inputs = weight.shape
        taps = self._maps[i].consumer.taps
        each = weight.reshape(parts, outputs, inputs // taps, taps)
        inner = each if noise is None else torch.einsum("gab,gbct->gact", _blocks(noise, parts, outputs), each)
        found: torch.Tensor = torch.block_diag(*torch.einsum("goct,godt->gcd", each, inner))  # type: ignore[no-untyped-call]
        return found

    def _slopes(self, traces: Sequence[_Trace], i: int) -> torch.Tensor:
        """``E[m m^T]`` of the slopes m after map i, over all its output channels."""
        total: torch.Tensor | None = None
        count = 0
        for trace in traces:
            rows = self._maps[i].channels(trace.slopes[i]).transpose(0, 1).flatten(1)
            product = (rows.T @ rows).double()
            total, count = product if total is None else total + product, count + len(rows)
        assert total is not None
        return total / count

    def _step(
        self, traces: Sequence[_Trace], weights: Weights, direction: Weights, loss: float
    ) -> tuple[Weights, list[_Trace], float] | None:
        """The best step along a direction to first order, cut while it does not lower the loss; None if nothing does."""
        inner = outer = 0.0
        for trace, batch in zip(traces, self._batches, strict=True):
            change = self._change(trace, weights, direction, batch)
            inner += _dot(trace.residual, change)
            # Where the output may be anything beyond a bound, a change costs nothing.
            counts = change if self._clip is None else torch.where(trace.residual == 0, 0.0, change)
            outer += _dot(counts, counts)
        length = inner / max(outer, 1e-30)
        for _ in range(TRIES):
            there = [(w + length * dw, b + length * db) for (w, b), (dw, db) in zip(weights, direction, strict=True)]
            found = [self._forward(batch, there) for batch in self._batches]
            if (lower := self._loss(found)) < loss:
                return there, found, lower
            length /= 3
        return None

    def _change(self, trace: _Trace, weights: Weights, direction: Weights, batch: Batch) -> torch.Tensor:
        """How the output moves along a direction, to first order."""
        moved: torch.Tensor | None = None
        for i, ((weight, _), (turn, shift)) in enumerate(zip(weights, direction, strict=True)):
            change = self._affine(i, trace.inputs[i], turn, shift)
            if moved is not None:
                change = change + self._maps[i].apply(moved, weight.to(moved))
            moved = change * trace.slopes[i] if i < len(trace.slopes) else change
        assert moved is not None
        return moved


def _conjugate(downhill: Weights, solved: Weights, previous: tuple[Weights, Weights, Weights] | None) -> Weights:
    """The next direction (Polak and Ribiere, restarted where it would turn back)."""
    if previous is None:
        return solved
    before, solved_before, direction = previous
    turned = [(g - h, a - b) for (g, a), (h, b) in zip(downhill, before, strict=True)]
    beta = max(0.0, _product(turned, solved) / max(_product(before, solved_before), 1e-30))
    return [(s + beta * d, t + beta * e) for (s, t), (d, e) in zip(solved, direction, strict=True)]


def _product(a: Weights, b: Weights) -> float:
    return sum(float((w * v).sum() + (c * d).sum()) for (w, c), (v, d) in zip(a, b, strict=True))


def _dot(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.dot(a.flatten(), b.flatten()))


def _blocks(matrix: torch.Tensor, parts: int, size: int) -> torch.Tensor:
    """The diagonal blocks of a matrix over all channels, one a part: (parts, size, size)."""
    return matrix.reshape(parts, size, parts, size).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
