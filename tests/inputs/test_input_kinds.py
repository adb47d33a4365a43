"""What inputs are taken for."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from modhifi_graph.dialects.onnx import lift
from modhifi_graph.inputs.input_kinds import Reading, read

from ..oracles import small


def readings(text: str) -> dict[str, Reading]:
    graph = lift(ir.from_proto(small.build(text))).graph
    return {reading.spec.name: reading for reading in read(graph)}


@pytest.mark.parametrize(
    ("shape", "kind", "axis"),
    [
        ("float[N,3,32,32]", "picture", 1),
        ("float[N,1,H,W]", "picture", 1),
        ("float[1,4,64,48]", "picture", 1),
        ("float[N,32,32,3]", "picture", 3),
        ("uint8[N,224,224,3]", "picture", 3),
        ("uint8[N,3,H,W]", "picture", 1),
        ("float[N,2,32,32]", "numbers", 1),
        ("float[N,3,4,32]", "numbers", 1),
        ("float[N,3,8,8,8]", "numbers", 1),
        ("float[N,7]", "numbers", 1),
        ("float[N,16000]", "numbers", 1),
        ("float", "numbers", 1),
        ("int64[N,32]", "bits", 1),
        ("int32[N,3,32,32]", "bits", 1),
        ("bool[N]", "bits", 1),
    ],
)
def test_by_shape_and_type(shape: str, kind: str, axis: int) -> None:
    found = readings(f"g ({shape} x) => ({shape} y) {{ y = Identity(x) }}")["x"]
    assert (found.kind, found.axis) == (kind, axis)


ENCODER = """
g (int64[N,T] input_ids, int64[N,T] attention_mask, int64[N,T] token_type_ids, int64[N,T] position_ids) => (float[N,T,4] y)
<float[50,4] words, float[2,4] kinds, float[16,4] places>
{
  w = Gather(words, input_ids)
  k = Gather(kinds, token_type_ids)
  p = Gather(places, position_ids)
  wk = Add(w, k)
  e = Add(wk, p)
  m = Cast <to = 1> (attention_mask)
  axes = Constant <value_ints = [2]> ()
  mu = Unsqueeze(m, axes)
  y = Mul(e, mu)
}
"""


def test_an_encoder() -> None:
    found = readings(ENCODER)
    assert {name: reading.kind for name, reading in found.items()} == {
        "input_ids": "tokens",
        "attention_mask": "ones",
        "token_type_ids": "zeros",
        "position_ids": "positions",
    }
    assert (found["input_ids"].limit, found["position_ids"].limit) == (50, 16)
    assert found["input_ids"].why == "looked up in a table of 50"


def test_tokens_behind_other_ops_and_in_several_tables() -> None:
    found = readings(
        """
        g (int32[N,T] a) => (float[N,T,4] y)
        <float[50,4] words, float[40,4] others>
        { b = Cast <to = 7> (a)  c = Identity(b)  w = Gather(words, c)  o = Gather(others, b)  y = Add(w, o) }
        """
    )["a"]
    assert (found.kind, found.limit) == ("tokens", 40)


def test_one_hot_vectors() -> None:
    found = readings(
        """
        g (int32[N,T] a) => (float[N,T,257] y)
        <int64 depth = {257}, float[2] values = {0.0, 1.0}>
        { y = OneHot(a, depth, values) }
        """
    )["a"]
    assert (found.kind, found.limit) == ("tokens", 257)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [("N,1,16000", "sound"), ("N,1,T", "sound"), ("N,1,100", "numbers"), ("N,3,16000", "numbers")],
)
def test_sound_is_what_a_convolution_runs_along(shape: str, kind: str) -> None:
    channels = shape.split(",")[1]
    text = f"""
    g (float[{shape}] x) => (float[N,8,U] y)
    <float[8,{channels},5] w, float half = {{0.5}}>
    {{ h = Mul(x, half)  y = Conv(h, w) }}
    """
    assert readings(text)["x"].kind == kind
