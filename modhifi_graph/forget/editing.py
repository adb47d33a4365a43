"""Unlearning as regression: the last layers are refitted so that the class is gone and all else is as it was.

Walking the graph in its order, every edited layer is regressed on two sets of samples at once: what remains and what is to be
forgotten (:mod:`modhifi_graph.forget.mixture`).

- Layers before the head aim at what they (or the stream that they join) computed, with the class erased
  (:mod:`modhifi_graph.forget.erasure`).
- The head aims at the old class scores, but that the forgotten class's score on the forget set is its least: no sample gets a
  target that depends on how well the model knew it, which is what membership inference reads.

Each layer reads what the edited ones before it feed it. Where nothing is known of what remains, only the head is edited, and
a prior takes the place of those samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from modhifi_graph.dialects.program import Program, Stepper
from modhifi_graph.forget.erasure import Erasure
from modhifi_graph.forget.head import Head, predicted_class
from modhifi_graph.forget.mixture import mixture, prior
from modhifi_graph.forget.modes import INTERCEPT
from modhifi_graph.interface import Feeds
from modhifi_graph.observe.consumers import weight_of
from modhifi_graph.observe.moments import Moments
from modhifi_graph.observe.observe import sample_rows
from modhifi_graph.observe.ridge import RIDGE
from modhifi_graph.observe.sites import Editor, Site
from modhifi_graph.repair.linear_map import LinearMap
from modhifi_graph.repair.regression import Regression

Aim = Callable[[torch.Tensor, bool], torch.Tensor]
"""From rows of the old values, (G, rows, o), and whether they are to be forgotten, to what is wanted."""


@dataclass(frozen=True, eq=False)
class Edited:
    """What was edited, and the class scores before and after.

    Attributes
    ----------
    label : the class.
    layers : the layers that were refitted, in order.
    before, after : on the forget set and on what remains, shape (samples, classes) each; the latter may be empty.
    """

    label: int
    layers: tuple[Site, ...]
    before: tuple[torch.Tensor, torch.Tensor]
    after: tuple[torch.Tensor, torch.Tensor]


def edit(
    program: Program,
    sites: Sequence[Site],
    head: Head,
    forget: Sequence[Feeds],
    remain: Sequence[Feeds],
    mode: str = "edit",
    *,
    mu: float = 1.0,
    depth: int = 1,
    label: int | None = None,
    seed: int = 0,
    threads: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Edited:
    """Refit the head and the ``depth`` layers before it, in place.

    Parameters
    ----------
    sites : of the program, in the order in which it runs.
    forget, remain : batches of samples of the class, and of others; without the latter a prior stands for them.
    mode : "edit", or "plain": the head alone, without its bias, and every score of the forget set aims at zero.
    mu : what the forget set counts, as a whole, beside all that remains.
    label : the class; what the model sees in the forget set by default.

    Time: one forward pass, and the end of it twice more; O(rows p (p + o) + p^3) a layer.
    """
    layers = [*_before(sites, head, depth if remain and mode == "edit" else 0), head.site]
    batches, output = [*forget, *remain], head.output.name
    visited = [n for site in layers for n in site.reads] + [output]
    stepper = program.stepper(batches, visited, threads)
    stepper.advance(layers[0].consumer.y.name)
    old = stepper.outcome(list(dict.fromkeys([output, *(site.target.name for site in layers)])), {})
    before = _halves([head.scores(found[output]) for found in old], len(forget))
    label = predicted_class(before[0]) if label is None else label
    editor, random = Editor(program, stepper), np.random.default_rng(seed)
    for number, site in enumerate(layers):
        reference = [found[site.target.name] for found in old]
        aim = _aim(site, head, reference, len(forget), label, mode)
        sums = _sums(site, stepper, reference, len(forget), aim, random)
        weight = weight_of(site.consumer, sums[0].first)
        parts = [(mu, sums[0].statistics())]
        if remain:
            parts.append((1.0, sums[1].statistics()))
        else:
            bias = torch.from_numpy(editor.current_bias(site)).to(weight)
            parts.append((1.0, prior(weight, bias, sums[0].moments)))
        solved, bias = mixture(parts).solve(weight, sums[0].ridge(RIDGE), INTERCEPT[mode])
        editor.weight(site, solved.cpu().numpy())
        if INTERCEPT[mode]:
            editor.bias(site, bias.cpu().numpy())
        progress(number + 1, len(layers))
    after = _halves([head.scores(found) for (found,) in stepper.visit([output])], len(forget))
    return Edited(label, tuple(layers), before, after)


def _before(sites: Sequence[Site], head: Head, depth: int) -> list[Site]:
    """The last layers before the head that have a bias to refit, in order."""
    place = next(i for i, site in enumerate(sites) if site.consumer.op is head.site.consumer.op)
    able = [site for site in sites[:place] if site.bias is not None]
    return able[max(0, len(able) - depth) :]


def _aim(site: Site, head: Head, reference: Sequence[torch.Tensor], forgotten: int, label: int, mode: str) -> Aim:
    """What a layer should compute, from what it did; the first ``forgotten`` batches are to be forgotten."""
    if mode == "plain":
        return lambda rows, gone: torch.zeros_like(rows) if gone else rows
    if site is head.site:
        return lambda rows, gone: _least(rows, label) if gone else rows
    remain, forget = _moments(site, reference[forgotten:]), _moments(site, reference[:forgotten])
    erased = Erasure.between(remain, forget)
    return lambda rows, gone: erased(rows)


def _least(rows: torch.Tensor, label: int) -> torch.Tensor:
    """Class scores (G, rows, classes) with the least of each row's in place of the class's."""
    wanted = rows.clone()
    wanted[..., label] = rows.min(-1).values
    return wanted


def _moments(site: Site, values: Sequence[torch.Tensor]) -> Moments:
    """Of an output's channels, over all its positions."""
    found: Moments | None = None
    for value in values:
        rows = _all_rows(site, value)
        found = found.add(rows) if found else Moments.of(rows)
    assert found is not None
    return found


def _all_rows(site: Site, value: torch.Tensor) -> torch.Tensor:
    return LinearMap(site.consumer).channels(value.float())


def _sums(
    site: Site,
    stepper: Stepper,
    reference: Sequence[torch.Tensor],
    forgotten: int,
    aim: Aim,
    random: np.random.Generator,
) -> list[Regression]:
    """What the layer reads now and what it should make of that: on the forget set, then on what remains, if any."""
    consumer = site.consumer
    sums: dict[bool, Regression] = {}
    sizes = {True: forgotten, False: stepper.batches - forgotten}
    for number, seen in enumerate(stepper.visit(site.reads, stay=site.late)):
        gone, value = number < forgotten, reference[number]
        rows, picks = sample_rows(consumer, seen[0], sizes[gone], random)
        wanted = aim(consumer.output_rows(value.float(), picks), gone)
        if site.stream:
            wanted = wanted - consumer.output_rows(seen[1].float(), picks)
        sums[gone] = sums[gone].add(rows, wanted) if gone in sums else Regression.of(rows, wanted)
    return list(sums.values())


def _halves(batches: Sequence[torch.Tensor], forgotten: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The scores of both sets, each in one tensor."""
    remaining = batches[forgotten:]
    return torch.cat(list(batches[:forgotten])), torch.cat(list(remaining)) if remaining else batches[0][:0]
