"""Tools are packages by purpose: run and imported one way, in no circle, and without the tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import networkx

from tools.command import ROOT
from tools.house.imports import circles, graph

TOOLS = ROOT / "tools"
MODULES = {".".join(path.relative_to(TOOLS).with_suffix("").parts): path for path in sorted(TOOLS.rglob("*.py"))}
COMMANDS = {name for name, path in MODULES.items() if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")}

LOADERS = {"spec_from_file_location", "SourceFileLoader", "runpy", "run_path", "run_module", "syspath_prepend"}
"""What else finds a module than its name; and so does a change of ``sys.path``."""

FOREIGN = {
    "tools/experiments/subjects.py": "evaluate.py, beside the real models and data, is no module of this repository"
}
"""Who loads a file by its path, and why."""

DOCUMENTS = (
    *(path.name for path in ROOT.glob("*.md")),
    *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    "modhifi_graph/samples/README.md",
)


def names(path: Path) -> Iterator[str]:
    """Everything that a file imports, by statements and by words."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name


def loaders(path: Path) -> set[str]:
    """What a file calls or imports to find modules elsewhere."""
    found = {part for name in names(path) for part in (name, *name.split("."))}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Attribute(value=ast.Name(id="sys"), attr="path"):
                found.add("sys.path")
            case ast.Attribute(attr=name) | ast.Name(id=name):
                found.add(name)
    return found & {*LOADERS, "sys.path"}


def test_only_what_all_share_lies_loose() -> None:
    assert {path.name for path in TOOLS.glob("*.py")} == {"__init__.py", "command.py"}


def test_nothing_is_imported_from_the_tests() -> None:
    assert {name: path for name, path in MODULES.items() if any(n.split(".")[0] == "tests" for n in names(path))} == {}


def test_modules_are_found_by_their_names() -> None:
    """Also by the tests of them: a file that is loaded twice has two of every class."""
    files = [*MODULES.values(), *(ROOT / "tests" / "tools").rglob("*.py")]
    assert {path.relative_to(ROOT).as_posix() for path in files if loaders(path)} == set(FOREIGN)


def test_no_module_and_no_package_needs_itself() -> None:
    modules = graph(MODULES, "tools")
    assert modules.has_edge("timing.speedup_runs", "peers.compare"), "the graph is of these modules"
    packages = networkx.DiGraph()
    packages.add_edges_from(((a.split(".")[0], b.split(".")[0]) for a, b in modules.edges), by="name")
    assert circles(modules) == circles(packages) == []


def test_commands_are_there_under_the_names_that_are_written() -> None:
    for path in (*(ROOT / name for name in DOCUMENTS), *MODULES.values()):
        for how, name in re.findall(r"\bpython (-m )?(tools[./][\w./]*\w)", path.read_text(encoding="utf-8")):
            assert how, f"{path}: {name} is run by its name, python -m"
            module = name.removeprefix("tools.")
            assert COMMANDS & {module, f"{module}.__main__"}, f"{path}: there is no {name}"


def test_every_command_says_how_it_is_called() -> None:
    for name in COMMANDS:
        said = ast.get_docstring(ast.parse(MODULES[name].read_text(encoding="utf-8"))) or ""
        assert re.search(rf"python -m tools\.{name.removesuffix('.__main__')}\b", said), name
