"""Local compensation: repair each consumer that lost inputs from the dense model's moments alone.

- ``bias``: the mean of what went is added to the bias, ``b' = b + W[:, gone] m[gone]``;
- ``scalar``: besides, each contribution that stays is scaled by the paper's ``delta_c = 1 + Q_c[K, K]^-1 Q_c[K, gone] 1``;
- ``lstsq``: affine least squares, ``W' = W[:, K] + W[:, gone] C[gone, K] (C[K, K] + lambda I)^-1``, ``b' = b + (W - W') m``.

A consumer that cannot be given a bias is repaired around zero: ``E[x x^T] = C + m m^T`` takes the place of C.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from modhifi_graph.axes.groups import Groups
from modhifi_graph.axes.layout import Layout, find, kept, leaves
from modhifi_graph.dialects.program import Program
from modhifi_graph.observe.consumers import Consumer, weight_of
from modhifi_graph.observe.moments import Moments, merged, second_moment
from modhifi_graph.observe.ridge import RIDGE, damped, refit
from modhifi_graph.observe.sites import Editor
from modhifi_graph.observe.windows import windows, with_taps
from modhifi_graph.plan import Plan
from modhifi_graph.repair import methods

METHODS = methods.LOCAL

CHUNK = 1 << 25
"""So many numbers are held at a time while contributions are scaled."""


def compensate(groups: Groups, slim: Program, plan: Plan, moments: Mapping[Consumer, Moments], method: str) -> int:
    """Repair the consumers of ``slim`` that lost inputs, in place; returns how many.

    ``moments`` are those of the dense model's consumers, by :class:`Consumer` of ``groups``.
    """
    keep = plan.resolve(groups)
    editor = Editor(slim)
    dense = {consumer.y.name: consumer for consumer in moments}
    count = 0
    for window in windows(groups, slim.graph, keep):
        consumer, site = dense.get(window.dense.y.name), window.site
        if consumer is None or not any(factor in keep for factor in leaves(consumer.contraction.layout)):
            continue
        parts = components(consumer, keep)
        weight, shift = repaired(consumer, moments[consumer], window.columns, parts, method, site.bias is not None)
        editor.weight(site, window.cut(weight.cpu().numpy()))
        if site.bias is not None:
            editor.bias(site, editor.current_bias(site) + window.cut(shift.cpu().numpy()))
        count += 1
    return count


def components(consumer: Consumer, keep: Mapping[Layout, np.ndarray]) -> list[np.ndarray]:
    """The input positions of every component that is left, of the groups that were cut; the rest channel by channel.

    Where two groups that were cut are nested (heads and head dimensions), a component is a pair.
    """
    layout = consumer.contraction.layout
    stays = with_taps(kept(layout, keep), consumer.taps)
    cut = [factor for factor in dict.fromkeys(leaves(find(layout))) if factor in keep]
    owners = np.stack([consumer.columns(factor)[stays] for factor in cut])
    free = (owners < 0).all(0)
    owner = np.concatenate([owners, np.where(free, stays // consumer.taps, -1)[None]])
    _, number = np.unique(owner, axis=1, return_inverse=True)
    return [stays[number.reshape(-1) == i] for i in range(number.max() + 1)]


def repaired(
    consumer: Consumer,
    moments: Moments,
    stays: np.ndarray,
    components: Sequence[np.ndarray],
    method: str,
    intercept: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The dense weight repaired for inputs ``stays``, zero elsewhere, and what to add to the bias.

    Parameters
    ----------
    stays : positions of the inputs that are left, sorted.
    components : the input positions of every component that is left; only ``scalar`` asks for them.
    method : "bias", "scalar" or "lstsq".
    intercept : whether the bias can make up for a shift of the mean.

    Returns
    -------
    (G, o, p) and (G, o) tensors, float64.
    """
    return repaired_weight(weight_of(consumer, moments.mean), moments, stays, components, method, intercept)


def repaired_weight(
    weight: torch.Tensor,
    moments: Moments,
    stays: np.ndarray,
    components: Sequence[np.ndarray],
    method: str,
    intercept: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for any weight W, shape (G, o, p), float64."""
    kept = torch.from_numpy(stays).to(weight.device)
    result = torch.zeros_like(weight)
    covariance = second_moment(moments, intercept)
    if method == "lstsq":
        result = refit(weight, covariance, kept, RIDGE)
    else:
        result[:, :, kept] = weight[:, :, kept]
        if method == "scalar":
            _scale(result, weight, covariance, components, stays)
    shift = torch.einsum("gop,gp->go", weight - result, moments.mean)
    return result, shift


def _scale(
    result: torch.Tensor,
    weight: torch.Tensor,
    covariance: torch.Tensor,
    components: Sequence[np.ndarray],
    stays: np.ndarray,
) -> None:
    """Scale every kept contribution of every output channel by delta_c(K), in place."""
    inputs = weight.shape[-1]
    owner = torch.full((inputs,), len(components), device=weight.device)  # what goes is the last contribution
    for i, positions in enumerate(components):
        owner[torch.from_numpy(positions).to(owner.device)] = i
    chunk = max(1, CHUNK // inputs**2)
    for part, matrix in enumerate(covariance):
        for start in range(0, weight.shape[1], chunk):
            rows = slice(start, start + chunk)
            own = weight[part, rows]
            gram = merged(own[:, :, None] * matrix * own[:, None, :], owner)
            inner, cross = gram[:, :-1, :-1], gram[:, :-1, -1]
            delta = 1 + torch.linalg.solve(damped(inner, RIDGE), cross)
            result[part, rows] *= torch.nn.functional.pad(delta, (0, 1))[:, owner]
