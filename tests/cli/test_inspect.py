"""``inspect``: its table, its JSON alone on standard output, and its reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

import modhifi_graph

from ..oracles import small

ESCAPE = "\x1b"


class TestInspect:
    def test_a_table(self, run: Any, chain: Path) -> None:
        result = run("inspect", chain)
        assert (result.code, result.err) == (0, "")
        first, header, *rows = result.out.splitlines()
        assert first.startswith(f"{chain}: 20,766 MACs a sample")
        assert header.split() == ["group", "size", "kind", "produced", "by", "consumed", "by", "MACs", "it", "governs"]
        assert rows[0].split()[:3] == ["w0", "8", "channels"]
        assert ESCAPE not in result.out

    def test_json(self, run: Any, chain: Path) -> None:
        data = run("inspect", chain, "--json").json()
        assert [(group["name"], group["size"]) for group in data["groups"]] == [("w0", 8), ("w1", 6)]
        assert data["macs"] == 20766

    def test_why(self, run: Any, chain: Path) -> None:
        result = run("inspect", chain, "--why", "w1")
        assert "  axis 1 = w0:8\n    factor of 8: group 'w0', can be pruned\n" in result.out
        data = run("inspect", chain, "--why", "w1", "--json").json()
        assert data[0]["axes"][1]["factors"] == [{"size": 8, "group": "w0", "reasons": []}]
        assert run("inspect", chain, "--why", "nothing").code == 2

    def test_graphml(self, run: Any, chain: Path) -> None:
        assert run("inspect", chain, "--graphml", chain.with_name("g.graphml")).code == 0
        assert chain.with_name("g.graphml").read_text().startswith("<?xml")
        assert run("inspect", chain, "--graphml", chain.parent / "no" / "g.graphml").code == 2

    def test_a_model_without_groups(self, run: Any, tmp_path: Path) -> None:
        text = "g (float[N,3] x) => (float[N,5] y) <float[3,5] w> { y = MatMul(x, w) }"
        onnx.save(small.build(text), tmp_path / "m.onnx")
        assert "Nothing in this model can be pruned." in run("inspect", tmp_path / "m.onnx").out


def test_inspect_is_the_api(chain: Path) -> None:
    assert modhifi_graph.inspect(chain).groups[0].name == "w0"
    assert numpy_helper.to_array(onnx.load(chain).graph.initializer[0]).shape == (8, 3, 3, 3)
