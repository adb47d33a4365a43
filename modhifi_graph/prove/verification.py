"""Proof that a slim graph is the graph that was meant: it computes what the dense one does with components zeroed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.errors import InputError, VerificationError
from modhifi_graph.exporters.onnxruntime import Engine
from modhifi_graph.interface import inputs_that_run, is_float
from modhifi_graph.models import validity
from modhifi_graph.models.opening import open_model
from modhifi_graph.passes.normal_form import normalise
from modhifi_graph.plan import Plan
from modhifi_graph.prove import structure

RELATIVE = {"float64": 1e-4, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
"""Allowed error relative to the largest value of an output, by the least precise type that the model computes in."""

FLOOR = 1e-2
"""Outputs smaller than this are judged as if they were this large: what cancels out leaves rounding behind."""

NEAR_TIES = 1e-3
"""Share of the entries of an integer or boolean output that may differ: rounding breaks near ties of an arg max."""


@dataclass(frozen=True)
class Verification:
    """How exactly a slim graph computes what it must.

    Attributes
    ----------
    max_abs_error : float
        Largest difference of any floating-point output on any input.
    tolerance : float
        What was allowed for the output that came closest to its limit: a share of its largest value, 1e-4 for
        float32, 2e-2 for float16, 1e-1 for bfloat16.
    output : str
        That output.
    runs : int
        Sets of inputs compared.
    """

    max_abs_error: float
    tolerance: float
    output: str
    runs: int

    def to_json(self) -> dict[str, Any]:
        return {
            "max_abs_error": self.max_abs_error,
            "tolerance": self.tolerance,
            "output": self.output,
            "runs": self.runs,
        }


def verify(
    dense: ir.Model, slim: ir.Model, plan: Plan, feeds: Sequence[Mapping[str, NDArray[Any]]], *, threads: int = 0
) -> Verification:
    """Check that a slim graph, before compensation, computes what the dense graph computes with components zeroed.

    Parameters
    ----------
    dense : onnx_ir.Model
        The normalised model that the plan was made for. It is not modified.
    slim : onnx_ir.Model
        What `Slim(plan)` made of it. It is not modified.
    plan : Plan
        What was kept.
    feeds : sequence of dict
        Inputs by name; at least one.
    threads : int, default 0
        Threads within an operator; 0 is the runtime's default.

    Returns
    -------
    Verification

    Raises
    ------
    VerificationError
        The interface changed, the slim graph is invalid or does not run, or an output differs: a float by more than
        the tolerance, NaN or infinite in one graph only, an integer or boolean in more than one entry of a thousand.
    InputError
        The dense graph cannot be run on `feeds`.
    """
    # The runtime is loaded with this import; only what runs needs it.
    from modhifi_graph.passes.mask import Mask

    check_interface(dense, slim)
    check_validity(dense, slim)
    if not feeds:
        raise InputError("verify: there are no inputs to compare on; give at least one")
    masked = dense.clone()
    Mask(plan)(masked)
    expected = Engine.compile(to_proto(masked), threads=threads, optimise=False)
    try:
        actual = Engine.compile(to_proto(slim), threads=threads, optimise=False)
    except InputError as error:
        raise VerificationError(f"the slim graph does not compile: {error}") from error
    relative = RELATIVE[_precision(dense)]
    return summary([e for feed in feeds for e in _compare(expected, actual, feed, relative)], len(feeds))


def summary(errors: Sequence[tuple[str, float, float]], runs: int) -> Verification:
    """What :func:`compare_outputs` found in all runs, as one figure."""
    largest = max((error for _, error, _ in errors), default=0.0)
    output, _, tolerance = max(errors, key=lambda found: found[1] / found[2], default=("", 0.0, 0.0))
    return Verification(largest, tolerance, output, runs)


def verify_files(
    dense: str | os.PathLike[str], slim: str | os.PathLike[str], plan: str | os.PathLike[str], *, threads: int = 0
) -> Verification:
    """Repeat the verification of a finished file, whose weights compensation has changed.

    The dense model is slimmed again with the plan and compared with its mask on random inputs. The finished file must
    be that graph: the same operators, attributes, connections and shapes, where only the values of weights and biases
    differ and biases may have been added. It must have the interface of the dense file, pass the checker and run.

    Parameters
    ----------
    dense, slim, plan : path
        The original model ("sample:NAME" too), what `optimize` wrote, and the plan that it wrote with `--plan-out`.
    threads : int, default 0
        Threads within an operator; 0 is the runtime's default.

    Raises
    ------
    VerificationError
        The finished file is not the graph that the plan describes.
    InputError
        A file cannot be read, the plan is for another model, or the dense model cannot be run on random inputs.
    """
    from modhifi_graph.passes.slim import Slim

    chosen = Plan.load(os.fspath(plan))
    original, finished = open_model(dense), open_model(slim)
    whole = normalise(
        original.model.clone(), original.label, fold_batchnorm=bool(chosen.settings.get("fold_batchnorm", True))
    )
    again = whole.clone()
    Slim(chosen)(again)
    feeds = random_feeds(whole, threads=threads)
    result = verify(whole, again, chosen, [feeds], threads=threads)
    check_interface(original.model, finished.model)
    check_validity(original.model, finished.model)
    if (difference := structure.first_difference(again, finished.model)) is not None:
        raise VerificationError(
            f"{finished.label}: is not the graph that the plan makes of {original.label}: {difference}"
        )
    _check_runs(Engine.compile(to_proto(whole), threads=threads), finished.model, finished.label, feeds, threads)
    return result


def random_feeds(model: ir.Model, seed: int = 0, *, batch: int = 2, threads: int = 0) -> dict[str, NDArray[Any]]:
    """Random inputs that a model runs on; `InputError` where none are found."""
    engine = Engine.compile(to_proto(model), threads=threads, optimise=False)
    lengths = [value.shape[0] for value in model.graph.outputs if value.shape]
    return inputs_that_run(engine.run, engine.inputs, seed, batch, [n for n in lengths if isinstance(n, int) and n > 0])


def check_interface(before: ir.Model, after: ir.Model) -> None:
    """Names, types, shapes and order of inputs and outputs are the same; a length declared as unknown may be known."""
    for side in ("inputs", "outputs"):
        old, new = (
            [v for v in getattr(model.graph, side) if side == "outputs" or not v.is_initializer()]
            for model in (before, after)
        )
        if [v.name for v in old] != [v.name for v in new]:
            raise VerificationError(f"the graph's {side} were {_names(old)} and are now {_names(new)}")
        for was, now in zip(old, new, strict=True):
            if was.type != now.type or not _refines(was.shape, now.shape):
                raise VerificationError(
                    f"the interface changed: {was.name!r} was {was.type} {was.shape} and is now {now.type} {now.shape}"
                )


def check_validity(before: ir.Model, after: ir.Model) -> None:
    """The checker passes, with full shape inference if it did so before."""
    try:
        onnx.checker.check_model(validity.skeleton(before), full_check=True)
        full = True
    except Exception:  # ValidationError, InferenceError, RuntimeError: a model may run and still fail the full check
        full = False
    try:
        onnx.checker.check_model(validity.skeleton(after), full_check=full)
    except Exception as error:
        raise VerificationError(f"the slim graph does not pass onnx.checker: {validity.one_line(error)}") from error


def _names(values: Sequence[ir.Value]) -> str:
    return ", ".join(str(value.name) for value in values)


def _refines(old: ir.Shape | None, new: ir.Shape | None) -> bool:
    if old is None or new is None:
        return old is None
    return len(old) == len(new) and all(not _known(a) or a == b for a, b in zip(old, new, strict=True))


def _known(dim: Any) -> bool:
    return dim >= 0 if isinstance(dim, int) else dim.value is not None


def _precision(model: ir.Model) -> str:
    """The least precise floating-point type among constants, inputs and outputs."""
    values = (*model.graph.initializers.values(), *model.graph.inputs, *model.graph.outputs)
    types = {value.dtype.name.lower() for value in values if value.dtype is not None}
    names = {"bfloat16": "bfloat16", "float16": "float16", "float": "float32", "double": "float64"}
    return next((name for kind, name in names.items() if kind in types), "float32")


def _compare(
    expected: Engine, actual: Engine, feed: Mapping[str, NDArray[Any]], relative: float
) -> Iterator[tuple[str, float, float]]:
    """Name, error and tolerance of every floating-point output; raises where one is beyond it."""
    wanted = expected.run(feed)
    try:
        found = actual.run(feed)
    except InputError as error:
        raise VerificationError(f"the slim graph does not run: {error}") from error
    yield from compare_outputs(wanted, found, relative)


def compare_outputs(
    wanted: Mapping[str, Any], found: Mapping[str, Any], relative: float
) -> Iterator[tuple[str, float, float]]:
    """Name, error and tolerance of every floating-point output of a slim graph beside the masked one's.

    ``relative`` is the share of an output's largest value that is rounding. Raises :class:`VerificationError` where an output
    is beyond it, has another shape or type, or is a whole number that differs in more than :data:`NEAR_TIES` of its entries.
    """
    for name in wanted:
        for want, have in zip(_flat(wanted[name]), _flat(found[name]), strict=False):
            if want.shape != have.shape or want.dtype != have.dtype:
                raise VerificationError(
                    f"output {name!r} is {want.dtype} {want.shape} in the masked graph and {have.dtype} {have.shape} "
                    "in the slim one"
                )
            if is_float(want.dtype):
                yield name, *_float_error(name, want.astype(np.float64), have.astype(np.float64), relative)
            elif (differing := float(np.mean(want != have)) if want.size else 0.0) > NEAR_TIES:
                raise VerificationError(
                    f"output {name!r}, of {want.dtype}, differs in {100 * differing:.3g} % of its entries; "
                    f"at most {100 * NEAR_TIES:g} % may, where rounding breaks near ties"
                )


def _float_error(name: str, want: NDArray[Any], have: NDArray[Any], relative: float) -> tuple[float, float]:
    finite = np.isfinite(want)
    special = np.array_equal(want[~finite], have[~finite], equal_nan=True)
    if not special or not np.isfinite(have[finite]).all():
        raise VerificationError(
            f"output {name!r} of the slim graph is NaN or infinite where the masked one's is not, or not where it is"
        )
    error = float(np.abs(want - have, where=finite, out=np.zeros_like(want)).max(initial=0.0))
    tolerance = relative * max(FLOOR, float(np.abs(want[finite]).max(initial=0.0)))
    if error > tolerance:
        raise VerificationError(
            f"output {name!r} of the slim graph differs from the masked one by {error:.3g}; at most {tolerance:.3g} is "
            "rounding, so the graph is not the one that was meant"
        )
    return error, tolerance


def _flat(value: Any) -> Iterator[NDArray[Any]]:
    """The arrays of an output: sequences and maps of tensors hold several."""
    if isinstance(value, Mapping):
        value = [*value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    elif value is not None:
        yield np.asarray(value)


def _check_runs(dense: Engine, finished: ir.Model, label: str, feeds: Mapping[str, NDArray[Any]], threads: int) -> None:
    """The finished model runs, and is finite where the dense one is."""
    try:
        outputs = Engine.compile(to_proto(finished), threads=threads).run(feeds)
    except InputError as error:
        raise VerificationError(f"{label}: does not run: {error}") from error
    reference = dense.run(feeds)
    for name, value in outputs.items():
        finite = all(np.isfinite(a.astype(np.float64)).all() for a in _flat(value) if is_float(a.dtype))
        if not finite and all(np.isfinite(a.astype(np.float64)).all() for a in _flat(reference[name])):
            raise VerificationError(f"{label}: output {name!r} is NaN or infinite on random inputs")
