"""Files that appear whole or not at all, and the folder for what is kept between runs."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from modhifi_graph.errors import InputError

CACHE = "MODHIFI_CACHE"
"""The environment variable that says where; empty for nowhere. By default ``modhifi-graph`` in the user's cache."""


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path; when the block succeeds, what was written there becomes `path` in one step.

    The temporary file lies in the same folder (a rename is atomic only within one file system) and has the same
    suffix (some writers look at it). It is synced to disk before the rename. When the block raises, Ctrl-C
    included, it is removed and `path` is as it was. A symbolic link is followed, and an existing file keeps its
    permissions. The block should do nothing but write: an `OSError` inside it is reported as a failed write.

    Parameters
    ----------
    path : str or path-like
        The file to create or replace.

    Yields
    ------
    Path
        An empty file, to be written and closed within the block.

    Raises
    ------
    InputError
        The folder is missing, `path` is not a regular file, or the system refuses the write (permissions, full disk).

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "plan.json"
    >>> with atomic_write(target) as temporary:
    ...     _ = temporary.write_text("{}")
    >>> target.read_text()
    '{}'
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise InputError(f"{path}: the folder {target.parent} does not exist; create it first")
    # Replacing a device such as /dev/null by a file would succeed for root, and break the machine.
    if target.exists() and not target.is_file():
        raise InputError(f"{path}: exists and is not a regular file; choose another name")
    temporary = target.parent / f".modhifi-{secrets.token_hex(8)}{target.suffix}"
    try:
        # os.open and not tempfile: the mode then follows the user's umask, as for any file they write.
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        if target.exists():
            os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
    except OSError as error:
        _remove(temporary)
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    except BaseException:
        _remove(temporary)
        raise
    # The rename itself lives in the folder. Some file systems cannot sync one; the file is already whole there.
    with contextlib.suppress(OSError):
        _sync(target.parent)


def cache_folder() -> Path | None:
    """Where what was measured or built is kept between runs; None where the user wants it nowhere."""
    given = os.environ.get(CACHE)
    if given is not None:
        return Path(given) if given else None
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "modhifi-graph"


def _remove(path: Path) -> None:
    # The reason for the failure matters more than a leftover that cannot be removed.
    with contextlib.suppress(OSError):
        path.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
