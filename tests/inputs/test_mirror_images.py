"""Mirror images beside calibration pictures."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from modhifi_graph.dialects.onnx import lift
from modhifi_graph.graph import Graph
from modhifi_graph.inputs.batches import Batches
from modhifi_graph.inputs.mirror_images import SCARCE, with_mirrors

from ..oracles import small


def graph(shape: str) -> Graph:
    text = f"g ({shape} x, float[N,2] z) => ({shape} y, float[N,2] w) {{ y = Relu(x) w = Relu(z) }}"
    return lift(ir.from_proto(small.build(text))).graph


PHOTOGRAPHS, LAST, GREY, VECTORS = (graph(f"float[N,{s}]") for s in ("3,8,8", "8,8,3", "1,8,8", "3,8"))


def batches(*shape: int, count: int = 2, tensors: bool = False) -> Batches:
    random = np.random.default_rng(0)
    feeds = [
        {k: random.standard_normal(s, np.float32) for k, s in (("x", shape), ("z", (shape[0], 2)))}
        for _ in range(count)
    ]
    return Batches([{k: torch.from_numpy(a) for k, a in f.items()} if tensors else f for f in feeds], count * shape[0])


@pytest.mark.parametrize(("found", "shape", "axis"), [(PHOTOGRAPHS, (4, 3, 8, 8), 3), (LAST, (4, 8, 8, 3), 2)])
@pytest.mark.parametrize("tensors", [False, True])
def test_photographs_come_with_their_mirror_images(
    found: Graph, shape: tuple[int, ...], axis: int, tensors: bool
) -> None:
    given = batches(*shape, tensors=tensors)
    data = with_mirrors(given, found, None)
    assert data.samples == given.samples == 8
    assert data.to_json()["mirrored"] is True
    assert len(data.feeds) == 4
    for before, after in zip(data.feeds[:2], data.feeds[2:], strict=True):
        np.testing.assert_array_equal(np.asarray(after["x"]), np.flip(np.asarray(before["x"]), axis))
        assert after["z"] is before["z"]


@pytest.mark.parametrize(("found", "shape"), [(GREY, (4, 1, 8, 8)), (VECTORS, (4, 3, 8))])
def test_what_may_be_writing_or_is_no_picture_does_not(found: Graph, shape: tuple[int, ...]) -> None:
    data = batches(*shape)
    assert with_mirrors(data, found, None) is data
    assert with_mirrors(data, found, False) is data
    assert len(with_mirrors(data, found, True).feeds) == (4 if found is GREY else 2)


def test_many_do_not() -> None:
    data = batches(4, 3, 8, 8)
    many = Batches(list(data.feeds) * (SCARCE // (2 * 4 * 64)), SCARCE // 64)
    assert with_mirrors(many, PHOTOGRAPHS, None) is many
    assert with_mirrors(Batches(many.feeds[1:], 1), PHOTOGRAPHS, None).mirrored
    assert with_mirrors(data, PHOTOGRAPHS, False) is data
