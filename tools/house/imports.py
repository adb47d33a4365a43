"""Who imports whom, read from the sources: imports inside functions and those for type checkers only count like any other."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import networkx

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "modhifi_graph"
ROOMS = ROOT / "docs" / "rooms.toml"

ELSEWHERE = ("passes", "exporters")
"""Packages of the library that stand at the top of the repository."""


@dataclass(frozen=True)
class Room:
    """One room; the fields are those of ``docs/rooms.toml``."""

    name: str
    holds: tuple[str, ...]
    does: str
    stage: str | None = None

    def has(self, module: str) -> bool:
        """Whether a module is in it, by its name below the package; the package itself is ``__init__``."""
        return any(module == held or module.startswith(f"{held}.") for held in self.holds)


def rooms() -> tuple[Room, ...]:
    """From the ground up."""
    found = tomllib.loads(ROOMS.read_text(encoding="utf-8"))["room"]
    return tuple(Room(r["name"], tuple(r["holds"]), r["does"], r.get("stage")) for r in found)


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the library, by its name below the package."""
    folders = {"": root / PACKAGE, **{f"{name}.": root / name for name in ELSEWHERE}}
    return {
        prefix + ".".join(path.relative_to(folder).with_suffix("").parts): path
        for prefix, folder in folders.items()
        for path in sorted(folder.rglob("*.py"))
    }


def graph(found: Mapping[str, Path], package: str = PACKAGE) -> networkx.DiGraph:
    """An edge from every module to each that it imports; a package's own names are its ``__init__``'s."""
    result = networkx.DiGraph()
    result.add_nodes_from(found)
    for name, path in found.items():
        for line, wanted in _imports(path, package):
            target = _module(wanted, found)
            if target is not None and target != name:
                result.add_edge(name, target, line=line)
    return result


def _imports(path: Path, package: str) -> Iterator[tuple[int, str]]:
    """The line and the dotted name, below the package, of everything that a file imports from it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: imports are absolute here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name == package or name.startswith(f"{package}."):
                yield getattr(node, "lineno", 0), name.removeprefix(package).removeprefix(".")


def _module(name: str, found: Mapping[str, Path]) -> str | None:
    """The module that holds a name: itself one, or defined in one."""
    for candidate in (name, f"{name}.__init__" if name else "__init__"):
        if candidate in found:
            return candidate
    owner = name.rpartition(".")[0]
    return _module(owner, found) if name else None
