"""Runs an engine of TensorRT on buffers that PyTorch holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modhifi_graph.errors import InputError, first_line
from modhifi_graph.exporters.tensorrt_builder import log_of_all

if TYPE_CHECKING:
    import tensorrt
    import torch


class Runner:
    """Runs an engine on buffers of its own, and from the second time on with the same shapes as one CUDA graph.

    TensorRT puts off some work to the first run after shapes have changed, which must not be captured. A graph is for the
    addresses that it was captured with, so buffers stay until other shapes come.
    """

    def __init__(
        self, label: str, context: tensorrt.IExecutionContext, outputs: Mapping[str, np.dtype[Any]], place: torch.device
    ) -> None:
        import torch

        self._label, self._context, self._outputs, self._place = label, context, outputs, place
        self._stream = torch.cuda.Stream(place)  # type: ignore[no-untyped-call]
        self._shapes: dict[str, tuple[int, ...]] | None = None
        self._inputs: dict[str, torch.Tensor] = {}
        self._results: dict[str, torch.Tensor] = {}
        self._graph: torch.cuda.CUDAGraph | None = None
        self._refused = False

    def __call__(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
        """Copies the arrays in and runs; what it gives is overwritten by the next call."""
        import torch

        with torch.cuda.device(self._place), torch.cuda.stream(self._stream):
            shapes = {name: array.shape for name, array in arrays.items()}
            again = shapes == self._shapes
            if not again:
                self._allocate(arrays, shapes)
            for name, array in arrays.items():
                self._inputs[name].copy_(torch.from_numpy(array))
            if again and self._graph is None and not self._refused:
                self._capture()
            if self._graph is not None:
                self._graph.replay()
            else:
                self._enqueue()
            self._stream.synchronize()
        return self._results

    def _allocate(self, arrays: Mapping[str, NDArray[Any]], shapes: dict[str, tuple[int, ...]]) -> None:
        import torch

        self._shapes, self._graph = None, None
        for name, array in arrays.items():
            self._inputs[name] = torch.empty(array.shape, dtype=_torch_type(array.dtype), device=self._place)
            self._context.set_tensor_address(name, self._inputs[name].data_ptr())
            if not self._context.set_input_shape(name, array.shape):
                raise InputError(
                    f"{self._label}: TensorRT does not take {name} of shape {array.shape}: {log_of_all().told()}"
                )
        try:
            missing = self._context.infer_shapes()
        except RuntimeError as error:
            raise InputError(f"{self._label}: TensorRT cannot run it: {first_line(error)}") from error
        if missing:
            raise InputError(f"{self._label}: TensorRT cannot tell the shapes that follow from {', '.join(missing)}")
        for name, dtype in self._outputs.items():
            shape = tuple(self._context.get_tensor_shape(name))
            if min(shape, default=0) < 0:
                raise InputError(
                    f"{self._label}: the shape of {name} depends on values, which this backend does not allow for"
                )
            self._results[name] = torch.empty(shape, dtype=_torch_type(dtype), device=self._place)
            self._context.set_tensor_address(name, self._results[name].data_ptr())
        self._shapes = shapes

    def _enqueue(self) -> None:
        import torch

        log_of_all().errors.clear()
        if not self._context.execute_async_v3(torch.cuda.current_stream(self._place).cuda_stream):
            raise InputError(f"{self._label}: TensorRT cannot run it: {log_of_all().told()}")

    def _capture(self) -> None:
        """What cannot be captured (loops, conditions) is enqueued every time."""
        import torch

        graph = torch.cuda.CUDAGraph()
        self._stream.synchronize()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._enqueue()
        except (RuntimeError, InputError):
            self._refused = True
        else:
            self._graph = graph


def _torch_type(dtype: np.dtype[Any]) -> torch.dtype:
    import torch

    return torch.from_numpy(np.empty(0, dtype)).dtype
