"""``score``: what it writes, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest


def test_score_writes_arrays_a_picture_and_a_table(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    scores, picture = tmp_path / "scores.npz", tmp_path / "scores.svg"
    sample = ("score", "sample:digits-vit", "--samples", "40", "--threads", "1", "-q")
    result = run(*sample[:-1], "-o", scores, "--plot", picture, "--bounds")
    assert result.code == 0
    assert "FS 0.8" in result.out
    assert "What normalisations divide by" in result.out
    assert picture.read_bytes().startswith(b"<?xml")
    found = run(*sample, "-o", scores, "--json").json()
    with np.load(scores) as arrays:
        for group in found["groups"]:
            assert len(arrays[f"{group['name']}/fidelity"]) == group["size"]
            assert arrays[f"{group['name']}/curve"][group["smallest"]["0.8"] - 1] >= 0.8


def test_score_refuses_before_any_work(run: Any, chain: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores.npz"
    for arguments, message in (
        ((chain, "--plot", tmp_path / "scores.txt"), "pictures are written as .png"),
        ((chain, "--plot", scores), "would overwrite what --output writes"),
    ):
        result = run("score", *arguments, "-o", scores)
        assert result.code == 2
        assert message in result.err
        assert not scores.exists()
