"""Who imports whom is found wherever it is written, on a small tree in which everything is known."""

from __future__ import annotations

import textwrap
from pathlib import Path

import networkx
import pytest

from tools.house.imports import House, _home, circles, graph, house, modules, upward

SOURCES = {
    "modhifi_graph/__init__.py": "",
    "modhifi_graph/errors.py": "",
    "modhifi_graph/ground.py": """
        from typing import TYPE_CHECKING

        if TYPE_CHECKING:
            from modhifi_graph.jobs.run import Run
    """,
    "modhifi_graph/axes/__init__.py": "from modhifi_graph.axes.rules import RULES",
    "modhifi_graph/axes/rules.py": """
        import json

        import modhifi_graph.errors

        RULES = {}

        def late():
            from modhifi_graph import jobs
    """,
    "modhifi_graph/axes/one.py": "import modhifi_graph.axes.two",
    "modhifi_graph/axes/two.py": """
        def late():
            from modhifi_graph.axes.three import Three
    """,
    "modhifi_graph/axes/three.py": """
        from typing import TYPE_CHECKING

        if TYPE_CHECKING:
            from modhifi_graph.axes import one
    """,
    "modhifi_graph/jobs/__init__.py": "",
    "modhifi_graph/jobs/run.py": """
        from modhifi_graph.axes import RULES
        from modhifi_graph.axes.rules import RULES as SAME
        from modhifi_graph.passes.slim import Slim
        from modhifi_graph.passes.slim import Mask
    """,
    "passes/__init__.py": "",
    "passes/slim.py": "from modhifi_graphics import jobs",
    "exporters/backend.py": """
        from importlib import import_module

        def backend(name):
            return import_module(f"modhifi_graph.exporters.{name}")

        def importable(name):
            return import_module(name), import_module("json"), __import__("modhifi_graph.ground")
    """,
    "exporters/onnx.py": "from modhifi_graph.exporters.backend import backend",
}
PLAN = """
takes = "a model"
flow = ["load", "couple", "slim", "time"]

[[room]]
name = "ground"
holds = ["errors", "ground"]
does = "what everybody stands on"

[[room]]
name = "axes"
holds = ["axes"]
stages = { couple = "groups", load = "graph" }
does = "which axes are the same"

[[room]]
name = "passes"
holds = ["passes", "exporters"]
stages = { slim = "slim model" }
does = "graph to graph"

[[room]]
name = "jobs"
holds = ["jobs", "__init__"]
stages = { time = "latencies" }
does = "stages in order"
"""
CIRCLE = {
    ("axes.one", "axes.two"): (1, "name"),
    ("axes.two", "axes.three"): (3, "name"),
    ("axes.three", "axes.one"): (5, "name"),
}
UPWARD = {("ground", "jobs.run"): (5, "name"), ("axes.rules", "jobs.__init__"): (9, "name")}
DOWNWARD = {
    ("axes.__init__", "axes.rules"): (1, "name"),
    ("axes.rules", "errors"): (4, "name"),
    ("jobs.run", "axes.__init__"): (2, "name"),
    ("jobs.run", "axes.rules"): (3, "name"),
    ("jobs.run", "passes.slim"): (4, "name"),
    ("exporters.backend", "exporters.onnx"): (5, "beginning"),
    ("exporters.backend", "ground"): (8, "name"),
    ("exporters.onnx", "exporters.backend"): (1, "name"),
}


