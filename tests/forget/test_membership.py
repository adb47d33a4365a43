"""Membership inference: areas under ROC curves, counted pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modhifi_graph.forget.membership import attack, auc, evidence, log_probabilities


def test_the_area_counts_pairs() -> None:
    random = np.random.default_rng(0)
    members, others = random.integers(0, 8, 37), random.integers(0, 6, 23)
    pairs = [(a > b) + 0.5 * (a == b) for a in members for b in others]
    assert auc(torch.from_numpy(members), torch.from_numpy(others)) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_what_cannot_be_told_apart_is_chance() -> None:
    values = torch.arange(9.0)
    assert auc(values, values) == 0.5
    assert auc(values + 9, values) == 1.0
    assert auc(values - 9, values) == 0.0


def test_probabilities_and_logits_say_the_same() -> None:
    logits = torch.from_numpy(np.random.default_rng(1).standard_normal((20, 5))) * 3
    torch.testing.assert_close(log_probabilities(logits.softmax(-1)), log_probabilities(logits))


def test_what_speaks_for_membership() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    found = evidence(torch.from_numpy(np.log(probabilities) + 4), 0)
    np.testing.assert_allclose(found["loss"], np.log([0.7, 0.1]))
    np.testing.assert_allclose(found["confidence"], np.log([0.7, 0.8]))
    np.testing.assert_allclose(found["entropy"], (probabilities * np.log(probabilities)).sum(1))


def test_a_model_that_knows_its_members_is_found_out() -> None:
    random = np.random.default_rng(2)
    others = torch.from_numpy(random.standard_normal((200, 4)))
    members = torch.from_numpy(random.standard_normal((200, 4))) + torch.tensor([3.0, 0, 0, 0])
    found = attack(members, others, 0)
    assert set(found) == {"loss", "confidence", "entropy"}
    assert found["loss"] > 0.9
    assert found["confidence"] > 0.7
