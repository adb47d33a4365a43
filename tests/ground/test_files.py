"""Files appear whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from modhifi_graph.errors import InputError
from modhifi_graph.files import atomic_write, cache_folder


def test_replaces_in_one_step_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    target.write_text("old")
    with atomic_write(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".json"
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["plan.json"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path, failure: type[BaseException]) -> None:
    target = tmp_path / "plan.json"
    target.write_text("old")
    with pytest.raises(failure), atomic_write(target) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise failure
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["plan.json"]


def test_a_full_disk_is_an_input_error(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"plan\.json: cannot be written: No space left"),
        atomic_write(tmp_path / "plan.json"),
    ):
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_refuses_a_missing_folder_and_a_folder_as_target(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"), atomic_write(tmp_path / "absent" / "a.json"):
        pass
    with pytest.raises(InputError, match="not a regular file"), atomic_write(tmp_path):
        pass


def test_refuses_a_device() -> None:
    with pytest.raises(InputError, match="not a regular file"), atomic_write(os.devnull):
        pass
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_keeps_permissions_and_follows_links(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    with atomic_write(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_a_new_file_follows_the_umask(tmp_path: Path) -> None:
    plain, atomic = tmp_path / "plain", tmp_path / "atomic"
    plain.write_text("")
    with atomic_write(atomic) as temporary:
        temporary.write_text("")
    assert stat.S_IMODE(atomic.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_the_folder_for_what_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MODHIFI_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("MODHIFI_CACHE", "")
    assert cache_folder() is None
    monkeypatch.delenv("MODHIFI_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "modhifi-graph"
