"""Times that have been measured on this machine, kept between runs: one file for each way to run an engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modhifi_graph.files import atomic_write
from modhifi_graph.latency import machine


class Cache:
    """Milliseconds by the signature of a piece, for one backend, version, device, number of threads and processor."""

    def __init__(self, engine: Mapping[str, Any], folder: Path | None) -> None:
        about = {**engine, "processor": machine.describe()["processor"]}
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        self._path = None if folder is None else folder / f"latency-{key}.json"
        self._about = about
        self._times: dict[str, float] = _read(self._path, about)
        self._new = 0

    def get(self, signature: str) -> float | None:
        return self._times.get(signature)

    def put(self, signature: str, milliseconds: float) -> None:
        self._times[signature] = milliseconds
        self._new += 1

    def save(self) -> None:
        """Write what is new; a cache that cannot be written is no reason to fail."""
        if self._path is None or not self._new:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._path) as temporary:
                temporary.write_text(json.dumps({"engine": self._about, "milliseconds": self._times}), encoding="utf-8")
        except OSError:
            return
        self._new = 0


def _read(path: Path | None, about: Mapping[str, Any]) -> dict[str, float]:
    """Times from a file; none where it is not there, or not one of ours."""
    if path is None or not path.is_file():
        return {}
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["engine"] != about:
            return {}
        return {str(key): float(value) for key, value in held["milliseconds"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
