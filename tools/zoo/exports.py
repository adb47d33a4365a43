"""The architectures as torch modules with seeded weights, and exported to ONNX once.

The weights are random but not at their initial values, because those hide bugs: a zero bias cannot be sliced
wrongly, and a layer scale of 1e-6 makes every block invisible. `_randomise` says what is drawn how.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import inspect
import os
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from tools.zoo.architectures import EXPORTERS, ZOO, Input, Unsupported, samples
from tools.zoo.libraries import import_torch

if TYPE_CHECKING:
    import torch

SEED = 20240


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
