"""The registry: every architecture as data, and inputs for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

EXPORTERS = ("dynamo", "torchscript")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Input:
    """One input: its axes' sizes, which axes may vary, and, for token ids, how many there are."""

    name: str
    shape: tuple[int, ...]
    dynamic: tuple[tuple[int, str], ...] = ((0, "batch"),)
    vocabulary: int | None = None

    def sample(self, generator: np.random.Generator, batch: int | None = None) -> np.ndarray:
        shape = (batch or self.shape[0], *self.shape[1:])
        if self.vocabulary is not None:
            return generator.integers(0, self.vocabulary, shape, dtype=np.int64)
        return generator.standard_normal(shape, dtype=np.float32)


@dataclass(frozen=True)
class Architecture:
    """One model of the zoo, as data.

    Attributes
    ----------
    library, model, options
        What builds it: a key of `exports._BUILDERS`, the name in that library, the constructor's keywords.
    inputs
        The shapes it is exported with. The first axis is a batch of 2.
    unsupported
        Exporter -> why it cannot export this model. With torch 2.13, both export all of them.
    """

    library: str
    model: str
    inputs: tuple[Input, ...]
    options: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    unsupported: Mapping[str, str] = field(default_factory=lambda: _NOTHING)


class Unsupported(Exception):
    """This exporter cannot export this model; the message is the reason the registry gives."""


def _image(size: int) -> tuple[Input, ...]:
    return (Input("input", (2, 3, size, size)),)


def _tokens(length: int, vocabulary: int = 256) -> tuple[Input, ...]:
    return (Input("input_ids", (2, length), ((0, "batch"), (1, "sequence")), vocabulary),)


_INCEPTION = {"aux_logits": False, "init_weights": False, "transform_input": False}
_ATTENTION = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "vocab_size": 256}


def _mixtral(experts: str) -> dict[str, Any]:
    return {
        "config": "MixtralConfig",
        "causal": True,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "num_local_experts": 4,
        "experts_implementation": experts,
        **_ATTENTION,
    }


ZOO: dict[str, Architecture] = {
    "resnet18": Architecture("torchvision", "resnet18", _image(64)),
    "resnet50": Architecture("torchvision", "resnet50", _image(64)),
    "densenet121": Architecture("torchvision", "densenet121", _image(64)),
    "densenet201": Architecture("torchvision", "densenet201", _image(64)),
    "googlenet": Architecture("torchvision", "googlenet", _image(64), _INCEPTION),
    "inception_v3": Architecture("torchvision", "inception_v3", _image(128), _INCEPTION),
    "efficientnet_b0": Architecture("torchvision", "efficientnet_b0", _image(64)),
    "regnet_y_400mf": Architecture("torchvision", "regnet_y_400mf", _image(64)),
    "mobilenet_v3_large": Architecture("torchvision", "mobilenet_v3_large", _image(64)),
    "convnext_tiny": Architecture("torchvision", "convnext_tiny", _image(64)),
    "vit_b_16": Architecture("torchvision", "vit_b_16", _image(64), {"image_size": 64}),
    "swin_t": Architecture("torchvision", "swin_t", _image(224)),
    # 96 pixels are no multiple of the window: every stage pads and crops again, the first two roll as well
    "swin_t_padded": Architecture("torchvision", "swin_t", _image(96)),
    "shufflenet_v2_x1_0": Architecture("torchvision", "shufflenet_v2_x1_0", _image(64)),
    "timm_resnetv2_50": Architecture("timm", "resnetv2_50", _image(64)),
    "timm_vit_b_16": Architecture("timm", "vit_base_patch16_224", _image(64), {"img_size": 64}),
    "timm_mixer_b_16": Architecture("timm", "mixer_b16_224", _image(64), {"img_size": 64}),
    "llama": Architecture(
        "transformers",
        "LlamaForCausalLM",
        _tokens(16),
        {"config": "LlamaConfig", "causal": True, "num_attention_heads": 8, "num_key_value_heads": 2, **_ATTENTION},
    ),
    "mixtral": Architecture("transformers", "MixtralForCausalLM", _tokens(16), _mixtral("batched_mm")),
    "mixtral_grouped": Architecture(
        "transformers",
        "MixtralForCausalLM",
        _tokens(16),
        _mixtral("grouped_mm"),
        {
            "dynamo": "no ONNX function for transformers.grouped_mm_fallback",
            "torchscript": "aten::histc is not supported",
        },
    ),
    "bert": Architecture(
        "transformers",
        "BertModel",
        _tokens(16),
        {"config": "BertConfig", "num_attention_heads": 4, "add_pooling_layer": False, **_ATTENTION},
    ),
    "gpt2": Architecture(
        "transformers",
        "GPT2LMHeadModel",
        _tokens(16),
        {
            "config": "GPT2Config",
            "causal": True,
            "n_layer": 2,
            "n_head": 4,
            "n_embd": 64,
            "n_positions": 64,
            "vocab_size": 256,
        },
    ),
}


def cases(names: tuple[str, ...] | None = None) -> list[tuple[str, str]]:
    """Every (name, exporter) that exports, for `pytest.mark.parametrize`."""
    names = names or tuple(ZOO)
    return [(name, exporter) for name in names for exporter in EXPORTERS if exporter not in ZOO[name].unsupported]


def samples(name: str, seed: int = 0, batch: int | None = None) -> dict[str, np.ndarray]:
    """Inputs for a model, by name: normal pixels or uniform token ids."""
    generator = np.random.default_rng(seed)
    return {each.name: each.sample(generator, batch) for each in ZOO[name].inputs}
