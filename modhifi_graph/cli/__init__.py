"""The command line: it reads options, calls the Python API and shows what comes back."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from modhifi_graph.cli import bench, compile, inspect, optimize, score, unlearn, verify
from modhifi_graph.cli.common import NAME, app
from modhifi_graph.errors import InputError, ModhifiError

DEBUG = "MODHIFI_DEBUG"
INTERRUPTED = 130
STOPPED = "interrupted; nothing was written"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    0 done, 2 wrong input, 3 not verified, 4 out of reach (with --require), 130 interrupted, 1 a defect of ours.
    """
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
        result = app(given, standalone_mode=False, obj=given)
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


app.command(epilog=optimize.EXAMPLES)(optimize.optimize)
app.command(epilog=unlearn.EXAMPLES)(unlearn.unlearn)
app.command(epilog=inspect.EXAMPLES)(inspect.inspect)
app.command(epilog=verify.EXAMPLES)(verify.verify)
app.command(epilog=compile.EXAMPLES)(compile.compile)
app.command(epilog=bench.EXAMPLES)(bench.bench)
app.command(epilog=score.EXAMPLES)(score.score)
