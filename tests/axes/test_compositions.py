"""Random chains of pieces of graph: what a rule gets right alone, it must get right behind another."""

from __future__ import annotations

import random
import re

import numpy as np
import onnx
import pytest
from onnx import compose

from ..oracles import small
from ..oracles.equivalence import Case, run
from .moves import MOVES
from .pieces import NEWEST, PIECES, Piece

pytest.importorskip("onnxruntime")

DISCONTINUOUS = {
    "ArgMax", "ArgMin", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "Ceil", "Equal",
    "Floor", "Greater", "GreaterOrEqual", "Hardmax", "Less", "LessOrEqual", "Mod", "Not", "QuantizeLinear",
    "DequantizeLinear", "Round", "Sign", "ThresholdedRelu", "And", "Or", "Xor",
}  # fmt: skip
"""Ops that make much of a difference in the last bit, which the order of a sum makes."""

HEADER = f'<ir_version: 10, opset_import: ["" : {NEWEST}]>'
START = (
    f"{HEADER} g (float[N,3,4,4] x) => (float[N,6,4,4] c) <float[6,3,3,3] w0> {{ c = Conv<pads = [1,1,1,1]>(x, w0) }}"
)
END = f"""{HEADER}
    g (float[A,B,C,D] z) => (float[E,F,G,H] y) <float[5,6,1,1] w1> {{
      t = Tanh(z)
      y = Conv(t, w1)
    }}"""  # fmt: skip


def fits(kind: str, piece: Piece) -> bool:
    """Whether a piece takes six channels to six channels, of ``c`` alone, in any batch."""
    return (
        kind not in DISCONTINUOUS
        and (piece.opset, piece.batch, piece.channels, piece.folds) == (NEWEST, "N", 6, False)
        and not re.search(r"\bx\b", piece.body)
    )


CHAINABLE = [piece for kind, pieces in {**PIECES, **MOVES}.items() for piece in pieces if fits(kind, piece)]


def link(first: onnx.ModelProto, second: onnx.ModelProto, output: str, entry: str) -> onnx.ModelProto:
    """Feed the output of one model to another; the names that they give to open lengths mean nothing to each other."""
    joined = compose.merge_models(first, second, io_map=[(output, entry)])
    joined.ir_version = first.ir_version
    del joined.graph.value_info[:]
    return joined


def chain(seed: int) -> onnx.ModelProto:
    generator = random.Random(seed)
    model, last = small.build(START), "c"
    for place, piece in enumerate(generator.choices(CHAINABLE, k=generator.randint(2, 4))):
        header = f"<{piece.header}>" if piece.header else ""
        text = f"{HEADER} g (float[M,K,R,S] c) => (float[P,Q,U,V] z) {header} {{ {piece.body} }}"
        part = compose.add_prefix(small.build(text), f"p{place}_")
        model, last = link(model, part, last, f"p{place}_c"), f"p{place}_z"
    return link(model, small.build(END), last, "z")


def runs(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> bool:
    """Some chains make no sense: a piece that expects four by four pixels may not find them."""
    try:
        return all(np.isfinite(each).all() for each in run(model, feeds).values())
    except Exception:
        return False


def test_there_is_much_to_choose_from():
    assert len(CHAINABLE) > 100


@pytest.mark.parametrize("block", range(4))
def test_chains_of_pieces(block):
    checked = 0
    for seed in range(40 * block, 40 * (block + 1)):
        feeds = {"x": np.random.default_rng(seed).standard_normal((2, 3, 4, 4), np.float32)}
        model = chain(seed)
        if not runs(model, feeds):
            continue
        case = Case.of(model, feeds)
        if not case.groups.groups:
            continue
        assert case.slim_against_mask(seed, 0.5, must_matter=False) < 1e-4, seed
        assert case.permuted_against_original(seed) < 1e-4, seed
        checked += 1
    assert checked >= 8
