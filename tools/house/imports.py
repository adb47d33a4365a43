"""Who imports whom, read from the sources, and what the rooms of ``docs/rooms.toml`` have to say to it.

Imports inside functions and those for type checkers only count like any other. So do those by a string that is a whole name.
The beginning of one, as in ``import_module(f"modhifi_graph.exporters.{name}")``, is a look-up: it counts as an import of all
that begins so, but not towards circles, since who looks engines up by name knows none. Upstairs it may not look either.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import networkx

from modhifi_graph import public_names
from tools.command import ROOT

PACKAGE = "modhifi_graph"
ROOMS = ROOT / "docs" / "rooms.toml"

ELSEWHERE = ("passes", "exporters")
"""Packages of the library that stand at the top of the repository."""

IMPORTERS = ("import_module", "__import__")


@dataclass(frozen=True)
class Room:
    """One room; the fields are those of ``docs/rooms.toml``."""

    name: str
    holds: tuple[str, ...]
    does: str
    stages: Mapping[str, str]

    def has(self, module: str) -> bool:
        """Whether a module is in it, by its name below the package; the package itself is ``__init__``."""
        return any(module == held or module.startswith(f"{held}.") for held in self.holds)


@dataclass(frozen=True)
class Stage:
    """What the data goes through in a room, and what is handed on."""

    name: str
    room: Room
    gives: str


@dataclass(frozen=True)
class House:
    """The rooms from the ground up, and the stages of a run in their order."""

    rooms: tuple[Room, ...]
    takes: str
    flow: tuple[Stage, ...]

    def floor(self, module: str) -> int:
        """The number of the room that a module is in; ValueError where it is in none, or in several."""
        found = [number for number, room in enumerate(self.rooms) if room.has(module)]
        if len(found) != 1:
            among = " and ".join(self.rooms[number].name for number in found) or "no room"
            raise ValueError(f"{module} is in {among}: it should be held by exactly one room of {ROOMS.name}")
        return found[0]


def house(path: Path = ROOMS) -> House:
    """The data of a house; ValueError where the stages of the rooms are not those of the flow, each once."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    rooms = tuple(Room(r["name"], tuple(r["holds"]), r["does"], r.get("stages", {})) for r in data["room"])
    stages = [Stage(name, room, gives) for room in rooms for name, gives in room.stages.items()]
    if sorted(stage.name for stage in stages) != sorted(data["flow"]):
        raise ValueError(f"{path}: flow should name every stage of the rooms, each once")
    return House(rooms, data["takes"], tuple(sorted(stages, key=lambda stage: data["flow"].index(stage.name))))


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the library, by its name below the package."""
    folders = {"": root / PACKAGE, **{f"{name}.": root / name for name in ELSEWHERE}}
    return {
        prefix + ".".join(path.relative_to(folder).with_suffix("").parts): path
        for prefix, folder in folders.items()
        for path in sorted(folder.rglob("*.py"))
    }


def graph(found: Mapping[str, Path], package: str = PACKAGE) -> networkx.DiGraph:
    """An edge from every module to each that it imports; a package's own names are its ``__init__``'s.

    Edges have the first ``line`` that says so, and ``by`` what: a "name", or the "beginning" of one.
    """
    result = networkx.DiGraph()
    result.add_nodes_from(found)
    for name, path in found.items():
        for line, by, wanted in sorted(_imports(path, package)):
            if by == "name":
                wanted = _home(wanted) if package == PACKAGE else wanted
                targets = [target] if (target := _module(wanted, found)) is not None else []
            else:
                targets = [module for module in found if module.startswith(wanted)]
            for target in targets:
                known = result.get_edge_data(name, target)
                if target != name and (known is None or (by == "name" and known["by"] != "name")):
                    result.add_edge(name, target, line=line, by=by)
    return result


def upward(imports: networkx.DiGraph, plan: House) -> list[tuple[str, str]]:
    """Who imports whom from a room further up."""
    return [(one, other) for one, other in imports.edges if plan.floor(other) > plan.floor(one)]


def circles(imports: networkx.DiGraph) -> list[list[str]]:
    """Of every set of modules that import each other all around, a shortest circle."""
    known = imports.edge_subgraph(edge for edge in imports.edges if imports.edges[edge]["by"] == "name")
    tangles = [known.subgraph(sorted(tangle)) for tangle in networkx.strongly_connected_components(known)]
    return sorted(_shortest(tangle) for tangle in tangles if len(tangle) > 1)


def _shortest(tangle: networkx.DiGraph) -> list[str]:
    """A shortest circle, from the first of its modules by name."""
    ways = (networkx.shortest_path(tangle, other, one) for one, other in sorted(tangle.edges))
    best: Sequence[str] = min(ways, key=len)
    first = best.index(min(best))
    return [*best[first:], *best[:first]]


def _imports(path: Path, package: str) -> Iterator[tuple[int, str, str]]:
    """Line, kind and dotted name, below the package, of everything that a file imports from it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        by, names = "name", list[str]()
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: imports are absolute here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and _called(node) in IMPORTERS and node.args:
            by, beginning = _string(node.args[0])
            assert beginning is None or beginning.split(".")[0], (
                f"{path}:{node.lineno}: names are written from the package on"
            )
            names = [beginning or ""]
        for name in names:
            if name == package or name.startswith(f"{package}."):
                yield getattr(node, "lineno", 0), by, name.removeprefix(package).removeprefix(".")


def _called(call: ast.Call) -> str:
    """The last word of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _string(node: ast.expr) -> tuple[str, str | None]:
    """A string as far as it is written out: whole ("name"), the "beginning" of it, or None where nothing is."""
    match node:
        case ast.Constant(value=str(whole)):
            return "name", whole
        case ast.JoinedStr(values=[first, *_]) | ast.BinOp(left=first, op=ast.Add()):
            return "beginning", _string(first)[1] or ""
    return "beginning", None


def _home(name: str) -> str:
    """Where a public name is defined, or a module that is called by an older path, as ``public_names.py`` says."""
    whole = f"{PACKAGE}.{name}".rstrip(".")
    whole = public_names.moved(whole) or whole
    owner, _, last = whole.rpartition(".")
    homes = public_names.names_of(owner) if owner in public_names.NAMES else {}
    whole = f"{homes[last]}.{last}" if last in homes else whole
    return whole.removeprefix(PACKAGE).removeprefix(".")


def _module(name: str, found: Mapping[str, Path]) -> str | None:
    """The module that holds a name: itself one, or defined in one."""
    for candidate in (name, f"{name}.__init__" if name else "__init__"):
        if candidate in found:
            return candidate
    owner = name.rpartition(".")[0]
    return _module(owner, found) if name else None
