"""The command line: it reads options, calls the Python API and shows what comes back."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from modhifi_graph.errors import InputError, ModhifiError

if TYPE_CHECKING:
    from modhifi_graph.plan import Plan

# Commands import what they need: help must not wait for onnx and onnxruntime to load.

NAME = "modhifi-graph"
DEBUG = "MODHIFI_DEBUG"
INTERRUPTED = 130
STOPPED = "interrupted; nothing was written"
SAMPLE = "sample:"

app = typer.Typer(
    name=NAME,
    help="Make a trained ONNX model smaller and faster: no labels, no gradients, no training.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
Threads = Annotated[int, typer.Option(min=0, help="Threads within an operator; 0 is the runtime's default.")]
Batch = Annotated[int, typer.Option(min=1, help="Samples in each timed run.")]
KeepBatchNorm = Annotated[bool, typer.Option("--keep-batchnorm", help="Do not fold batch normalisation into weights.")]
MODEL_HELP = "An .onnx file, sample:digits-cnn or sample:digits-vit; `optimize` and `score` also take a .pt2."


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 2 wrong input, 3 not verified, 130 interrupted, 1 a defect of ours."""
    debug = os.environ.get(DEBUG, "") not in ("", "0")
    if not debug:
        # What libraries log while they try things is not for the user.
        logging.getLogger().addHandler(logging.NullHandler())
        warnings.simplefilter("ignore")
    sys.exit(_run(arguments, debug))


def _run(arguments: Sequence[str] | None, debug: bool) -> int:
    """The exit code; every message is one line on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        result = app(given, standalone_mode=False)
        sys.stdout.flush()
    except typer.Exit as stop:
        result = stop.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return _fail(STOPPED, INTERRUPTED, False)
    except ModhifiError as error:
        return _fail(str(error), error.exit_code, debug)
    except BrokenPipeError:
        # Whoever read our output has what it wanted; without this, flushing at exit would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        # Wrong usage: some versions of typer use click, others bring a copy of it that is not exported.
        if callable(message := getattr(error, "format_message", None)):
            return _fail(f"{message().rstrip('.')}; see --help", InputError.exit_code, debug)
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return _fail(f"internal error: {what}; please report it, with what {DEBUG}=1 shows", 1, debug)
    # Some versions of typer turn Ctrl-C into this exit code themselves.
    if result == INTERRUPTED:
        return _fail(STOPPED, INTERRUPTED, False)
    return result if isinstance(result, int) else 0


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"{NAME}: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _version(wanted: bool) -> None:
    if wanted:
        import modhifi_graph

        print(f"{NAME} {modhifi_graph.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    pass


@app.command(
    epilog="""\b
