"""The other job: a classifier and samples of one of its classes in, a model that no longer knows the class out.

Nothing is trained. Which samples are to be forgotten is all that is told; samples of what remains may come along. Before the
edit the model may be pruned on what remains alone, so that components which serve only the class leave the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch

from modhifi_graph import samples
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects.program import tensor
from modhifi_graph.errors import InputError, VerificationError
from modhifi_graph.exporters.onnxruntime import Engine
from modhifi_graph.forget.forgetting import Forgotten, How, forget_class
from modhifi_graph.forget.head import rate
from modhifi_graph.forget.membership import attack
from modhifi_graph.forget.modes import INTERCEPT
from modhifi_graph.frontends.choice import opened
from modhifi_graph.frontends.frontend import Finished, FrontEnd, Optimized
from modhifi_graph.inputs.batches import Batches
from modhifi_graph.inputs.image_folders import Preprocess
from modhifi_graph.interface import Feeds
from modhifi_graph.jobs.optimize import optimize
from modhifi_graph.jobs.pipeline import Clock
from modhifi_graph.models.opening import Source, sample_path
from modhifi_graph.options.request import Options, budget_of
from modhifi_graph.plan import Plan
from modhifi_graph.progress import Progress, silent
from modhifi_graph.select.budget import Limits

if TYPE_CHECKING:
    from modhifi_graph.frontends.torch import Module


FORGOTTEN = 0.01
"""Where more of the forget set than this is still taken for the class, a warning says so."""

SURE = 0.5
"""Where less of the forget set than this was taken for its class to begin with, a warning says so."""

ROUNDING = 1e-3
"""How far the finished model may be from the edited one, relative to the largest score: it is optimised differently."""


def unlearn(
    model: Source | Module,
    forget: Any,
    remain: Any = None,
    *,
    inputs: Any = None,
    mode: str = "edit",
    label: int | None = None,
    mu: float = 1.0,
    depth: int = 1,
    score: str = "singleton",
    fraction: float | None = None,
    macs: float | None = None,
    params: float | None = None,
    unseen: Any = None,
    samples: int | None = None,
    seed: int = 0,
    skip: Sequence[str] = (),
    fold_batchnorm: bool = True,
    preprocess: Preprocess | None = None,
    threads: int = 0,
    device: str | None = None,
    dynamic_shapes: Any = None,
    progress: Progress | None = None,
) -> Optimized:
    """Make a classifier forget a class, in closed form. No labels, gradients or training.

    Parameters
    ----------
    model : path, "sample:NAME", onnx.ModelProto, onnx_ir.Model or onnx_graphsurgeon.Graph; nn.Module or ExportedProgram
        It is not modified.
    forget : path, array or dict of arrays; for modules also tensors, or a loader of them
        Samples of the class: 200 are plenty.
    remain : the same, optional
        Samples of all else. Without them the edit has only the weights to go by, and costs more of what should remain.
    inputs : of a module its example inputs.
    mode : str, default "edit"
        "edit": the last layers are refitted, see :mod:`modhifi_graph.forget.editing`; "plain": the last layer
        alone, ``W' = W S_r (S_r + mu S_f)^-1``; "zero" and "negate": ModHiFi-U as published.
    label : int, optional
        The class, counted from 0; by default the one that the model sees in ``forget``.
    mu : float >= 0, default 1
        What the forget set counts beside what remains, each as a whole; 0 changes nothing.
    depth : int >= 0, default 1
        Layers before the last one that the class is erased from ("edit", with ``remain``).
    score : str, default "singleton"
        For the published modes: "singleton", "alpha", "rowsum" or "energy".
    fraction : float in (0, 1], optional
        For the published modes: of every layer's kernels; by default as few as make the model forget ``forget``.
    macs, params : float in (0, 1], optional
        Prune to this fraction first, on ``remain`` alone: what only the class needs leaves the graph.
    unseen : samples of the class that nobody trained on, optional
        The report then says how well membership inference tells ``forget`` from them.
    samples, seed, skip, fold_batchnorm, preprocess, threads, device, dynamic_shapes, progress
        As for :func:`modhifi_graph.optimize`.

    Returns
    -------
    Optimized
        ``.model``, ``.save(path)``, ``.report`` and, where it was pruned, ``.plan``.

    Raises
    ------
    InputError
        The model is no classifier, or it, the samples or the options cannot be used.
    VerificationError
        The finished model does not compute what the edited one did.
    """
    how = How(mode, label, mu, depth, score, fraction, seed, threads)
    budget = budget_of(macs=macs, params=params)
    options = Options(
        budget=None,
        plan=Plan(),
        samples=samples,
        seed=seed,
        limits=Limits(skip=tuple(skip)),
        fold_batchnorm=fold_batchnorm,
        preprocess=preprocess,
        threads=threads,
        device=device,
    )
    if budget is not None and remain is None:
        raise InputError("pruning needs samples of what remains; give them, or no budget")
    clock = Clock()
    with clock("load"):
        front = opened(model, forget if inputs is None else inputs, options, dynamic_shapes)
        gone = _samples(front, forget, options, "the samples to forget")
        kept = _samples(front, remain, options, "the samples that remain")
        never = _samples(front, unseen, options, "the unseen samples")
        assert gone is not None
    plan, pruned = Plan(), None
    dense = front
    if budget is not None:
        with clock("prune"):
            pruned = optimize(
                model,
                inputs,
                calib=remain,
                budget=budget,
                samples=samples,
                seed=seed,
                skip=skip,
                fold_batchnorm=fold_batchnorm,
                preprocess=preprocess,
                threads=threads,
                bench_seconds=0,
                device=device,
                dynamic_shapes=dynamic_shapes,
                progress=progress,
            )
            plan, front = pruned.plan, opened(pruned.model, inputs, options, dynamic_shapes)
    with clock("edit"):
        program = front.slimmed(Plan())
        done = forget_class(
            program,
            find_groups(couple(program.graph)),
            gone.feeds,
            kept.feeds if kept is not None else (),
            how,
            progress or silent,
            front.label,
        )
    with clock("check"):
        finished = front.finish(program)
        error = _verify(finished, gone.feeds, done, threads)
        report = _figures(finished, done, how, never, threads)
        if pruned is not None:
            report |= {key: pruned.report[key] for key in ("macs", "params", "components", "verify", "plan")}
            report |= _original(dense, done, gone, kept, threads)
    report |= {"error": error, "seconds": clock.seconds, "warnings": _warnings(report, kept, how)}
    return finished.hand_back(plan, report)


def sample_sets(name: str, label: int, threads: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Of a sample model's calibration images those that it takes for a class, and the others."""
    sample = samples.load(sample_path(name).stem)
    engine = Engine.compile(onnx.load(sample.path), threads=threads)
    images = sample.calib[samples.INPUT]
    answers = engine.run({samples.INPUT: images})[engine.outputs[0]].argmax(1)
    if not (answers == label).any():
        raise InputError(f"{name}: there is no class {label} among its images; its classes are 0 to {answers.max()}")
    return {samples.INPUT: images[answers == label]}, {samples.INPUT: images[answers != label]}


