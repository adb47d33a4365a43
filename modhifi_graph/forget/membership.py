"""Membership inference: can the outputs of a model tell samples that it was made from from samples that it never saw?

Three attacks that need nothing but outputs (Yeom et al. 2018, arXiv 1709.01604; Salem et al. 2019, arXiv 1806.01246): a sample
is called a member where the loss of its class is low, where the greatest probability is high, or where the entropy is low.
Each is judged over all thresholds at once, by the area under its ROC curve: 0.5 is chance.
"""

from __future__ import annotations

import torch


def log_probabilities(outputs: torch.Tensor) -> torch.Tensor:
    """Log-probabilities, shape (n, classes), float64, from logits or from rows that are probabilities already."""
    values = outputs.double()
    if bool((values >= 0).all()) and bool(((values.sum(-1) - 1).abs() < 1e-3).all()):
        return values.clamp_min(1e-30).log()
    return values.log_softmax(-1)


def evidence(outputs: torch.Tensor, label: int) -> dict[str, torch.Tensor]:
    """What speaks for membership, for each sample of the class ``label``: ``loss``, ``confidence`` and ``entropy``, (n,)."""
    logs = log_probabilities(outputs)
    return {
        "loss": logs[:, label],
        "confidence": logs.max(-1).values,
        "entropy": (logs.exp() * logs).sum(-1),
    }


def auc(members: torch.Tensor, others: torch.Tensor) -> float:
    """The chance that a member has more evidence than another sample, ties counting half; in [0, 1]. O(n log n)."""
    ordered = others.sort().values
    below = torch.searchsorted(ordered, members.contiguous())
    upto = torch.searchsorted(ordered, members.contiguous(), right=True)
    return float((below + upto).double().mean() / (2 * len(others)))


def attack(members: torch.Tensor, others: torch.Tensor, label: int) -> dict[str, float]:
    """The AUC of each attack, from the outputs of members and of never-seen samples of one class, shapes (n, classes)."""
    one, two = evidence(members, label), evidence(others, label)
    return {name: auc(one[name], two[name]) for name in one}