Examples:
  modhifi-graph optimize sample:digits-cnn --macs 0.5 -o slim.onnx
  modhifi-graph optimize model.onnx --calib calib.npz --params 0.6 -o slim.onnx --plan-out plan.json
  modhifi-graph optimize model.onnx --calib images/ --preprocess 'mean=0.5;std=0.5' --macs 0.7 -o slim.onnx"""
)
def optimize(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the smaller model.")],
    calib: Annotated[
        str | None,
        typer.Option(
            help="Unlabelled inputs: .npz (arrays by input name), .npy or a folder of images; synthesised if not given."
        ),
    ] = None,
    macs: Annotated[float | None, typer.Option(help="Fraction of multiply-accumulates that stays, in (0, 1].")] = None,
    params: Annotated[float | None, typer.Option(help="Fraction of parameters that stays, in (0, 1].")] = None,
    keep: Annotated[float | None, typer.Option(help="Fraction of every group that stays, in (0, 1].")] = None,
    plan: Annotated[Path | None, typer.Option(help="Apply a plan that --plan-out wrote.")] = None,
    plan_out: Annotated[Path | None, typer.Option(help="Write which components stay, as JSON.")] = None,
    mode: Annotated[str, typer.Option(help="default, or paper: ModHiFi-P.")] = "default",
    percentile: Annotated[
        float, typer.Option(help="Mode paper: the share that HiFi sets give up in a round, 0.01 to 0.2 there.")
    ] = 0.1,
    rounds: Annotated[int | None, typer.Option(min=1, help="Mode paper: so many rounds instead of a budget.")] = None,
    hifi_sets: Annotated[
        str, typer.Option(help="Mode paper: HiFi sets of every layer, or of every output channel: layer or channel.")
    ] = "layer",
    criterion: Annotated[
        str | None,
        typer.Option(help="What to remove: obs (fidelity in mode paper), alpha, rowsum, energy, magnitude or random."),
    ] = None,
    compensation: Annotated[
        str | None,
        typer.Option(help="How to repair the rest: joint (scalar in mode paper), sequential, lstsq, bias or none."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Calibrate on a random subset of this size, or on so many synthesised inputs."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    only: Annotated[
        list[str] | None, typer.Option(help="Prune only groups or parameters that match (repeatable).")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(help="Leave groups or parameters that match whole (repeatable).")
    ] = None,
    align: Annotated[
        int | None, typer.Option(min=1, help="Keep multiples of this; default 8 for groups of 64 and more, else 1.")
    ] = None,
    min_keep: Annotated[int, typer.Option(min=1, help="Components that every group keeps at least.")] = 1,
    preprocess: Annotated[
        str | None, typer.Option(help="For a folder of images: 'mean=0.5;std=0.5;size=224;layout=NCHW'.")
    ] = None,
    keep_batchnorm: KeepBatchNorm = False,
    reestimate_batchnorm: Annotated[
        bool | None,
        typer.Option(
            "--reestimate-batchnorm/--no-reestimate-batchnorm",
            help="Take the statistics of batch norms that are kept from --calib at the end; mode paper does.",
        ),
    ] = None,
    threads: Threads = 0,
    bench_seconds: Annotated[float, typer.Option(min=0, help="Time to spend on measuring latency.")] = 2.0,
    batch: Batch = 1,
    device: Annotated[str | None, typer.Option(help="Where a .pt2 is observed and repaired, as cpu or cuda.")] = None,
    depth: Annotated[
        bool, typer.Option("--depth", help="Let whole residual branches go too; with --macs or --params.")
    ] = False,
    mirror: Annotated[
        bool | None,
        typer.Option(help="Calibrate on mirror images too; by default where small photographs are few."),
    ] = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no table.")] = False,
) -> None:
    """Prune a model to a budget, repair it in closed form, verify it, time it and write it.

    Give exactly one of --macs, --params, --keep and --plan; with --mode paper --macs, --params or --rounds.
    """
    budgets = {"--macs": macs, "--params": params, "--keep": keep}
    if mode == "default":
        _check_budget(budgets, plan)
    _check_outputs(model, output, plan_out)
    from modhifi_graph import terminal
    from modhifi_graph.images import Preprocess
    from modhifi_graph.optimization import optimize as run

    with terminal.progress(quiet) as progress:
        result = run(
            model,
            calib=_calibration(model, calib),
            macs=macs,
            params=params,
            keep=keep,
            plan=None if plan is None else _plan(plan),
            mode=mode,
            percentile=percentile,
            rounds=rounds,
            hifi_sets=hifi_sets,
            criterion=criterion,
            compensation=compensation,
            samples=samples,
            seed=seed,
            only=only or (),
            skip=skip or (),
            align=align,
            min_keep=min_keep,
            fold_batchnorm=not keep_batchnorm,
            reestimate_batchnorm=reestimate_batchnorm,
            preprocess=None if preprocess is None else Preprocess.parse(preprocess),
            threads=threads,
            bench_seconds=bench_seconds,
            batch=batch,
            device=device,
            depth=depth,
            mirror=mirror,
            progress=progress,
        )
    result.save(output)
    if plan_out is not None:
        _write_json(result.plan.to_json(), plan_out)
    if as_json:
        _print_json(result.report)
    elif not quiet:
        terminal.show(terminal.report(result.report, output))


@app.command(
    epilog="""\b
