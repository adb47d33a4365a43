"""What machine this is: times hold for no other."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modhifi_graph.errors import InputError


def describe() -> dict[str, Any]:
    """``processor``, ``cores`` that this process may use, ``memory_gib`` (None where unknown), ``system`` and ``python``."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_gib": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


@contextmanager
def pinned(threads: int) -> Iterator[tuple[int, ...]]:
    """Keep this process, and the threads and processes that it starts meanwhile, on a few cores; gives their numbers.

    One for every thread, or all that the process may use for 0 threads; the last ones, since systems put their own work on
    the first. InputError where the system does not offer it, or has fewer cores.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise InputError("this system does not let a process choose its cores: time without --pin")
    before = os.sched_getaffinity(0)
    cores = sorted(before)[-threads:] if threads else sorted(before)
    if len(cores) < threads:
        raise InputError(
            f"{threads} threads cannot be pinned to {len(cores)} cores: give --threads {len(cores)} or fewer"
        )
    os.sched_setaffinity(0, cores)
    try:
        yield tuple(cores)
    finally:
        os.sched_setaffinity(0, before)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    return round(size / 2**30, 1)
