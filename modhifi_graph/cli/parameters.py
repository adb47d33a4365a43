"""From the table of options to what typer reads, and from what was typed to what Python takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar, cast

import typer

from modhifi_graph.options.option import Option
from modhifi_graph.options.table import BY_NAME

Command = TypeVar("Command", bound=Callable[..., None])


def completes(*names: str) -> Callable[[str], list[str]]:
    """What of some names goes on from what has been typed."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def described(name: str) -> Any:
    """What typer is told about an option of the table, for the annotation of a parameter.

    Typer itself refuses numbers below a range that has no upper end; messages about fractions and goals are ours.
    """
    option = BY_NAME[name]
    return typer.Option(
        *([option.flag] if option.flag else []),
        help=option.help,
        min=option.range.low if option.range is not None and option.range.high is None else None,
        autocompletion=completes(*option.choices) if option.choices else None,
    )


def takes(options: Sequence[Option], after: Mapping[str, str]) -> Callable[[Command], Command]:
    """Let typer see options of the table in place of a command's ``**typed``.

    Parameters
    ----------
    options : in the order of the help.
    after : of parameters of the command's own, the option that each comes after; others that may be left out come last.
    """

    def decorated(command: Command) -> Command:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD]
        found = [parameter for parameter in own if parameter.default is parameter.empty]
        for option in options:
            found.append(_parameter(option))
            found += [parameter for parameter in own if after.get(parameter.name) == option.name]
        found += [parameter for parameter in own if parameter not in found]
        named = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in found]
        cast(Any, command).__signature__ = inspect.Signature(named)
        return command

    return decorated


def taken(options: Sequence[Option], typed: Mapping[str, Any]) -> dict[str, Any]:
    """What Python takes for each option, by its name; from what was typed, by the names of the command's parameters."""
    return {option.name: _read(option, typed[_argument(option)]) for option in options}


def _argument(option: Option) -> str:
    """The name of a command's parameter."""
    return option.spelling.removeprefix("--").replace("-", "_")


def _parameter(option: Option) -> inspect.Parameter:
    kind: Any = option.typed or option.kind
    if option.is_switch:
        default = False if kind is bool else None  # given at all, it changes the default
    else:
        default = option.default or None if option.typed else option.default
    annotation = kind if default is not None else kind | None
    return inspect.Parameter(
        _argument(option),
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[annotation, described(option.name)],
    )


def _read(option: Option, value: Any) -> Any:
    if option.is_switch:
        return option.default != (value not in (None, False))
    if value is None:
        return option.default
    return READ[option.name](value) if option.name in READ else value


def _plan(path: Any) -> Any:
    from modhifi_graph.plan import Plan

    return Plan.load(path)


def _preprocess(text: str) -> Any:
    from modhifi_graph.inputs.image_folders import Preprocess

    return Preprocess.parse(text)


READ: Mapping[str, Callable[[Any], Any]] = {"plan": _plan, "preprocess": _preprocess}
"""What becomes of what is typed, where Python takes something else; imported when it is wanted, as help must not wait."""
