"""A consumer's linear map on whole activations: forwards, backwards, and the products that its normal equations need."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from modhifi_graph.observe.consumers import Consumer, Unfolding, stack_rows
from modhifi_graph.observe.sites import channel_axis


@dataclass(frozen=True, eq=False)
class LinearMap:
    """``y = W x`` for activations as they flow in the graph and ``W`` of shape (G, o, p)."""

    consumer: Consumer

    def apply(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """``W x``. O(rows G o p)."""
        if self.consumer.op.kind != "Conv":
            return self._turned(self._read(x) @ self._matrices(weight).mT)
        look, padded, kernel = self._unfolded(x, weight)
        none = [0] * len(look.kernel)
        y: torch.Tensor = torch.ops.aten.convolution(
            padded, kernel, None, look.strides, none, look.dilations, False, none, self.consumer.parts
        )
        return y

    def pull(self, x: torch.Tensor, weight: torch.Tensor, residual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``W^T r``, shaped like ``x``, and ``sum of r x^T`` over all positions, shaped like ``weight``."""
        if self.consumer.op.kind != "Conv":
            turned = self._turned(residual)
            outer = self._rows(turned).mT @ self._rows(self._read(x))
            return self._read(turned @ self._matrices(weight)), outer
        look, padded, kernel = self._unfolded(x, weight)
        none = [0] * len(look.kernel)
        back, outer, _ = torch.ops.aten.convolution_backward(
            residual, padded, kernel, None, look.strides, none, look.dilations, False, none, self.consumer.parts,
            [True, True, False],
        )  # fmt: skip
        for axis, (start, size) in enumerate(zip(look.pads, x.shape[2:], strict=False)):
            back = back.narrow(2 + axis, start, size)
        return back, outer.reshape(weight.shape)

    def shaped(self, bias: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """A number a channel, (G, o), so that it can be added to ``y``."""
        if self.consumer.stacked:
            return bias[:, None]
        shape = [1] * y.dim()
        shape[channel_axis(self.consumer) % y.dim()] = -1
        return bias.reshape(shape)

    def channels(self, y: torch.Tensor) -> torch.Tensor:
        """An output with its channels last, split by part: (G, rows, o)."""
        if self.consumer.stacked:
            return stack_rows(y)
        rows = y.movedim(channel_axis(self.consumer), -1).reshape(-1, self.consumer.parts, self.consumer.outputs)
        return rows.transpose(0, 1)

    def _unfolded(self, x: torch.Tensor, weight: torch.Tensor) -> tuple[Unfolding, torch.Tensor, torch.Tensor]:
        """How a convolution reads ``x``; ``x`` with its padding; and the weight as a convolution has it."""
        unfolding, dims = Unfolding.of(self.consumer.op, x.shape[2:]), x.dim() - 2
        ends = zip(unfolding.pads[:dims], unfolding.pads[dims:], strict=True)
        sides = [amount for pair in reversed(list(ends)) for amount in pair]
        kernel = weight.reshape(-1, weight.shape[2] // self.consumer.taps, *unfolding.kernel)
        return unfolding, torch.nn.functional.pad(x, sides), kernel

    def _matrices(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight of a product: a matrix, or a stack of them."""
        return weight if self.consumer.stacked else weight[0]

    def _rows(self, x: torch.Tensor) -> torch.Tensor:
        """The rows that each matrix of a product meets, from an activation with its channels last."""
        return stack_rows(x) if self.consumer.stacked else x.reshape(1, -1, x.shape[-1])

    def _read(self, x: torch.Tensor) -> torch.Tensor:
        """An input of a product with its channels last, or back."""
        if self.consumer.op.kind == "Gemm" and self.consumer.op.attributes.get("transA"):
            return x.T
        return self._turned(x)

    def _turned(self, x: torch.Tensor) -> torch.Tensor:
        """Channels last, or back."""
        return x.transpose(-1, -2) if channel_axis(self.consumer) == -2 else x
