"""What typer sees is the table, and what comes of what is typed."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from modhifi_graph.cli import optimize
from modhifi_graph.cli.parameters import described, taken, takes
from modhifi_graph.inputs.image_folders import Preprocess
from modhifi_graph.options.option import Option
from modhifi_graph.options.table import BY_NAME, OPTIONS
from modhifi_graph.plan import GroupPlan, Plan

SEEN = inspect.signature(optimize.optimize).parameters
OWN = ("context", "model", "output", "pareto", "require", "plan_out", "as_json", "quiet")


def test_what_is_in_the_help_is_the_table_in_its_order() -> None:
    names = [name for name in SEEN if name not in OWN]
    assert names == [option.spelling.removeprefix("--").replace("-", "_") for option in optimize.TYPED]
    assert {option.name for option in OPTIONS} - {option.name for option in optimize.TYPED} == {"budget"}


def test_the_commands_own_options_stand_where_they_belong() -> None:
    names = list(SEEN)
    assert names[:3] == ["context", "model", "output"]
    assert names[-2:] == ["as_json", "quiet"]
    for own, before in (("pareto", "fidelity"), ("require", "backend"), ("plan_out", "plan")):
        assert names[names.index(own) - 1] == before


@pytest.mark.parametrize(
    ("name", "kind", "default", "least"),
    [
        ("macs", float | None, None, None),
        ("speedup", float | None, None, None),
        ("backend", str, "onnxruntime", None),
        ("plan", Path | None, None, None),
        ("report", Path | None, None, None),
        ("percentile", float, 0.1, None),
        ("rounds", int | None, None, 1),
        ("only", list[str] | None, None, None),
        ("min_keep", int, 1, 1),
        ("preprocess", str | None, None, None),
        ("keep_batchnorm", bool, False, None),
        ("reestimate_batchnorm", bool | None, None, None),
        ("threads", int, 0, 0),
        ("bench_seconds", float, 2.0, 0),
        ("depth", bool | None, None, None),
    ],
)
def test_types_defaults_and_least_values(name: str, kind: Any, default: Any, least: float | None) -> None:
    found, info = get_args(SEEN[name].annotation)
    assert (found, SEEN[name].default, info.min, info.max) == (kind, default, least, None)


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.choices], ids=lambda option: option.name)
def test_choices_are_completed(option: Option) -> None:
    complete = described(option.name).autocompletion
    assert complete("") == list(option.choices)
    assert complete(option.choices[1]) == [option.choices[1]]


def test_other_options_are_not_completed() -> None:
    assert described("seed").autocompletion is None


class TestTaken:
    @staticmethod
    def typed(**given: Any) -> dict[str, Any]:
        """What Python takes when some are typed and the others left out."""
        return taken(optimize.TYPED, {**{name: parameter.default for name, parameter in SEEN.items()}, **given})

    def test_nothing_is_the_defaults_of_python(self) -> None:
        assert self.typed() == {option.name: option.default for option in optimize.TYPED}

    @pytest.mark.parametrize(
        ("given", "wanted"),
        [
            ({"macs": 0.5}, {"macs": 0.5}),
            ({"keep_batchnorm": True}, {"fold_batchnorm": False}),
            ({"report": Path("page.html")}, {"details": True}),
            ({"only": ["a", "b*"]}, {"only": ["a", "b*"]}),
            ({"depth": False}, {"depth": False}),
            ({"seed": 0}, {"seed": 0}),
            ({"preprocess": "mean=0.5;size=8"}, {"preprocess": Preprocess(mean=(0.5,), size=(8, 8))}),
        ],
    )
    def test_what_comes_of_what_is_typed(self, given: dict[str, Any], wanted: dict[str, Any]) -> None:
        assert self.typed(**given) == {**self.typed(), **wanted}

    def test_a_plan_is_read(self, tmp_path: Path) -> None:
        plan = Plan((GroupPlan("w0", 4, (0, 2)),))
        (tmp_path / "plan.json").write_text(json.dumps(plan.to_json()))
        assert self.typed(plan=tmp_path / "plan.json")["plan"] == plan


def test_a_command_of_its_own() -> None:
    seen: dict[str, Any] = {}
    app = typer.Typer()

    @app.command()
    @takes([BY_NAME["seed"], BY_NAME["min_keep"]], after={"between": "seed"})
    def command(model: str, between: bool = False, last: int = 3, **typed: Any) -> None:
        """A command."""
        seen.update(model=model, between=between, last=last, **typed)

    assert list(inspect.signature(command).parameters) == ["model", "seed", "between", "min_keep", "last"]
    app(["m", "--min-keep", "2", "--between"], standalone_mode=False)
    assert seen == {"model": "m", "seed": 0, "between": True, "min_keep": 2, "last": 3}
