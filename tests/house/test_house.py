"""The house keeps the order of docs/rooms.toml: who is in which room, who may import whom, and how much fits in one place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import networkx
import pytest

from tools.house.imports import ELSEWHERE, PACKAGE, ROOT, House, circles, graph, house, modules, upward

AT_THE_ROOT = 10
IN_A_FOLDER = 15
LINES = 400


@pytest.fixture(scope="module")
def plan() -> House:
    return house()


@pytest.fixture(scope="module")
def found() -> dict[str, Path]:
    return modules()


@pytest.fixture(scope="module")
def imports(found: dict[str, Path]) -> networkx.DiGraph:
    return graph(found)


def listed(problems: list[str]) -> str:
    """What pytest shows: every problem on a line of its own."""
    return "\n".join([f"{len(problems)}:", *problems])


def where(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def folders(*names: str) -> Iterator[Path]:
    """Folders of the repository and all that are in them, but for what Python leaves there."""
    for name in names:
        for folder in [ROOT / name, *sorted((ROOT / name).rglob("*/"))]:
            if folder.is_dir() and folder.name != "__pycache__":
                yield folder


def files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.iterdir())


def test_every_module_is_in_one_room(plan: House, found: dict[str, Path]) -> None:
    held = {name: [room.name for room in plan.rooms if room.has(name)] for name in found}
    wrong = [f"{where(found[name])}: in {rooms or 'no room'}" for name, rooms in held.items() if len(rooms) != 1]
    assert not wrong, listed(wrong)


def test_everything_that_a_room_holds_is_there(plan: House, found: dict[str, Path]) -> None:
    wrong = [
        f"docs/rooms.toml: room {room.name!r} holds {held!r}, and there is no such module or package"
        for room in plan.rooms
        for held in room.holds
        if held not in found and f"{held}.__init__" not in found
    ]
    assert not wrong, listed(wrong)


def test_imports_go_down_or_stay_on_their_floor(plan: House, found: dict[str, Path], imports: networkx.DiGraph) -> None:
    wrong = [
        f"{where(found[one])}:{imports.edges[one, other]['line']}: {one} imports {other}, "
        f"from room {plan.rooms[plan.floor(one)].name!r} up to {plan.rooms[plan.floor(other)].name!r}"
        for one, other in upward(imports, plan)
    ]
    assert not wrong, listed(wrong)


def test_nothing_imports_in_a_circle(found: dict[str, Path], imports: networkx.DiGraph) -> None:
    wrong = [
        " -> ".join([*circle, circle[0]])
        + "".join(
            f"\n    {where(found[one])}:{imports.edges[one, other]['line']}: {one} imports {other}"
            for one, other in zip(circle, [*circle[1:], circle[0]], strict=True)
        )
        for circle in circles(imports)
    ]
    assert not wrong, listed(wrong)


def test_the_root_of_the_package_can_be_taken_in_at_a_glance() -> None:
    assert files(ROOT / PACKAGE) <= AT_THE_ROOT


def test_no_folder_has_more_files_than_one_can_name() -> None:
    counts = {where(folder): files(folder) for folder in folders(PACKAGE, *ELSEWHERE, "tools")}
    wrong = [f"{folder}: {count} files" for folder, count in counts.items() if count > IN_A_FOLDER]
    assert not wrong, listed(wrong)


def test_every_file_is_read_at_one_sitting() -> None:
    paths = [path for folder in folders(PACKAGE, *ELSEWHERE, "tools", "tests") for path in sorted(folder.glob("*.py"))]
    counts = {where(path): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    wrong = [f"{path}: {count} lines" for path, count in counts.items() if count > LINES]
    assert counts["tests/house/test_house.py"] < LINES
    assert not wrong, listed(wrong)
