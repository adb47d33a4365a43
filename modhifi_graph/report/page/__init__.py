"""The report as one HTML page that needs nothing beside it: no network, no script, no other file.

    report -> sections, contents -> template.html, style.css -> page

``contents`` turns the report of a run into what the page says, ``sections`` what is drawn of it, with the SVG of ``charts``;
``write`` puts them into the template.
The same report gives the same bytes.
"""

from __future__ import annotations

from modhifi_graph.report.page.write import render, write

__all__ = ["render", "write"]
