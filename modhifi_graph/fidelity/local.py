"""Local compensation: repair each consumer that lost inputs from the dense model's moments alone.

- ``bias``: the mean of what went is added to the bias, ``b' = b + W[:, gone] m[gone]``;
- ``scalar``: besides, each contribution that stays is scaled by the paper's ``delta_c = 1 + Q_c[K, K]^-1 Q_c[K, gone] 1``;
- ``lstsq``: affine least squares, ``W' = W C[:, K] (C[K, K] + lambda I)^-1``, ``b' = b + (W - W') m``.

A consumer that cannot be given a bias is repaired around zero: ``E[x x^T] = C + m m^T`` takes the place of C.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import torch

from modhifi_graph.axes.groups import Groups
from modhifi_graph.axes.layout import Layout, find, kept, leaves
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.fidelity.consumers import Consumer
from modhifi_graph.fidelity.moments import Moments
from modhifi_graph.fidelity.obs import damped_inverse
from modhifi_graph.fidelity.sites import Editor, sites
from modhifi_graph.plan import Plan

RIDGE = 1e-4
METHODS = ("bias", "scalar", "lstsq")


def compensate(groups: Groups, slim: ir.Model, plan: Plan, moments: Mapping[Consumer, Moments], method: str) -> int:
    """Repair the consumers of ``slim`` that lost inputs, in place; returns how many.

    ``moments`` are those of the dense model's consumers, by :class:`Consumer` of ``groups``.
    """
    keep = plan.resolve(groups)
    lifted = lift(slim)
    editor = Editor(lifted)
    dense = {consumer.y.name: consumer for consumer in moments}
    count = 0
    for site in sites(groups, lifted, keep):
        consumer = dense.get(site.consumer.y.name)
        layout = None if consumer is None else consumer.contraction.layout
        if consumer is None or layout is None or not any(factor in keep for factor in leaves(layout)):
            continue
        stays = _with_taps(kept(layout, keep), consumer.taps)
        components = _components(consumer, layout, keep)
        weight, shift = repaired(consumer, moments[consumer], stays, components, method, site.bias is not None)
        parts = (
            kept(groups.coupling.bindings[consumer.op].factors["g"], keep) if consumer.parts > 1 else np.zeros(1, int)
        )
        rows = site.channels.reshape(len(parts), -1) % consumer.outputs
        chosen = np.stack([weight.numpy()[part][row][:, stays] for part, row in zip(parts, rows, strict=True)])
        added = np.stack([shift.numpy()[part][row] for part, row in zip(parts, rows, strict=True)])
        editor.weight(site, chosen)
        if site.bias is not None:
            editor.bias(site, editor.current_bias(site) + added)
        count += 1
    return count


def _with_taps(channels: np.ndarray, taps: int) -> np.ndarray:
    return (channels[:, None] * taps + np.arange(taps)).ravel()


def _components(consumer: Consumer, layout: Layout, keep: Mapping[Layout, np.ndarray]) -> list[np.ndarray]:
    """The input positions of every component that is left, of the groups that were cut; the rest channel by channel.

    Where two groups that were cut are nested (heads and head dimensions), a component is a pair.
    """
    stays = _with_taps(kept(layout, keep), consumer.taps)
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
    weight = torch.from_numpy(consumer.weight().astype(np.float64))
    kept = torch.from_numpy(stays)
    result = torch.zeros_like(weight)
    covariance = moments.covariance
    if not intercept:
        covariance = covariance + torch.einsum("gi,gj->gij", moments.mean, moments.mean)
    if method == "lstsq":
        inverse = damped_inverse(covariance[:, kept[:, None], kept], RIDGE)
        result[:, :, kept] = (weight @ covariance)[:, :, kept] @ inverse
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
    member = torch.zeros(len(components) + 1, inputs, dtype=weight.dtype)
    for i, positions in enumerate(components):
        member[i, torch.from_numpy(positions)] = 1
    gone = np.setdiff1d(np.arange(inputs), stays)
    member[-1, torch.from_numpy(gone)] = 1
    for part in range(weight.shape[0]):
        for channel in range(weight.shape[1]):
            contributions = member * weight[part, channel]
            gram = contributions @ covariance[part] @ contributions.T  # Q_c over what stays, and the rest as one
            inner, cross = gram[:-1, :-1], gram[:-1, -1]
            damping = (RIDGE * inner.diagonal().mean()).clamp_min(1e-12)
            identity = torch.eye(len(inner), dtype=inner.dtype)
            delta = 1 + torch.linalg.solve(inner + damping * identity, cross)
            result[part, channel] *= member[:-1].T @ delta