def _samples(front: FrontEnd, given: Any, options: Options, what: str) -> Batches | None:
    if given is None:
        return None
    try:
        found = front.batches(given, options)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
    if not found.samples:
        raise InputError(f"{what}: there are none; give at least one")
    return found


def _verify(finished: Finished, batches: Sequence[Feeds], done: Forgotten, threads: int) -> float:
    """The largest error of the finished model's scores on the first batch, against those of the edited program."""
    found = _scores(finished, batches[:1], done, threads)[1]
    wanted = done.edited.after[0][: len(found)].cpu()
    error = float((found - wanted).abs().max())
    if not error <= ROUNDING * max(1.0, float(wanted.abs().max())):
        raise VerificationError(
            f"the finished model's scores are {error:.3g} away from the edited ones; nothing is kept"
        )
    return error


def _scores(
    finished: Finished, batches: Sequence[Feeds], done: Forgotten, threads: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Class scores of the model that was handed in and of the finished one, (samples, classes) each."""
    classes = done.edited.before[0].shape[-1]
    answers = finished.answers(batches, threads)

    def rows(outputs: Mapping[str, Any]) -> torch.Tensor:
        return tensor(list(outputs.values())[done.place]).reshape(-1, classes).cpu()

    return torch.cat([rows(before) for before, _ in answers]), torch.cat([rows(after) for _, after in answers])


def _figures(finished: Finished, done: Forgotten, how: How, unseen: Batches | None, threads: int) -> dict[str, Any]:
    """What the model said before and after, in percent; AUCs in [0, 1]."""
    edited, label = done.edited, done.edited.label
    report: dict[str, Any] = {
        "mode": how.mode,
        "class": label,
        **({"layers": [site.output.name for site in edited.layers]} if edited.layers else {}),
        **({"fraction": done.fraction} if done.fraction is not None else {}),
        **_rates(label, edited.before, edited.after),
        "bytes": dict(zip(("before", "after"), finished.sizes, strict=True)),
    }
    if unseen is not None:
        before, after = _scores(finished, unseen.feeds, done, threads)
        report["membership"] = {
            "before": attack(edited.before[0].cpu(), before, label),
            "after": attack(edited.after[0].cpu(), after, label),
        }
    return report


def _rates(
    label: int, before: tuple[torch.Tensor, torch.Tensor], after: tuple[torch.Tensor, torch.Tensor]
) -> dict[str, Any]:
    """How much of each set is taken for the class, and how much of the rest is answered as before."""

    def percent(index: int) -> dict[str, float]:
        return {"before": 100 * rate(before[index], label), "after": 100 * rate(after[index], label)}

    found: dict[str, Any] = {"forget": {"samples": len(before[0]), **percent(0)}}
    if len(before[1]):
        old, new = before[1].argmax(-1), after[1].argmax(-1)
        other = old != label
        agreement = 100 * float((old == new)[other].double().mean()) if bool(other.any()) else None
        found["remain"] = {"samples": len(old), **percent(1), "agreement": agreement}
    return found


def _original(
    dense: FrontEnd, done: Forgotten, forget: Batches, remain: Batches | None, threads: int
) -> dict[str, Any]:
    """The rates beside those of the model before it was pruned."""
    name = dense.program.graph.float_outputs[done.place].name
    classes = done.edited.before[0].shape[-1]

    def scores(batches: Batches) -> torch.Tensor:
        found = dense.program.results(batches.feeds, [name], threads)
        return torch.cat([result[name].reshape(-1, classes) for result in found])

    assert remain is not None
    return _rates(done.edited.label, (scores(forget), scores(remain)), done.edited.after)


def _warnings(report: Mapping[str, Any], remain: Batches | None, how: How) -> list[str]:
    found = []
    if report["forget"]["before"] < 100 * SURE:
        found.append(
            f"only {report['forget']['before']:.0f} % of the samples to forget were taken for class {report['class']}; "
            "are they of one class, and is it that one?"
        )
    if report["forget"]["after"] > 100 * FORGOTTEN and how.mu > 0:
        found.append(f"{report['forget']['after']:.1f} % of the samples to forget are still taken for their class")
    if remain is None and how.mode in INTERCEPT:
        found.append("no samples of what remains: only the last layer was edited, on a prior in place of them")
    return found
