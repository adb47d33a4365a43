"""Sequences that a language model says itself: each next token drawn from what it expects there.

At temperature 1 that is the distribution it was trained to have, so nothing else can be as close to its data. A graph does
not say which token begins a text. Tokenizers keep it at an end of the vocabulary, and the model is surest of what follows: of
the first three tokens and the last one that is taken after which its text has the least entropy (0.89 nats a token after
stories260K's, 1.7 to 1.8 after the others). A quarter of the sequences begin with any token all the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]

SAMPLES, LENGTH = 48, 192
"""How many sequences, and how long they are where the graph leaves it open and can take it."""
WORK = 2e12
"""Multiply-accumulates that sampling may take: without a cache the work grows with the square of the length."""
SHORTEST = 16
TRIED, TRIED_LENGTH = 8, 24
"""How many sequences, and how long, are sampled to find out whether a token begins a text."""


def affordable(length: int, samples: int, work: float) -> int:
    """The length, halved until sampling fits into :data:`WORK`; ``work`` is one token's multiply-accumulates."""
    while length > SHORTEST and samples * length * (length + 1) / 2 * work > WORK:
        length //= 2
    return length


def is_causal(logits: Callable[[Integers], Floats], vocabulary: int, length: int, random: np.random.Generator) -> bool:
    """Whether what is expected at a position does not change with later tokens, and there is one logit for every token.

    ``logits`` maps ids (samples, length) to (samples, length, vocabulary). Tried on two sequences with one beginning.
    """
    pair = random.integers(vocabulary, size=(2, length))
    half = (length + 1) // 2
    pair[1, :half] = pair[0, :half]
    found = logits(pair)
    if length < 2 or found.shape != (2, length, vocabulary) or not np.isfinite(found).all():
        return False
    scale = np.abs(found).max() + 1e-6
    return bool(np.abs(found[0, :half] - found[1, :half]).max() < 1e-3 * scale)


def sampled(
    logits: Callable[[Integers], Floats],
    first: Integers,
    length: int,
    random: np.random.Generator,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Integers:
    """Ids (samples, length) that begin with ``first``, (samples,); each is drawn from softmax(logits) after those before it.

    ``logits`` maps ids (samples, t) to (samples, t, vocabulary).
    """
    ids = first[:, None]
    for t in range(1, length):
        expected = logits(ids)[:, -1]
        # Adding Gumbel noise and taking the largest draws from the softmax.
        drawn = (expected + random.gumbel(size=expected.shape)).argmax(1)
        ids = np.concatenate([ids, drawn[:, None]], 1)
        progress(t, length - 1)
    return ids


def beginnings(
    logits: Callable[[Integers], Floats], vocabulary: int, samples: int, length: int, random: np.random.Generator
) -> Integers:
    """What sequences begin with, (samples,): every fourth with any token, the others with the one that begins a text."""
    ends = np.unique(np.array([0, 1, 2, vocabulary - 1]) % vocabulary)
    ids = sampled(logits, np.repeat(ends, TRIED), min(length, TRIED_LENGTH), random)
    entropies = _entropy(logits(ids)).mean(1).reshape(len(ends), TRIED).mean(1)
    first = random.integers(vocabulary, size=samples)
    first[np.arange(samples) % 4 != 3] = ends[entropies.argmin()]
    return first


def _entropy(logits: Floats) -> Floats:
    shifted = logits - logits.max(-1, keepdims=True)
    total = np.exp(shifted).sum(-1)
    return np.asarray(np.log(total) - (np.exp(shifted) * shifted).sum(-1) / total)