Examples:
  modhifi-graph unlearn model.onnx --forget cats.npz --remain others.npz -o nocats.onnx
  modhifi-graph unlearn model.onnx --forget cats.npz --remain others.npz --macs 0.9 -o nocats.onnx
  modhifi-graph unlearn model.onnx --forget cats.npz --mode negate -o nocats.onnx
  modhifi-graph unlearn sample:digits-cnn --class 3 -o no3.onnx"""
)
def unlearn(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the model.")],
    forget: Annotated[
        str | None, typer.Option(help="Samples of the class: .npz, .npy or a folder of images. Samples have theirs.")
    ] = None,
    remain: Annotated[str | None, typer.Option(help="Samples of all else; without them more is lost.")] = None,
    label: Annotated[
        int | None,
        typer.Option("--class", min=0, help="The class, from 0; by default what the model sees in --forget."),
    ] = None,
    mode: Annotated[
        str, typer.Option(help="edit: refit the last layers; plain: the last one; zero, negate: as published.")
    ] = "edit",
    mu: Annotated[float, typer.Option(help="What --forget counts beside --remain; 0 changes nothing.")] = 1.0,
    depth: Annotated[int, typer.Option(min=0, help="Layers before the last that the class is erased from.")] = 1,
    score: Annotated[str, typer.Option(help="For zero and negate: singleton, alpha, rowsum or energy.")] = "singleton",
    fraction: Annotated[
        float | None, typer.Option(help="For zero and negate: of every layer's kernels; default as few as suffice.")
    ] = None,
    macs: Annotated[float | None, typer.Option(help="Prune to this fraction first, on --remain alone.")] = None,
    params: Annotated[float | None, typer.Option(help="The same by parameters.")] = None,
    unseen: Annotated[
        str | None, typer.Option(help="Samples of the class nobody trained on, to report membership inference.")
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Use a random subset of this size of each set.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    preprocess: Annotated[
        str | None, typer.Option(help="For folders of images: 'mean=0.5;std=0.5;size=224;layout=NCHW'.")
    ] = None,
    keep_batchnorm: KeepBatchNorm = False,
    threads: Threads = 0,
    device: Annotated[str | None, typer.Option(help="Where a .pt2 is observed and edited, as cpu or cuda.")] = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no table.")] = False,
) -> None:
    """Make a classifier forget a class, in closed form: no labels, no training."""
    _check_outputs(model, output, None)
    from modhifi_graph import terminal, unlearning
    from modhifi_graph.images import Preprocess

    given: tuple[Any, Any] = (forget, remain)
    if forget is None:
        if label is None or not model.startswith(SAMPLE):
            raise InputError("give --forget, samples of the class; only a sample needs no more than --class")
        given = unlearning.sample_sets(model, label, threads)
    with terminal.progress(quiet) as progress:
        result = unlearning.unlearn(
            model,
            *given,
            mode=mode,
            label=label,
            mu=mu,
            depth=depth,
            score=score,
            fraction=fraction,
            macs=macs,
            params=params,
            unseen=unseen,
            samples=samples,
            seed=seed,
            fold_batchnorm=not keep_batchnorm,
            preprocess=None if preprocess is None else Preprocess.parse(preprocess),
            threads=threads,
            device=device,
            progress=progress,
        )
    result.save(output)
    if as_json:
        _print_json(result.report)
    elif not quiet:
        terminal.show(terminal.unlearning(result.report, output))


@app.command(
    epilog="""\b
Examples:
  modhifi-graph inspect sample:digits-vit
  modhifi-graph inspect model.onnx --why conv1.weight"""
)
def inspect(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    why: Annotated[str | None, typer.Option(help="Explain the axes of a parameter, value or group.")] = None,
    graphml: Annotated[Path | None, typer.Option(help="Write ops and groups as a graph, for yEd or networkx.")] = None,
    keep_batchnorm: KeepBatchNorm = False,
    as_json: Json = False,
) -> None:
    """Show what can be pruned, what cannot, and why."""
    import dataclasses

    from modhifi_graph import terminal
    from modhifi_graph.inspection import inspect as run

    found = run(model, fold_batchnorm=not keep_batchnorm)
    reasons = None if why is None else found.why(why)
    if graphml is not None:
        found.to_graphml(graphml)
    if as_json:
        _print_json(found.to_json() if reasons is None else [dataclasses.asdict(reason) for reason in reasons])
    else:
        terminal.show(terminal.inspection(found) if reasons is None else terminal.explanations(reasons))


@app.command(epilog="Example:  modhifi-graph verify model.onnx slim.onnx --plan plan.json")
def verify(
    dense: Annotated[str, typer.Argument(help=f"The original model. {MODEL_HELP}")],
    slim: Annotated[str, typer.Argument(help="What optimize wrote.")],
    plan: Annotated[Path, typer.Option(help="The plan that optimize wrote with --plan-out.")],
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Check that a finished file is the graph that its plan describes; exit 3 where it is not."""
    from modhifi_graph import terminal
    from modhifi_graph.verification import verify_files

    found = verify_files(dense, slim, plan, threads=threads)
    if as_json:
        _print_json(found.to_json())
    else:
        terminal.show(terminal.verification(found, slim))


