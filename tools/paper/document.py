"""REPRODUCTION.md: the text between ``<!-- NAME -->`` and ``<!-- /NAME -->`` is the table of an experiment's CSV."""

from __future__ import annotations

import re
from collections.abc import Mapping

from modhifi_graph.errors import InputError


def filled(document: str, tables: Mapping[str, str]) -> str:
    """The document with these tables between their markers; a marker that is missing is an error."""
    for name, table in tables.items():
        between = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if len(between.findall(document)) != 1:
            raise InputError(f"the document has no place for {name}: <!-- {name} --> and <!-- /{name} -->, once")
        document = between.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", document)  # type: ignore[misc]
    return document
