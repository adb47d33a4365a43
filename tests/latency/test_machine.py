"""What is said of the machine."""

from __future__ import annotations

import platform

from modhifi_graph.latency.machine import describe


def test_it_is_this_one() -> None:
    said = describe()
    assert said["python"] == platform.python_version()
    assert said["cores"] >= 1
    assert said["memory_gib"] is None or said["memory_gib"] > 0.1
    assert said["processor"]
    assert said["system"].startswith(platform.system())
