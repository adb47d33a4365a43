"""The table of options, and that what is written out elsewhere says the same: the signature, and what a run keeps of it."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from typing import Any

import pytest

from modhifi_graph.errors import InputError
from modhifi_graph.jobs.optimize import optimize
from modhifi_graph.options.option import REQUIRED, Option, either
from modhifi_graph.options.request import LATER, Options, made
from modhifi_graph.options.table import AIMS, BUDGETS, BY_NAME, GOALS, OPTIONS, PAPER, PARAMETERS
from modhifi_graph.select.budget import Budget, Limits
from modhifi_graph.select.goal import KINDS

SIGNATURE = inspect.signature(optimize).parameters
CHOOSING = [option for option in OPTIONS if option.choices]
WRONG: dict[str, tuple[float, str]] = {
    "macs": (0, "macs is 0; expected a fraction above 0 and at most 1"),
    "params": (1.5, "params is 1.5; expected a fraction above 0 and at most 1"),
    "keep": (float("nan"), "keep is nan; expected a fraction above 0 and at most 1"),
    "speedup": (0.5, "speedup is 0.5; expected at least 1, so many times as fast as the dense engine"),
    "latency": (float("inf"), "latency is inf; expected milliseconds above 0"),
    "fidelity": (2, "fidelity is 2; expected a fraction above 0 and at most 1"),
    "percentile": (1, "percentile is 1; expected a fraction between 0 and 1"),
    "rounds": (0, "rounds is 0; expected at least 1"),
    "align": (0, "align is 0; expected at least 1"),
    "min_keep": (-1, "min_keep is -1; expected at least 1"),
    "bench_seconds": (-0.5, "bench_seconds is -0.5; expected at least 0"),
    "batch": (0, "batch is 0; expected at least 1"),
}
"""For every range a number that is not in it, and what is said."""


def named(option: Option) -> str:
    return option.name


def test_it_loads_nothing_heavy() -> None:
    script = (
        "import sys, modhifi_graph.options.table; "
        "print([m for m in ('torch', 'onnx', 'onnx_ir', 'onnxruntime', 'numpy', 'typer') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


class TestEachOption:
    def test_names_are_there_once(self) -> None:
        assert len(BY_NAME) == len(PARAMETERS) == len({option.spelling or option.name for option in PARAMETERS})

    @pytest.mark.parametrize("option", PARAMETERS, ids=named)
    def test_it_says_what_it_does(self, option: Option) -> None:
        assert option.text or option.help
        assert bool(option.help) == option.spelling.startswith("--")
        for text in (option.text, option.help):
            assert "\n" not in text
            assert not text or text.endswith(".")

    @pytest.mark.parametrize("option", CHOOSING, ids=named)
    def test_its_help_names_the_choices(self, option: Option) -> None:
        assert [name for name in option.choices if name not in option.help] == []

    @pytest.mark.parametrize("option", OPTIONS, ids=named)
    def test_it_takes_its_own_defaults(self, option: Option) -> None:
        for value in (option.default, *option.of_mode.values()):
            option.check(value)

    def test_which_say_how_much_is_to_stay(self) -> None:
        assert tuple(option.name for option in GOALS) == KINDS
        assert either([option.name for option in AIMS], "and") == (
            "macs, params, keep, speedup, latency, fidelity and plan"
        )


class TestSignature:
    """``optimize`` spells the table out, for those who read it and for type checkers."""

    def test_names_and_defaults(self) -> None:
        found = {name: parameter.default for name, parameter in SIGNATURE.items()}
        wanted = {o.name: inspect.Parameter.empty if o.default is REQUIRED else o.default for o in PARAMETERS}
        assert list(found.items()) == list(wanted.items())

    def test_types(self) -> None:
        plain = [option for option in OPTIONS if isinstance(option.kind, type)]
        for option in plain:
            wanted = f"{option.kind.__name__}{' | None' if option.default is None else ''}"  # type: ignore[union-attr]
            assert SIGNATURE[option.name].annotation == wanted, option.name
        assert len(plain) > 20

    def test_what_is_not_an_option_comes_first_or_last(self) -> None:
        names = [option.name for option in PARAMETERS]
        assert names[:3] + names[-2:] == ["model", "inputs", "calib", "dynamic_shapes", "progress"]
        assert names[3:-2] == [option.name for option in OPTIONS]


class TestKept:
    """What a run keeps: :class:`Options`, whose defaults are those of mode "default"."""

    def test_names_and_defaults(self) -> None:
        fields = [*dataclasses.fields(Options), *dataclasses.fields(Limits)]
        found = {field.name: field.default for field in fields}
        assert set(found) - set(BY_NAME) == {"goal", "limits"}
        assert {option.name for option in OPTIONS} - set(found) == {option.name for option in (*BUDGETS, *GOALS)}
        for name in set(found) & set(BY_NAME):
            option = BY_NAME[name]
            assert found[name] == option.of_mode.get("default", option.default), name

    def test_one_budget_and_else_nothing(self) -> None:
        assert made(macs=0.5) == Options(budget=Budget("macs", 0.5))
        assert made(budget=Budget("macs", 0.5), criterion=None, compensation="") == made(macs=0.5)

    def test_defaults_of_a_mode(self) -> None:
        paper = made(mode="paper", rounds=2)
        assert (paper.criterion, paper.compensation) == ("fidelity", "scalar")
        assert (paper.reestimate_batchnorm, paper.limits.align) == (True, 1)
        default = made(macs=0.5)
        assert (default.criterion, default.compensation) == ("obs", "joint")
        assert (default.reestimate_batchnorm, default.limits.align) == (False, None)

    def test_what_is_given_goes_before_the_mode(self) -> None:
        given = {"criterion": "energy", "compensation": "none", "reestimate_batchnorm": False, "align": 4}
        paper = made(mode="paper", **given)
        assert (paper.criterion, paper.compensation) == ("energy", "none")
        assert (paper.reestimate_batchnorm, paper.limits.align) == (False, 4)

    def test_what_there_is_not(self) -> None:
        with pytest.raises(TypeError, match="unexpected keyword argument 'criteron'"):
            made(macs=0.5, criteron="obs")


class TestChecks:
    @pytest.mark.parametrize("option", CHOOSING, ids=named)
    def test_choices(self, option: Option) -> None:
        mode = {"mode": "paper", "rounds": 1} if option in PAPER else {"macs": 0.5}
        for name in option.choices:
            option.check(name)
        with pytest.raises(InputError) as caught:
            made(**{**mode, option.name: "taste"})
        assert str(caught.value) == f"{option.name} 'taste' is unknown; choose one of {', '.join(option.choices)}"

    @pytest.mark.parametrize("name", WRONG)
    def test_ranges(self, name: str) -> None:
        value, message = WRONG[name]
        aim: dict[str, Any] = {} if BY_NAME[name] in AIMS else {"macs": 0.5}
        mode: dict[str, Any] = {"mode": "paper"} if BY_NAME[name] in PAPER else aim
        with pytest.raises(InputError) as caught:
            made(**mode, **{name: value})
        assert str(caught.value) == message

    def test_every_range_has_its_case(self) -> None:
        assert set(WRONG) == {option.name for option in OPTIONS if option.range is not None} - set(LATER)

    def test_what_only_mode_paper_looks_at_is_not_looked_at_in_another(self) -> None:
        assert made(macs=0.5, percentile=9, hifi_sets="kernel").criterion == "obs"

    def test_what_is_checked_where_the_file_is_known(self) -> None:
        assert made(macs=0.5, samples=0, threads=-1).samples == 0
