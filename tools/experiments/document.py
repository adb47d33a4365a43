"""Documents that are filled from CSVs: the text between ``<!-- NAME -->`` and ``<!-- /NAME -->`` is an experiment's table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from modhifi_graph.errors import InputError
from modhifi_graph.files import atomic_write


def filled(document: str, tables: Mapping[str, str]) -> str:
    """The document with these tables between their markers; a marker that is missing is an error."""
    for name, table in tables.items():
        between = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if len(between.findall(document)) != 1:
            raise InputError(f"the document has no place for {name}: <!-- {name} --> and <!-- /{name} -->, once")
        document = between.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", document)  # type: ignore[misc]
    return document


def refill(document: Path, tables: Mapping[str, str]) -> None:
    """The same, of a file, where it exists."""
    if not document.exists():
        return
    text = filled(document.read_text(encoding="utf-8"), tables)
    with atomic_write(document) as temporary:
        temporary.write_text(text, encoding="utf-8")
