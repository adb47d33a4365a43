"""An ONNX model to the bytes of an engine: network, settings, lengths and the times that kernels took before."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from modhifi_graph.errors import InputError, first_line
from modhifi_graph.exporters.precision import precision_of
from modhifi_graph.exporters.tensorrt_graph import Range
from modhifi_graph.files import atomic_write, cache_folder

if TYPE_CHECKING:
    import tensorrt
    import torch

STRONGLY_TYPED = "STRONGLY_TYPED"
"""The flag that version 10 needs; 11 does without, and keeps the name for now."""

WEIGHTS = "weights"


def built(model: onnx.ModelProto, lengths: Mapping[str, Range], label: str, place: torch.device) -> bytes:
    """The engine of a prepared model; InputError where TensorRT cannot make one."""
    import tensorrt as trt

    log = log_of_all()
    log.errors.clear()
    builder = trt.Builder(log)
    strongly = getattr(trt.NetworkDefinitionCreationFlag, STRONGLY_TYPED, None)
    network = builder.create_network(0 if strongly is None else 1 << int(strongly))
    parser = trt.OnnxParser(network, log)
    _parse(parser, model, label)
    network.name = precision_of(model)  # an engine has no other place to keep it
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    config.clear_flag(trt.BuilderFlag.TF32)
    _limit_memory(config, place)
    _add_profile(builder, network, config, lengths, label)
    cache, path = _timing_cache(config, place)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise InputError(f"{label}: TensorRT cannot compile it: {log.told()}")
    if path is not None:
        with suppress(OSError, InputError):  # a cache that cannot be written is no reason to fail
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary:
                temporary.write_bytes(bytes(cache.serialize()))
    return bytes(plan)


def _parse(parser: tensorrt.OnnxParser, model: onnx.ModelProto, label: str) -> None:
    """From a file, with the weights beside it: a message over 2 GiB cannot be handed over."""
    with tempfile.TemporaryDirectory() as where:
        path = os.path.join(where, "model.onnx")
        onnx.save_model(model, path, save_as_external_data=True, location=WEIGHTS)
        if parser.parse_from_file(path):
            return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    told = "; ".join(f"{e.node_operator()} {e.node_name()}: {e.desc()}" for e in errors[:3])
    raise InputError(f"{label}: TensorRT cannot compile it: {told or log_of_all().told()}")


def _limit_memory(config: tensorrt.IBuilderConfig, place: torch.device) -> None:
    """What is free: by default TensorRT reckons with all that the GPU has."""
    import tensorrt as trt
    import torch

    free, _ = torch.cuda.mem_get_info(place)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, free)


def _add_profile(
    builder: tensorrt.Builder,
    network: tensorrt.INetworkDefinition,
    config: tensorrt.IBuilderConfig,
    lengths: Mapping[str, Range],
    label: str,
) -> None:
    """One profile for all inputs with open axes; none where there are no such."""
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    for tensor in inputs:
        if tensor.is_shape_tensor:
            raise InputError(
                f"{label}: input {tensor.name} is read as a shape; make it a constant to compile for TensorRT"
            )
    if not lengths:
        return
    profile = builder.create_optimization_profile()
    for tensor in inputs:
        if tensor.name in lengths:
            found = lengths[tensor.name]
            profile.set_shape(tensor.name, found.least, found.best, found.most)
    if config.add_optimization_profile(profile) < 0:
        raise InputError(f"{label}: TensorRT takes none of the lengths {dict(lengths)}: {log_of_all().told()}")


def _timing_cache(config: tensorrt.IBuilderConfig, place: torch.device) -> tuple[tensorrt.ITimingCache, Path | None]:
    """What kernels took before on this kind of GPU, and where that is kept; times of others are refused, so they start anew."""
    import tensorrt as trt
    import torch

    base = cache_folder()
    gpu = torch.cuda.get_device_name(place).replace(" ", "-").replace("/", "-").lower()
    path = None if base is None else base / f"tensorrt-{trt.__version__}-{gpu}.timing"
    held = b""
    with suppress(OSError):
        held = path.read_bytes() if path is not None else b""
    cache = config.create_timing_cache(held)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache, path


@functools.cache
def log_of_all() -> Any:
    """Keeps what TensorRT complains of, for messages. One for all: TensorRT stays with the first that it is given."""
    import tensorrt as trt

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)

        def told(self) -> str:
            return first_line(RuntimeError(self.errors[0])) if self.errors else "no reason given"

    return Log()
