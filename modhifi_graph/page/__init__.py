"""The report as one HTML page that needs nothing beside it: no network, no script, no other file.

    contents -> charts -> template.html + style.css -> page

``contents`` turns the report of a run into what the page says, ``charts`` turns numbers into SVG, ``write`` puts both together.
The same report gives the same bytes.
"""

from __future__ import annotations

from modhifi_graph.page.write import render, write

__all__ = ["render", "write"]
