"""What a command says a model is worth is read from its output."""

from __future__ import annotations

import pytest

from modhifi_graph.errors import InputError
from tools.experiments.rating import parsed


@pytest.mark.parametrize(
    ("output", "key", "value"),
    [("83.25\n", None, 83.25), ('noise\n{"top1": 82.5, "n": 3}\n', "top1", 82.5), ("1e-3", None, 0.001)],
)
def test_scores_are_read(output: str, key: str | None, value: float) -> None:
    assert parsed(output, key) == value


@pytest.mark.parametrize(
    ("output", "key", "message"),
    [
        ("", None, "--score printed '' last; expected a number"),
        ("done", None, "--score printed 'done' last; expected a number"),
        ('{"top1": 1, "n": 3, "name": "x"}', None, "--score printed JSON; give --key, one of top1, n"),
        ('{"top1": 1}', "top5", "expected JSON with the number 'top5'"),
        ('{"top1": null}', "top1", "expected JSON with the number 'top1'"),
    ],
)
def test_scores_that_cannot_be_read(output: str, key: str | None, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parsed(output, key)
    assert message in str(caught.value)
