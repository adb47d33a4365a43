"""A chain whose transitions are known says what it should."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import modhifi_graph
from modhifi_graph.inputs.synthesis.sequences import LENGTH, SAMPLES, affordable, beginnings, is_causal, sampled

TABLE = np.array(
    [
        [0.05, 0.05, 0.05, 0.80, 0.05],
        [0.02, 0.02, 0.92, 0.02, 0.02],
        [0.10, 0.60, 0.10, 0.10, 0.10],
        [0.20, 0.20, 0.20, 0.20, 0.20],
        [0.30, 0.10, 0.10, 0.40, 0.10],
    ]
)
V = len(TABLE)


def chain(ids: np.ndarray) -> np.ndarray:
    return np.log(TABLE)[ids].astype(np.float32)


def model(batch: int | str = "N", length: int | str = "T", *, mixes: bool = False) -> onnx.ModelProto:
    """logits = embedding[ids] @ (embedding^-1 log TABLE), which is a chain; or with the mean over time added, which is none."""
    random = np.random.default_rng(0)
    embedding = random.normal(size=(V, V)).astype(np.float32)
    head = np.linalg.solve(embedding.astype(np.float64), np.log(TABLE)).astype(np.float32)
    nodes = [helper.make_node("Gather", ["embedding", "ids"], ["e"])]
    if mixes:
        nodes += [
            helper.make_node("ReduceMean", ["e"], ["mean"], axes=[1]),
            helper.make_node("Add", ["e", "mean"], ["mixed"]),
        ]
    nodes.append(helper.make_node("MatMul", ["mixed" if mixes else "e", "head"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [batch, length])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, length, V])],
        [numpy_helper.from_array(embedding, "embedding"), numpy_helper.from_array(head, "head")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def transitions(ids: np.ndarray) -> np.ndarray:
    counts = np.zeros((V, V))
    np.add.at(counts, (ids[:, :-1].ravel(), ids[:, 1:].ravel()), 1)
    return counts / counts.sum(1, keepdims=True)


def test_the_next_token_is_drawn_from_what_is_expected() -> None:
    first = np.arange(400) % V
    ids = sampled(chain, first, 60, np.random.default_rng(0))
    assert ids.shape == (400, 60)
    assert ids[:, 0].tolist() == first.tolist()
    # Some 3,000 transitions out of each token: a standard error of 0.009 at most.
    np.testing.assert_allclose(transitions(ids), TABLE, atol=0.04)


def test_most_sequences_begin_with_the_token_after_which_the_model_is_surest() -> None:
    def remembers(ids: np.ndarray) -> np.ndarray:
        """Sure of what follows a text that began with 2, and less so of any other."""
        scale = np.where(ids[:, :1] == 2, 3.0, 0.5)
        return np.asarray(chain(ids) * scale[..., None], np.float32)

    first = beginnings(remembers, V, 4000, LENGTH, np.random.default_rng(0))
    share = np.bincount(first, minlength=V) / 4000
    assert share[2] == pytest.approx(0.75 + 0.25 / V, abs=0.02)
    np.testing.assert_allclose(np.delete(share, 2), 0.25 / V, atol=0.02)


def test_what_is_causal() -> None:
    random = np.random.default_rng(0)
    assert is_causal(chain, V, 12, random)
    assert not is_causal(lambda ids: chain(ids) + chain(ids).mean(1, keepdims=True), V, 12, random)
    assert not is_causal(lambda ids: chain(ids)[..., :3], V, 12, random), "other classes than tokens"
    assert not is_causal(lambda ids: np.full((*ids.shape, V), np.nan, np.float32), V, 12, random)


def test_length_goes_by_work() -> None:
    assert affordable(192, 48, 1e5) == 192
    assert affordable(192, 48, 1e7) == 48
    assert affordable(192, 48, 1e12) == 12


@pytest.mark.parametrize(("batch", "length"), [("N", "T"), ("N", 40), (1, "T"), (3, 20)])
def test_a_language_model_is_fed_what_it_says(batch: int | str, length: int | str) -> None:
    made = modhifi_graph.synthesise(model(batch, length), threads=1)
    ids = made.arrays["ids"]
    count = SAMPLES if batch != 3 else 48
    assert (ids.shape, ids.dtype) == ((count, LENGTH if length == "T" else length), np.int64)
    assert made.natural
    assert "sampled from itself" in made.what
    if length == "T":
        np.testing.assert_allclose(transitions(ids), TABLE, atol=0.09)
    again = modhifi_graph.synthesise(model(batch, length), threads=1)
    assert again.arrays["ids"].tobytes() == ids.tobytes()
    other = modhifi_graph.synthesise(model(batch, length), threads=1, seed=1)
    assert other.arrays["ids"].tobytes() != ids.tobytes()


def test_what_is_no_language_model_gets_random_tokens() -> None:
    made = modhifi_graph.synthesise(model(mixes=True), threads=1, samples=50)
    ids = made.arrays["ids"]
    assert ids.shape == (50, LENGTH)
    np.testing.assert_allclose(np.bincount(ids.ravel()) / ids.size, 1 / V, atol=0.02)
    assert "uniformly random tokens for ids (looked up in a table of 5)" in made.what
    assert not made.natural