def write(root: Path, path: str, source: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(textwrap.dedent(source), encoding="utf-8")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for path, source in SOURCES.items():
        write(tmp_path, path, source)
    return tmp_path


@pytest.fixture
def plan(tmp_path: Path) -> House:
    write(tmp_path, "rooms.toml", PLAN)
    return house(tmp_path / "rooms.toml")


def edges(imports: networkx.DiGraph) -> dict[tuple[str, str], tuple[int, str]]:
    return {(one, other): (data["line"], data["by"]) for one, other, data in imports.edges(data=True)}


def test_every_import_is_found_at_its_first_line(tree: Path) -> None:
    assert edges(graph(modules(tree))) == {**CIRCLE, **UPWARD, **DOWNWARD}


def test_what_goes_up_is_found(tree: Path, plan: House) -> None:
    assert sorted(upward(graph(modules(tree)), plan)) == sorted(UPWARD)


def test_a_circle_is_found_once_and_a_look_up_makes_none(tree: Path) -> None:
    assert circles(graph(modules(tree))) == [["axes.one", "axes.two", "axes.three"]]


def test_of_several_circles_a_shortest_is_named(tree: Path) -> None:
    write(tree, "modhifi_graph/axes/three.py", "from modhifi_graph.axes import one, two")
    assert circles(graph(modules(tree))) == [["axes.three", "axes.two"]]


@pytest.mark.parametrize(
    ("imported", "found"),
    [
        ('import_module("modhifi_graph.jobs.run")', ["jobs.run"]),
        ('import_module(f"modhifi_graph.jobs.{name}")', ["jobs.__init__", "jobs.run"]),
        ('importlib.import_module("modhifi_graph.jobs." + name)', ["jobs.__init__", "jobs.run"]),
        ('importlib.import_module(f"modhifi_graph.axes.{name}")', []),
        ('importlib.import_module(f"onnx.{name}")', []),
    ],
)
def test_looking_upstairs_by_a_string_is_found(tree: Path, plan: House, imported: str, found: list[str]) -> None:
    write(tree, "passes/slim.py", f"def late(name):\n    return {imported}\n")
    assert [other for one, other in upward(graph(modules(tree)), plan) if one == "passes.slim"] == found


@pytest.mark.parametrize("name", ['f"{PACKAGE}.jobs.{name}"', '".jobs"', 'f".{name}"', 'PACKAGE + ".jobs"'])
def test_a_string_that_hides_its_package_is_refused(tree: Path, name: str) -> None:
    write(tree, "passes/slim.py", f"def late(name):\n    return import_module({name})\n")
    with pytest.raises(AssertionError, match=r"slim\.py:2: names are written from the package on"):
        graph(modules(tree))


def test_the_plan_is_read_with_its_flow_in_order(plan: House) -> None:
    assert plan.takes == "a model"
    assert [room.name for room in plan.rooms] == ["ground", "axes", "passes", "jobs"]
    assert [(stage.name, stage.room.name, stage.gives) for stage in plan.flow] == [
        ("load", "axes", "graph"),
        ("couple", "axes", "groups"),
        ("slim", "passes", "slim model"),
        ("time", "jobs", "latencies"),
    ]
    assert [plan.floor(name) for name in ("ground", "axes.rules", "passes.slim", "__init__")] == [0, 1, 2, 3]


@pytest.mark.parametrize("flow", ['["load", "couple", "slim"]', '["load", "couple", "slim", "time", "prove"]'])
def test_a_flow_that_is_not_that_of_the_rooms_is_refused(tmp_path: Path, flow: str) -> None:
    write(tmp_path, "rooms.toml", PLAN.replace('["load", "couple", "slim", "time"]', flow))
    with pytest.raises(ValueError, match="flow should name every stage of the rooms, each once"):
        house(tmp_path / "rooms.toml")


def test_a_module_without_a_room_is_refused_by_name(plan: House) -> None:
    with pytest.raises(ValueError, match="attic is in no room"):
        plan.floor("attic")


def test_a_lent_name_and_an_older_path_are_where_the_thing_is() -> None:
    assert _home("passes.fx.ModHiFi") == "dropins.torch_fx.ModHiFi"
    assert _home("exporters.olive") == "dropins.olive"
    assert _home("fidelity.SubsetFidelity") == "scoring.subset.SubsetFidelity"
    assert _home("optimize") == "jobs.optimize.optimize"
    assert _home("axes.groups.Group") == "axes.groups.Group"
    assert _home("") == ""