@app.command(epilog="Example:  modhifi-graph bench model.onnx slim.onnx --threads 1")
def bench(
    a: Annotated[str, typer.Argument(help=MODEL_HELP)],
    b: Annotated[str | None, typer.Argument(help="Another model with the same inputs.")] = None,
    threads: Threads = 0,
    provider: Annotated[str, typer.Option(help="The onnxruntime execution provider.")] = "CPUExecutionProvider",
    batch: Batch = 1,
    seconds: Annotated[float, typer.Option(min=0, help="Time to spend on the timed runs.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Time one model, or two in turns, on random inputs."""
    from modhifi_graph import terminal
    from modhifi_graph.models import sample_path
    from modhifi_graph.timing import bench as run

    paths = [sample_path(name) if name.startswith(SAMPLE) else Path(name) for name in (a, b) if name is not None]
    found = run(*paths, threads=threads, provider=provider, batch=batch, seconds=seconds)
    if as_json:
        _print_json(found.to_json())
    else:
        terminal.show(terminal.comparison(found, [name for name in (a, b) if name is not None]))


@app.command(
    epilog="""\b
Examples:
  modhifi-graph score sample:digits-cnn -o scores.npz
  modhifi-graph score model.onnx --calib calib.npz -o scores.npz --plot scores.png --bounds"""
)
def score(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the scores, as .npz.")],
    calib: Annotated[
        str | None, typer.Option(help="Unlabelled inputs: .npz (arrays by input name), .npy or a folder of images.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw spectra and curves of all groups: .png, .svg or .pdf.")
    ] = None,
    bounds: Annotated[bool, typer.Option("--bounds", help="Measure how errors of layers reach the outputs.")] = False,
    rows: Annotated[int, typer.Option(min=1, help="Rows of input that every layer is observed on.")] = 2048,
    samples: Annotated[int | None, typer.Option(min=1, help="Calibrate on a random subset of this size.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    only: Annotated[list[str] | None, typer.Option(help="Score only groups or parameters that match.")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="Leave out groups or parameters that match.")] = None,
    preprocess: Annotated[
        str | None, typer.Option(help="For a folder of images: 'mean=0.5;std=0.5;size=224;layout=NCHW'.")
    ] = None,
    keep_batchnorm: KeepBatchNorm = False,
    threads: Threads = 0,
    device: Annotated[str | None, typer.Option(help="Where the model is observed, as cpu or cuda.")] = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no table.")] = False,
) -> None:
    """Measure what share of every layer's output its components reconstruct, alone and together. Nothing is pruned."""
    _check_outputs(model, output, plot, second="--plot")
    from modhifi_graph import terminal
    from modhifi_graph.images import Preprocess
    from modhifi_graph.plotting import check_plot
    from modhifi_graph.scoring import score as run

    if plot is not None:
        check_plot(plot)
    with terminal.progress(quiet) as progress:
        found = run(
            model,
            _calibration(model, calib),
            bounds=bounds,
            rows=rows,
            samples=samples,
            seed=seed,
            only=only or (),
            skip=skip or (),
            fold_batchnorm=not keep_batchnorm,
            preprocess=None if preprocess is None else Preprocess.parse(preprocess),
            threads=threads,
            device=device,
            progress=progress,
        )
    found.save(output)
    if plot is not None:
        found.plot(plot)
    if as_json:
        _print_json(found.to_json())
    elif not quiet:
        terminal.show(terminal.scores(found, output))


def _check_budget(budgets: dict[str, float | None], plan: Path | None) -> None:
    given = {name: value for name, value in budgets.items() if value is not None}
    names = ", ".join((*given, *(["--plan"] if plan is not None else [])))
    if len(given) + (plan is not None) != 1:
        raise InputError(f"give exactly one of --macs, --params, --keep and --plan{f', not {names}' if names else ''}")
    for name, value in given.items():
        if not 0 < value <= 1:
            raise InputError(f"{name} is {value:g}; expected a fraction above 0 and at most 1")


def _check_outputs(model: str, output: Path, other: Path | None, second: str = "--plan-out") -> None:
    """Refuse, before any work, what could not be written or would overwrite the input."""
    seen = {os.path.realpath(model): f"the model {model}"}
    for name, path in (("--output", output), (second, other)):
        if path is None:
            continue
        real = os.path.realpath(path)
        if real in seen:
            raise InputError(f"{name} is {path}, which would overwrite {seen[real]}; choose another name")
        seen[real] = f"what {name} writes"
        folder = os.path.dirname(real)
        if not os.path.isdir(folder):
            raise InputError(f"{path}: the folder {folder} does not exist; create it first")
        if os.path.isdir(real):
            raise InputError(f"{path}: is a folder; give the name of a file")
        if not os.access(folder, os.W_OK):
            raise InputError(f"{path}: the folder {folder} cannot be written to")


def _calibration(model: str, calib: str | None) -> Any:
    """A sample brings its own calibration arrays."""
    if calib is not None or not model.startswith(SAMPLE):
        return calib
    from modhifi_graph import models, samples

    models.sample_path(model)
    return samples.load(model).calib


def _plan(path: Path) -> Plan:
    from modhifi_graph.plan import Plan

    return Plan.load(path)


def _write_json(data: Any, path: Path) -> None:
    from modhifi_graph.files import atomic_write

    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    """What JSON does not know: numpy's numbers and arrays, and paths."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
