"""The architectures every oracle runs on: real topologies, seeded random weights, exported to ONNX once.

>>> from tools import zoo
>>> zoo.export("resnet18", "torchscript").graph.output[0].name
'output'

The weights are random but not at their initial values, because those hide bugs: a zero bias cannot be sliced
wrongly, and a layer scale of 1e-6 makes every block invisible. `_randomise` says what is drawn how.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import os
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

if TYPE_CHECKING:
    import torch

EXPORTERS = ("dynamo", "torchscript")
SEED = 20240

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
        What builds it: a key of `_BUILDERS`, the name in that library, the constructor's keywords.
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


def export(name: str, exporter: str = "dynamo", *, dynamic: bool = True) -> onnx.ModelProto:
    """The ONNX file of a model, from the cache where it is there.

    Parameters
    ----------
    exporter : {"dynamo", "torchscript"}
    dynamic : bool
        False fixes every shape at the registry's; True lets the batch (and the sequence) vary.

    Raises
    ------
    Unsupported
        With the reason, where this exporter is known to fail on this model.
    """
    return onnx.load(export_path(name, exporter, dynamic=dynamic))


def export_path(name: str, exporter: str = "dynamo", *, dynamic: bool = True) -> Path:
    """As `export`, but the path of the cached file."""
    architecture = ZOO[name]
    if exporter not in EXPORTERS:
        raise ValueError(f"exporter {exporter!r}: expected one of {EXPORTERS}")
    if exporter in architecture.unsupported:
        raise Unsupported(f"{name} by {exporter}: {architecture.unsupported[exporter]}")
    path = _cache_path(name, exporter, dynamic)
    if not path.exists():
        proto = _EXPORT[exporter](module(name), architecture.inputs, dynamic)
        _write_atomically(path, proto.SerializeToString())
    return path


def module(name: str) -> torch.nn.Module:
    """The torch module itself: the same weights on every call and in every process, in eval mode."""
    torch = import_torch()
    # the fused kernel of MultiheadAttention in eval mode is an operator that TorchScript cannot export
    torch.backends.mha.set_fastpath_enabled(False)
    architecture = ZOO[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        built = _BUILDERS[architecture.library](architecture.model, dict(architecture.options)).eval()
        inputs = [torch.from_numpy(array) for array in samples(name, SEED, batch=8).values()]
        _randomise(built, inputs)
    return built.requires_grad_(False)


@functools.cache
def import_torch() -> Any:
    """torch, after making sure that torchvision imports.

    A torchvision wheel whose C++ operators this torch cannot load fails on import, for want of two schemas that
    no classifier uses; declared here, the import goes through. Intact wheels declare them themselves.
    """
    import torch

    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for half_imported in [key for key in sys.modules if key.partition(".")[0] == "torchvision"]:
            del sys.modules[half_imported]
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torch.library._torchvision_schemas = library  # the schemas live as long as this object does
        importlib.import_module("torchvision")
    return torch


# builders: a library's name for a model -> a module


def _torchvision(model: str, options: dict[str, Any]) -> torch.nn.Module:
    return importlib.import_module("torchvision.models").get_model(model, weights=None, **options)


def _timm(model: str, options: dict[str, Any]) -> torch.nn.Module:
    return importlib.import_module("timm").create_model(model, pretrained=False, **options)


def _transformers(model: str, options: dict[str, Any]) -> torch.nn.Module:
    import torch

    transformers = importlib.import_module("transformers")
    constructor = {key: options.pop(key) for key in ("add_pooling_layer",) if key in options}
    causal = options.pop("causal", False)
    config = getattr(transformers, options.pop("config"))(use_cache=False, **options)

    class FirstOutput(torch.nn.Module):
        """Token ids in, one tensor out: what the exporters can name."""

        def __init__(self) -> None:
            super().__init__()
            self.model = getattr(transformers, model)(config, **constructor)

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            # without a mask, causal models look for packed sequences, with operators TorchScript cannot export
            mask = torch.ones_like(input_ids) if causal else None
            return self.model(input_ids=input_ids, attention_mask=mask, use_cache=False, return_dict=False)[0]

    return FirstOutput()


_BUILDERS = {"torchvision": _torchvision, "timm": _timm, "transformers": _transformers}


# weights


def _randomise(model: torch.nn.Module, inputs: list[torch.Tensor]) -> None:
    """Draw every parameter so that a wrong slice of it shows in the output.

    Matrices and kernels are N(0, 1/fan-in), twice that variance for convolutions (He et al. 2015), so that signals
    neither die nor blow up; biases N(0, 0.1^2); the gains of normalisations U(.5, 1.5); layer scales U(.2, 1);
    embeddings, class tokens and relative position tables N(0, .5^2).
    """
    import torch

    with torch.no_grad():
        for owner in model.modules():
            kind = type(owner).__name__
            for name, parameter in owner.named_parameters(recurse=False):
                if "layer_scale" in name or name == "gamma":
                    parameter.uniform_(0.2, 1.0)
                elif parameter.ndim < 2 and "bias" not in name:
                    parameter.uniform_(0.5, 1.5)
                elif parameter.ndim < 2:
                    parameter.normal_(0.0, 0.1)
                elif kind == "Embedding" or any(word in name for word in ("token", "pos", "table")):
                    parameter.normal_(0.0, 0.5)
                else:
                    fan_in = parameter.shape[0] if kind == "Conv1D" else parameter[0].numel()
                    gain = 2.0 if parameter.ndim > 2 else 1.0
                    parameter.normal_(0.0, (gain / fan_in) ** 0.5)
        _calibrate_batch_norms(model, inputs)


def _calibrate_batch_norms(model: torch.nn.Module, inputs: list[torch.Tensor]) -> None:
    """Running statistics: those of one random batch, then off by N(0, .1^2) deviations and a factor U(.5, 1.5).

    Statistics drawn from nothing would let the signal decay to the biases, or explode, within twenty layers. Each
    layer sees what the perturbed layers before it make of the batch; a channel that is dead there is not amplified.
    """
    import torch

    def observe(norm: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        axes = [axis for axis in range(arguments[0].ndim) if axis != 1]
        variance, mean = torch.var_mean(arguments[0], axes, correction=0)
        norm.running_mean.copy_(mean + 0.1 * variance.sqrt() * torch.randn_like(mean))
        floor = 0.1 * float(variance.mean())
        norm.running_var.copy_(variance.clamp(min=floor) * torch.empty_like(variance).uniform_(0.5, 1.5))

    norms = [each for each in model.modules() if isinstance(each, torch.nn.modules.batchnorm._BatchNorm)]
    hooks = [norm.register_forward_pre_hook(observe) for norm in norms]
    if norms:
        model(*inputs)
    for hook in hooks:
        hook.remove()


# exporters: a module and its inputs -> one ModelProto


def _dynamo(model: torch.nn.Module, inputs: tuple[Input, ...], dynamic: bool) -> onnx.ModelProto:
    import torch

    shapes = tuple({axis: torch.export.Dim(name) for axis, name in each.dynamic} for each in inputs)
    arguments = tuple(torch.from_numpy(each.sample(np.random.default_rng(SEED))) for each in inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            arguments,
            dynamo=True,
            verbose=False,
            input_names=[each.name for each in inputs],
            output_names=["output"],
            dynamic_shapes=shapes if dynamic else None,
        )
    return program.model_proto


def _torchscript(model: torch.nn.Module, inputs: tuple[Input, ...], dynamic: bool) -> onnx.ModelProto:
    import torch

    axes: dict[str, dict[int, str]] = {each.name: dict(each.dynamic) for each in inputs}
    axes["output"] = dict(inputs[0].dynamic)
    arguments = tuple(torch.from_numpy(each.sample(np.random.default_rng(SEED))) for each in inputs)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            arguments,
            Path(folder, "model.onnx"),
            dynamo=False,
            input_names=[each.name for each in inputs],
            output_names=["output"],
            dynamic_axes=axes if dynamic else None,
        )
        return onnx.load(Path(folder, "model.onnx"))


_EXPORT = {"dynamo": _dynamo, "torchscript": _torchscript}


# the cache


def _cache_path(name: str, exporter: str, dynamic: bool) -> Path:
    """Named by all that the bytes depend on, so that a stale file is never read."""
    architecture = replace(ZOO[name], unsupported={})
    functions = (_BUILDERS[architecture.library], _randomise, _calibrate_batch_norms, _EXPORT[exporter], Input.sample)
    versions = [importlib.metadata.version(each) for each in ("torchvision", "timm", "transformers", "onnxscript")]
    ingredients = [repr(architecture), str(SEED), *versions, *map(inspect.getsource, functions)]
    digest = hashlib.sha256("\n".join(ingredients).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"modhifi-zoo-{importlib.metadata.version('torch')}"
    return folder / f"{name}-{exporter}-{'dynamic' if dynamic else 'static'}-{digest}.onnx"


def _write_atomically(path: Path, data: bytes) -> None:
    """Workers of pytest-xdist may write the same file at once: each its own, and the last rename wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as stream:
        stream.write(data)
    os.replace(stream.name, path)
