"""``modhifi-graph verify``: whether a finished file is what its plan describes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modhifi_graph.cli.common import MODEL_HELP, Json, Threads, print_json

EXAMPLES = "Example:  modhifi-graph verify model.onnx slim.onnx --plan plan.json"


def verify(
    dense: Annotated[str, typer.Argument(help=f"The original model. {MODEL_HELP}")],
    slim: Annotated[str, typer.Argument(help="What optimize wrote.")],
    plan: Annotated[Path, typer.Option(help="The plan that optimize wrote with --plan-out.")],
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Check that a finished file is the graph that its plan describes; exit 3 where it is not."""
    from modhifi_graph.prove.verification import verify_files
    from modhifi_graph.report import terminal

    found = verify_files(dense, slim, plan, threads=threads)
    if as_json:
        print_json(found.to_json())
    else:
        terminal.show(terminal.verification(found, slim))
