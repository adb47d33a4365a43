"""Small modules for the tests of everything that works on ``torch.export``: each a shape of its own, seeded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional


class Residual(nn.Module):
    """Convolutions with norms, a strided zero-padded shortcut, a pooled linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm0 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv1, self.norm1 = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(12)
        self.conv2, self.norm2 = nn.Conv2d(12, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.depthwise, self.point = nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 10, 1)
        self.head = nn.Linear(10, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu_(self.norm0(self.stem(x)))
        y = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        x = functional.relu(y + functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))
        x = functional.relu6(self.point(functional.hardswish(self.depthwise(x))))
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Attention(nn.Module):
    """Fused QKV, a relative bias per head, an MLP; the heads come by reshape, permute and unbind."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(12), nn.Linear(12, 36), nn.Linear(12, 12)
        self.table = nn.Parameter(torch.zeros(9, 4))
        self.register_buffer("index", torch.arange(25).reshape(5, 5) % 9)
        self.up, self.down = nn.Linear(12, 20), nn.Linear(20, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, t, 3, 4, 3).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index.view(-1)].view(5, 5, 4).permute(2, 0, 1)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.unsqueeze(0))
        x = x + self.out(y.transpose(1, 2).reshape(b, t, 12))
        return x + self.down(functional.gelu(self.up(x)))


class Grouped(nn.Module):
    """Grouped queries, split gates, and keyword arguments in, a dict out."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv, self.out = nn.Linear(12, 24), nn.Linear(12, 24), nn.Linear(24, 12)
        self.gates, self.down = nn.Linear(12, 28, bias=False), nn.Linear(14, 12)

    def forward(self, tokens: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        b, t, _ = tokens.shape
        q = self.q(tokens * scale).view(b, t, 4, 6).transpose(1, 2)
        k, v = (part.view(b, t, 2, 6).transpose(1, 2) for part in self.kv(tokens).split(12, dim=-1))
        y = functional.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2).reshape(b, t, 24)
        x = tokens + self.out(y)
        gate, up = self.gates(x).chunk(2, dim=-1)
        return {"out": x + self.down(functional.silu(gate) * up), "mean": x.mean()}


class Norms(nn.Module):
    """Group norm, a channel shuffle by hand, stacked branches, a transposed parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 12, 3, padding=1), nn.GroupNorm(4, 12)
        self.second, self.mix = nn.Conv2d(12, 8, 1), nn.Parameter(torch.zeros(8, 6))
        self.shift = nn.Parameter(torch.zeros(6))
        self.prelu, self.last = nn.PReLU(6), nn.Parameter(torch.zeros(5, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(x))
        b, c, h, w = x.shape
        x = self.second(x.view(b, 3, c // 3, h, w).transpose(1, 2).reshape(b, c, h, w)).mean((2, 3))
        y = self.prelu(torch.addmm(self.shift, x, self.mix))
        y = torch.roll(torch.stack([y, y * 2], 1), 1, dims=1)
        return (y.sum(1) + y[:, 0]) @ self.last.t()


MODULES: dict[
    str, tuple[Callable[[], nn.Module], Callable[[], tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]]]
] = {
    "residual": (Residual, lambda: ((torch.randn(4, 3, 8, 8),), {})),
    "attention": (Attention, lambda: ((torch.randn(4, 5, 12),), {})),
    "grouped": (Grouped, lambda: ((), {"tokens": torch.randn(4, 5, 12), "scale": torch.rand(12) + 0.5})),
    "norms": (Norms, lambda: ((torch.randn(4, 3, 6, 6),), {})),
}


def build(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    """The module in eval mode, every parameter and statistic drawn so that it shows, and inputs for it."""
    make, inputs = MODULES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make().eval()
        with torch.no_grad():
            for parameter in module.parameters():
                spread = (2 / max(1, parameter[0].numel())) ** 0.5 if parameter.ndim > 1 else 0.3
                parameter.copy_(torch.randn_like(parameter) * spread + (1.0 if parameter.ndim < 2 else 0.0))
            for label, buffer in module.named_buffers():
                if buffer.is_floating_point():
                    buffer.copy_(torch.rand_like(buffer) + (0.5 if "var" in label else 0.0))
        args, kwargs = inputs()
    return module, args, kwargs
