"""Public names and older paths: each is there, is the thing itself, and costs nothing before it is used."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import modhifi_graph
from modhifi_graph import public_names as public

OPTIONAL = {"modhifi_graph.exporters.olive"}
"""Needs what only the extra brings."""


@pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package in public.NAMES for name in public.names_of(package)]
)
def test_every_public_name_is_loaded_from_its_home(package: str, name: str) -> None:
    home = importlib.import_module(public.names_of(package)[name])
    assert getattr(importlib.import_module(package), name) is getattr(home, name)


def test_what_is_said_to_type_checkers_is_the_table() -> None:
    """The imports that only type checkers see cannot be made from data: they are held against it."""
    tree = ast.parse(Path(inspect.getfile(modhifi_graph)).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    said = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert said == public.names_of(public.ROOT)
    assert sorted(said) == sorted(modhifi_graph.__all__)
    assert set(modhifi_graph.__all__) <= set(dir(modhifi_graph))


def test_what_there_is_not_is_refused() -> None:
    for package in public.NAMES:
        with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
            importlib.import_module(package).nothing  # noqa: B018


@pytest.mark.parametrize("old", sorted(public.MOVED.keys() - OPTIONAL))
def test_an_older_path_is_the_same_module(old: str) -> None:
    assert importlib.import_module(old) is importlib.import_module(public.MOVED[old])


@pytest.mark.parametrize("old", sorted(public.MOVED))
def test_an_older_path_can_be_run(old: str) -> None:
    """As ``python -m`` looks for it; the module itself is not loaded for that."""
    finder, there = public.Moved(), importlib.util.find_spec(public.MOVED[old])
    assert finder.find_spec(old) is not None
    assert there is not None
    code = finder.get_code(old)
    assert code is not None
    assert code.co_filename == there.origin
    assert finder.get_source(old) == Path(there.origin or "").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "program",
    [
        "import modhifi_graph.page.write; assert callable(modhifi_graph.page.write)",
        "from modhifi_graph.page.write import write; from modhifi_graph.report import page; assert page.write is write",
        "import modhifi_graph as m; import modhifi_graph.fidelity.subset as s; assert s.SubsetFidelity is m.SubsetFidelity",
        "from modhifi_graph.passes.fx import *; from modhifi_graph.dropins.torch_fx import ModHiFi as b; assert ModHiFi is b",
        "import modhifi_graph.scoring.search, modhifi_graph; assert modhifi_graph.score.__name__ == 'score'",
    ],
)
def test_what_is_in_a_package_is_not_loaded_twice(program: str) -> None:
    """In a process of its own: what is loaded already is not looked for."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_not_moved_is_not_found() -> None:
    public.install()
    assert sum(isinstance(finder, public.Moved) for finder in sys.meta_path) == 1
    assert importlib.util.find_spec("modhifi_graph.nothing") is None


def test_importing_the_package_loads_nothing() -> None:
    """Nor do names that are only listed."""
    heavy = "torch numpy onnx onnx_ir onnxruntime networkx typer rich"
    program = (
        f"import sys, modhifi_graph; dir(modhifi_graph); print(*sorted(set('{heavy}'.split()) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
