"""``modhifi-graph inspect``: what can be pruned, and why the rest cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modhifi_graph.cli.common import MODEL_HELP, Json, KeepBatchNorm, print_json

EXAMPLES = """\b
Examples:
  modhifi-graph inspect sample:digits-vit
  modhifi-graph inspect model.onnx --why conv1.weight"""


def inspect(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    why: Annotated[str | None, typer.Option(help="Explain the axes of a parameter, value or group.")] = None,
    graphml: Annotated[Path | None, typer.Option(help="Write ops and groups as a graph, for yEd or networkx.")] = None,
    keep_batchnorm: KeepBatchNorm = False,
    as_json: Json = False,
) -> None:
    """Show what can be pruned, what cannot, and why."""
    import dataclasses

    from modhifi_graph.jobs.inspect import inspect as run
    from modhifi_graph.report import terminal

    found = run(model, fold_batchnorm=not keep_batchnorm)
    reasons = None if why is None else found.why(why)
    if graphml is not None:
        found.to_graphml(graphml)
    if as_json:
        print_json(found.to_json() if reasons is None else [dataclasses.asdict(reason) for reason in reasons])
    else:
        terminal.show(terminal.inspection(found) if reasons is None else terminal.explanations(reasons))
