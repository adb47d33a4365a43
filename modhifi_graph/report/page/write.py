"""The page as a string, and as a file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib import metadata, resources
from typing import Any

import jinja2
from markupsafe import Markup

from modhifi_graph.files import atomic_write
from modhifi_graph.report.page.contents import contents


def render(report: Mapping[str, Any], *, model: str = "model", command: str = "") -> str:
    """The page as HTML; the same report gives the same text.

    Parameters
    ----------
    report : dict
        What :func:`modhifi_graph.optimize` says of a run (``result.report``, or what ``--json`` prints). With ``details=True``
        it holds what each component costs and each layer takes; without, these are left out.
    model : str, default "model"
        What the model is called.
    command : str, optional
        The command line that made it, shown as it is.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = breakable
    said = contents(report, model=model, version=metadata.version("modhifi-graph"), command=command)
    # The style sheet is ours: quotes in it are not to be escaped.
    return environment.from_string(_read("template.html")).render(page=said, style=Markup(_read("style.css"))) + "\n"


def write(report: Mapping[str, Any], path: str | os.PathLike[str], *, model: str = "model", command: str = "") -> None:
    """Write the page to a file that appears whole or not at all; for the parameters see :func:`render`.

    Raises
    ------
    InputError
        The file cannot be written.

    Examples
    --------
    >>> from modhifi_graph import optimize, page
    >>> slim = optimize("model.onnx", "calib.npz", macs=0.5, details=True)   # doctest: +SKIP
    >>> page.write(slim.report, "report.html", model="model.onnx")           # doctest: +SKIP
    """
    text = render(report, model=model, command=command)
    with atomic_write(path) as temporary:
        # Names in a model may hold what UTF-8 has no place for.
        temporary.write_text(text, encoding="utf-8", errors="replace")


def breakable(name: str) -> Markup:
    """A name that may go on in the next line after a dot or a slash."""
    parts = re.split(r"(?<=[./])", name)
    return Markup("<wbr>").join(part for part in parts if part)


def _read(name: str) -> str:
    return resources.files("modhifi_graph.report.page").joinpath(name).read_text(encoding="utf-8")
