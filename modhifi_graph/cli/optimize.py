"""``modhifi-graph optimize``: prune a model to a budget."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modhifi_graph.cli.common import (
    BACKENDS,
    COMPENSATIONS,
    CRITERIA,
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

if TYPE_CHECKING:
    from modhifi_graph.plan import Plan


OUT_OF_REACH = 4

EXAMPLES = """\b
Examples:
  modhifi-graph optimize sample:digits-cnn --macs 0.5 -o slim.onnx
  modhifi-graph optimize model.onnx --calib calib.npz --speedup 1.5 --backend openvino -o slim.onnx
  modhifi-graph optimize sample:digits-cnn --macs 0.5 -o slim.onnx --report report.html
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
        float | None, typer.Option(help="So many times as fast as the original, measured on --backend.")
    ] = None,
    backend: Annotated[
        str,
        typer.Option(help="What latency is measured on: onnxruntime or openvino.", autocompletion=completes(*BACKENDS)),
    ] = "onnxruntime",
    require: Annotated[
        bool, typer.Option("--require", help="Exit with 4 where --speedup is out of reach; the best found is written.")
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
    prices: Annotated[
        str,
        typer.Option(help="What groups compete by: output, what the outputs lose, or local, what their streams lose."),
    ] = "output",
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no table.")] = False,
) -> None:
    """Prune a model to a budget, repair it in closed form, verify it, time it and write it.

    Give exactly one of --macs, --params, --keep, --speedup and --plan; with --mode paper --macs, --params or --rounds.
    """
    budgets = {"--macs": macs, "--params": params, "--keep": keep}
    if mode == "default":
        _check_budget(budgets, plan, speedup)
    check_outputs(model, output, plan_out, report=report)
    from modhifi_graph import terminal
    from modhifi_graph.images import Preprocess
    from modhifi_graph.optimization import optimize as run

    with terminal.progress(quiet) as progress:
        result = run(
            model,
            calib=calibration(model, calib),
            macs=macs,
            params=params,
            keep=keep,
            speedup=speedup,
            backend=backend,
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
            prices=prices,
            details=report is not None,
            progress=progress,
        )
    result.save(output)
    if plan_out is not None:
        write_json(result.plan.to_json(), plan_out)
    if report is not None:
        _write_page(result.report, report, model, context)
    if as_json:
        print_json(result.report)
    elif not quiet:
        terminal.show(terminal.report(result.report, output))
    if require and not result.report.get("search", {"met": True})["met"]:
        raise typer.Exit(OUT_OF_REACH)


def _write_page(found: dict[str, Any], path: Path, model: str, context: typer.Context) -> None:
    from modhifi_graph import page

    page.write(found, path, model=Path(model).name, command=shlex.join([NAME, *(context.obj or ())]))


def _check_budget(budgets: dict[str, float | None], plan: Path | None, speedup: float | None) -> None:
    given = {name: value for name, value in budgets.items() if value is not None}
    others = {"--speedup": speedup is not None, "--plan": plan is not None}
    names = ", ".join((*given, *(name for name, there in others.items() if there)))
    if len(given) + sum(others.values()) != 1:
        wanted = "--macs, --params, --keep, --speedup and --plan"
        raise InputError(f"give exactly one of {wanted}{f', not {names}' if names else ''}")
    if speedup is not None and not speedup >= 1:
        raise InputError(f"--speedup is {speedup:g}; expected at least 1")
    for name, value in given.items():
        if not 0 < value <= 1:
            raise InputError(f"{name} is {value:g}; expected a fraction above 0 and at most 1")


def _plan(path: Path) -> Plan:
    from modhifi_graph.plan import Plan

    return Plan.load(path)
