"""``modhifi-graph optimize``: prune a model to a budget."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modhifi_graph.cli.common import (
    COMPENSATIONS,
    CRITERIA,
    ENGINES,
    MODEL_HELP,
    MODES,
    NAME,
    Batch,
    Json,
    KeepBatchNorm,
    Threads,
    calibration,
    check_outputs,
    completes,
    print_json,
    write_json,
)
from modhifi_graph.errors import InputError
from modhifi_graph.exporters import BACKENDS
from modhifi_graph.select.goal import Goal

if TYPE_CHECKING:
    from modhifi_graph.plan import Plan


OUT_OF_REACH = 4

EXAMPLES = """\b
Examples:
  modhifi-graph optimize sample:digits-cnn --macs 0.5 -o slim.onnx
  modhifi-graph optimize model.onnx --calib calib.npz --speedup 1.5 --backend openvino -o slim.onnx
  modhifi-graph optimize sample:digits-cnn --macs 0.5 -o slim.onnx --report report.html
  modhifi-graph optimize model.onnx --calib calib.npz --latency 12 --threads 1 -o slim.onnx
  modhifi-graph optimize model.onnx --calib calib.npz --pareto 4 --speedup 2 -o slim.onnx
  modhifi-graph optimize model.onnx --calib calib.npz --params 0.6 -o slim.onnx --plan-out plan.json
  modhifi-graph optimize model.onnx --calib images/ --preprocess 'mean=0.5;std=0.5' --macs 0.7 -o slim.onnx"""


def optimize(
    context: typer.Context,
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
    speedup: Annotated[
        float | None, typer.Option(help="So many times as fast, measured in turns on --backend (not below 1).")
    ] = None,
    latency: Annotated[float | None, typer.Option(help="So many milliseconds a run, measured on --backend.")] = None,
    fidelity: Annotated[
        float | None, typer.Option(help="The fastest engine on --backend whose outputs keep this fidelity.")
    ] = None,
    pareto: Annotated[
        int | None,
        typer.Option(min=2, help="Write so many models, up to --speedup (default 2): OUTPUT-1.onnx is the slowest."),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            help=f"What latency is measured on: {ENGINES}; not the last for ONNX.", autocompletion=completes(*BACKENDS)
        ),
    ] = "onnxruntime",
    require: Annotated[
        bool, typer.Option("--require", help="Exit with 4 where a goal is out of reach; the best found is written.")
    ] = False,
    plan: Annotated[Path | None, typer.Option(help="Apply a plan that --plan-out wrote.")] = None,
    plan_out: Annotated[Path | None, typer.Option(help="Write which components stay, as JSON.")] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a page (.html) of what was done; it times every layer, which takes a little longer."),
    ] = None,
    mode: Annotated[
        str, typer.Option(help="default, or paper: ModHiFi-P.", autocompletion=completes(*MODES))
    ] = "default",
    percentile: Annotated[
        float, typer.Option(help="Mode paper: the share that HiFi sets give up in a round, 0.01 to 0.2 there.")
    ] = 0.1,
    rounds: Annotated[int | None, typer.Option(min=1, help="Mode paper: so many rounds instead of a budget.")] = None,
    hifi_sets: Annotated[
        str, typer.Option(help="Mode paper: HiFi sets of every layer, or of every output channel: layer or channel.")
    ] = "layer",
    criterion: Annotated[
        str | None,
        typer.Option(
            help="What to remove: obs (fidelity in mode paper), alpha, rowsum, energy, magnitude or random.",
            autocompletion=completes(*CRITERIA),
        ),
    ] = None,
    compensation: Annotated[
        str | None,
        typer.Option(
            help="How to repair the rest: joint (scalar in mode paper), sequential, lstsq, bias or none.",
            autocompletion=completes(*COMPENSATIONS),
        ),
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
        int | None,
        typer.Option(min=1, help="Keep multiples of so many channels; default 8 for groups of 64 and more, else 1."),
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
        bool | None,
        typer.Option(help="Let whole residual branches go too; by default with --speedup, --latency and --fidelity."),
    ] = None,
    mirror: Annotated[
        bool | None,
        typer.Option(help="Calibrate on mirror images too; by default where small photographs are few."),
    ] = None,
    prices: Annotated[
        str,
        typer.Option(help="What groups compete by: output, what the outputs lose, or local, what their streams lose."),
    ] = "output",
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no table.")] = False,
) -> None:
    """Prune a model to a budget, repair it in closed form, verify it, time it and write it.

    Give exactly one of --macs, --params, --keep, --speedup, --latency, --fidelity and --plan, or --pareto alone or with
    --speedup; with --mode paper --macs, --params or --rounds.
    """
    if mode == "default":
        counts = {"--macs": macs, "--params": params, "--keep": keep}
        _check_aims(counts, {"--speedup": speedup, "--latency": latency, "--fidelity": fidelity}, plan, pareto)
    for written, planned in _outputs(output, plan_out, pareto):
        check_outputs(model, written, planned, report=report)
    from modhifi_graph.inputs.images import Preprocess
    from modhifi_graph.report import terminal

    options: dict[str, Any] = {
        "backend": backend,
        "criterion": criterion,
        "compensation": compensation,
        "samples": samples,
        "seed": seed,
        "only": only or (),
        "skip": skip or (),
        "align": align,
        "min_keep": min_keep,
        "fold_batchnorm": not keep_batchnorm,
        "reestimate_batchnorm": reestimate_batchnorm,
        "preprocess": None if preprocess is None else Preprocess.parse(preprocess),
        "threads": threads,
        "bench_seconds": bench_seconds,
        "batch": batch,
        "device": device,
        "depth": depth,
        "mirror": mirror,
        "prices": prices,
        "details": report is not None,
    }
    aims: dict[str, Any] = {
        "macs": macs,
        "params": params,
        "keep": keep,
        "speedup": speedup,
        "latency": latency,
        "fidelity": fidelity,
        "plan": None if plan is None else _plan(plan),
        "mode": mode,
        "percentile": percentile,
        "rounds": rounds,
        "hifi_sets": hifi_sets,
    }
    with terminal.progress(quiet) as progress:
        data = calibration(model, calib)
        if pareto is None:
            from modhifi_graph.jobs.optimize import optimize as run

            results = [run(model, calib=data, progress=progress, **aims, **options)]
        else:
            from modhifi_graph.jobs.pareto import FASTEST
            from modhifi_graph.jobs.pareto import pareto as front

            results = front(model, data, engines=pareto, speedup=speedup or FASTEST, progress=progress, **options)
    files = _outputs(output, plan_out, pareto)
    for result, (written, planned) in zip(results, files, strict=True):
        result.save(written)
        if planned is not None:
            write_json(result.plan.to_json(), planned)
    reports = [result.report for result in results]
    if report is not None:
        _write_page(reports, [written for written, _ in files], report, model, context)
    if as_json:
        print_json(reports[0] if pareto is None else {"front": reports})
    elif not quiet and pareto is None:
        terminal.show(terminal.report(reports[0], output))
    elif not quiet:
        terminal.show(terminal.front(reports, [written for written, _ in files]))
    if require and not all(found.get("search", {"met": True})["met"] for found in reports):
        raise typer.Exit(OUT_OF_REACH)


def _write_page(
    reports: Sequence[dict[str, Any]], files: Sequence[Path], path: Path, model: str, context: typer.Context
) -> None:
    """The page of the one model; of several that of the fastest, with the front of all."""
    from modhifi_graph.report import page
    from modhifi_graph.report.figures import speed_of

    found = dict(reports[-1])
    if len(reports) > 1:
        found["front"] = [
            {
                "speedup": speed_of(each),
                "interval": each.get("interval"),
                "fidelity": each["fidelity"],
                "macs": each["macs"]["after"],
                "file": file.name,
            }
            for each, file in zip(reports, files, strict=True)
        ]
    page.write(found, path, model=Path(model).name, command=shlex.join([NAME, *(context.obj or ())]))


def _outputs(output: Path, plan_out: Path | None, pareto: int | None) -> list[tuple[Path, Path | None]]:
    """The files of every model: as given for one, numbered for several."""
    if pareto is None:
        return [(output, plan_out)]
    return [
        (_numbered(output, number), None if plan_out is None else _numbered(plan_out, number))
        for number in range(1, pareto + 1)
    ]


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _check_aims(
    counts: dict[str, float | None], goals: dict[str, float | None], plan: Path | None, pareto: int | None
) -> None:
    given = [name for name, value in {**counts, **goals, "--plan": plan}.items() if value is not None]
    if pareto is not None:
        if set(given) - {"--speedup"}:
            raise InputError(f"--pareto goes alone or with --speedup, not with {', '.join(given)}")
    elif len(given) != 1:
        *most, last = (*counts, *goals, "--plan")
        raise InputError(
            f"give exactly one of {', '.join(most)} and {last}{', not ' + ', '.join(given) if given else ''}"
        )
    for name, value in counts.items():
        if value is not None and not 0 < value <= 1:
            raise InputError(f"{name} is {value:g}; expected a fraction above 0 and at most 1")
    for name, value in goals.items():
        if value is not None:
            Goal(name.removeprefix("--"), value)


def _plan(path: Path) -> Plan:
    from modhifi_graph.plan import Plan

    return Plan.load(path)
