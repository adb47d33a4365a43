"""Times that are kept: for whom, and what happens to a file that is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from modhifi_graph.latency.cache import Cache

ENGINE = {"backend": "onnxruntime", "version": "1", "device": "cpu", "threads": 1, "precision": "fp32"}


def test_what_was_saved_is_there_the_next_time(tmp_path: Path) -> None:
    first = Cache(ENGINE, tmp_path / "new")
    assert first.get("a") is None
    first.put("a", 1.5)
    first.save()
    assert Cache(ENGINE, tmp_path / "new").get("a") == 1.5


def test_another_engine_has_other_times(tmp_path: Path) -> None:
    first = Cache(ENGINE, tmp_path)
    first.put("a", 1.5)
    first.save()
    for key, other in (("threads", 2), ("version", "2"), ("backend", "openvino"), ("precision", "fp16")):
        assert Cache({**ENGINE, key: other}, tmp_path).get("a") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"engine": 1}', '{"engine": {}, "milliseconds": {"a": "b"}}'])
def test_a_damaged_file_is_no_file(tmp_path: Path, text: str) -> None:
    first = Cache(ENGINE, tmp_path)
    first.put("a", 1.5)
    first.save()
    (path,) = tmp_path.iterdir()
    path.write_text(text, encoding="utf-8")
    again = Cache(ENGINE, tmp_path)
    assert again.get("a") is None
    again.put("a", 2.5)
    again.save()
    assert Cache(ENGINE, tmp_path).get("a") == 2.5


def test_nowhere_and_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for place in (None, tmp_path / "file" / "below"):
        cache = Cache(ENGINE, place)
        cache.put("a", 1.5)
        cache.save()
        assert cache.get("a") == 1.5
