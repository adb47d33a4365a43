"""Documents are filled between their markers and nowhere else."""

from __future__ import annotations

import pytest

from modhifi_graph.errors import InputError
from tools.experiments.document import filled


def test_a_document_needs_a_place_for_each_table() -> None:
    text = "a\n<!-- noise -->\nold\n<!-- /noise -->\nb"
    assert filled(text, {"noise": "| new |"}) == "a\n<!-- noise -->\n| new |\n<!-- /noise -->\nb"
    assert filled(text, {"noise": r"\1"}) == "a\n<!-- noise -->\n\\1\n<!-- /noise -->\nb"
    with pytest.raises(InputError, match="no place for bounds"):
        filled(text, {"bounds": ""})
