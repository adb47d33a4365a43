"""``modhifi-graph optimize``: prune a model to a budget."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from modhifi_graph.cli.common import (
    MODEL_HELP,
    NAME,
    Json,
    Quiet,
    calibration,
    check_outputs,
    print_json,
    write_json,
)
from modhifi_graph.cli.parameters import taken, takes
from modhifi_graph.errors import InputError
from modhifi_graph.options.option import either
from modhifi_graph.options.table import AIMS, BUDGETS, BY_NAME, MODE, OPTIONS, PAPER

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


TYPED = tuple(option for option in (BY_NAME["calib"], *OPTIONS) if option.spelling)
"""The options of the table that are on the command line."""


@takes(TYPED, after={"pareto": "fidelity", "require": "backend", "plan_out": "plan"})
def optimize(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the smaller model.")],
    pareto: Annotated[
        int | None,
        typer.Option(min=2, help="Write so many models, up to --speedup (default 2): OUTPUT-1.onnx is the slowest."),
    ] = None,
    require: Annotated[
        bool, typer.Option("--require", help="Exit with 4 where a goal is out of reach; the best found is written.")
    ] = False,
    plan_out: Annotated[Path | None, typer.Option(help="Write which components stay, as JSON.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    **typed: Any,
) -> None:
    """Prune a model to a budget, repair it in closed form, verify it, time it and write it.

    Give exactly one of --macs, --params, --keep, --speedup, --latency, --fidelity and --plan, or --pareto alone or with
    --speedup; with --mode paper --macs, --params or --rounds.
    """
    if typed["mode"] == MODE.default:
        _check_aims(typed, pareto)
    files, report = _outputs(output, plan_out, pareto), typed["report"]
    for written, planned in files:
        check_outputs(model, written, planned, report=report)
    from modhifi_graph.report import terminal

    options = taken(TYPED, typed)
    calib = options.pop("calib")
    with terminal.progress(quiet) as progress:
        data = calibration(model, calib)
        if pareto is None:
            from modhifi_graph.jobs.optimize import optimize as run

            results = [run(model, calib=data, progress=progress, **options)]
        else:
            from modhifi_graph.jobs.pareto import FASTEST
            from modhifi_graph.jobs.pareto import pareto as front

            speedup = options["speedup"] or FASTEST
            others = {name: value for name, value in options.items() if BY_NAME[name] not in (*AIMS, MODE, *PAPER)}
            results = front(model, data, engines=pareto, speedup=speedup, progress=progress, **others)
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


def _check_aims(typed: Mapping[str, Any], pareto: int | None) -> None:
    given = [option for option in AIMS if typed[option.name] is not None]
    names = [option.spelling for option in given]
    if pareto is not None:
        if set(names) - {"--speedup"}:
            raise InputError(f"--pareto goes alone or with --speedup, not with {', '.join(names)}")
    elif len(given) != 1:
        wanted = either([option.spelling for option in AIMS], "and")
        raise InputError(f"give exactly one of {wanted}{', not ' + ', '.join(names) if names else ''}")
    for option in given:
        option.check(typed[option.name], option.spelling if option in BUDGETS else option.name)
