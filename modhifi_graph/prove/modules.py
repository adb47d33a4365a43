"""The same proof for modules: the slim one computes what the dense one does with components zeroed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import fx
from torch.utils import _pytree as pytree

from modhifi_graph.dialects.aten_module import copied
from modhifi_graph.errors import VerificationError
from modhifi_graph.interface import Feeds
from modhifi_graph.passes.fx.mask import Mask
from modhifi_graph.plan import Plan
from modhifi_graph.prove.verification import RELATIVE, Verification, compare_outputs, summary


def verify_modules(dense: fx.GraphModule, slim: fx.GraphModule, plan: Plan, feeds: Sequence[Feeds]) -> Verification:
    """As :func:`modhifi_graph.prove.verification.verify`, for functional modules; neither is modified.

    Raises
    ------
    VerificationError
        The slim module does not run, or an output differs by more than rounding.
    """
    masked = copied(dense)
    Mask(plan)(masked)
    kinds = {p.dtype for p in masked.parameters()}
    least = next((k for k in ("bfloat16", "float16") if getattr(torch, k) in kinds), "float32")
    errors = []
    for feed in feeds:
        try:
            found = answer(slim, feed)
        except RuntimeError as error:
            raise VerificationError(f"the slim module does not run: {error}") from error
        errors += list(compare_outputs(_arrays(answer(masked, feed)), _arrays(found), RELATIVE[least]))
    return summary(errors, len(feeds))


def randomised(feed: Feeds, seed: int) -> Feeds:
    """Normal numbers in place of floating-point inputs; token ids and masks stay what they are."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(v.shape, generator=generator).to(v)
        if isinstance(v, torch.Tensor) and v.is_floating_point()
        else v
        for name, v in feed.items()
    }


def answer(module: fx.GraphModule, feed: Feeds) -> dict[str, torch.Tensor]:
    """Every tensor that a module gives for one batch, by its place among the outputs."""
    args, kwargs = pytree.tree_unflatten(list(feed.values()), module._in_spec)
    with torch.no_grad():
        flat = pytree.tree_flatten(module(*args, **kwargs))[0]
    return {f"output {i}": value for i, value in enumerate(flat) if isinstance(value, torch.Tensor)}


def _arrays(outputs: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: (v.float() if v.is_floating_point() else v).cpu().numpy() for name, v in outputs.items()}
