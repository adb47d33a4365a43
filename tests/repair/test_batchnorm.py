"""Re-estimated batch norms against the statistics that PyTorch's own layers take in training mode."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from modhifi_graph.dialects.aten_module import functional, placeholders
from modhifi_graph.passes.fx.reestimate_batchnorm import ReestimateBatchNorm as Fx
from modhifi_graph.passes.normal_form import normalise
from modhifi_graph.passes.reestimate_batchnorm import ReestimateBatchNorm
from modhifi_graph.repair.batchnorm import Statistics

from ..oracles import modules, small
from ..oracles.layers import Net, run


def in_turn(x: torch.Tensor, module: torch.nn.Module) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """What ``BatchNorm2d`` layers keep of one batch with momentum 1, each fed by those before it in evaluation mode."""
    found = {}
    for name, norm in [(n, m) for n, m in module.named_modules() if isinstance(m, torch.nn.BatchNorm2d)]:
        norm.momentum, norm.training = 1.0, True
        with torch.no_grad():
            module(x)
        norm.training = False
        found[name] = (norm.running_mean.clone(), norm.running_var.clone())
    return found


@pytest.mark.parametrize("sizes", [[64], [16, 16, 16, 16], [40, 7, 17]])
def test_statistics_are_those_of_torch(sizes: list[int]) -> None:
    """The batches that the images come in make no difference."""
    module = modules.build("residual")[0]
    x = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 + 1
    exported = functional(torch.export.export(module, (x[:4],), dynamic_shapes=({0: torch.export.Dim.AUTO},)))
    before = {name: buffer.clone() for name, buffer in exported.named_buffers()}
    feed = placeholders(exported)[0].name
    assert Fx([{feed: part} for part in x.split(sizes)])(exported).modified
    expected = in_turn(x, module)
    assert len(expected) == 3
    after = dict(exported.named_buffers())
    for name, (mean, variance) in expected.items():
        torch.testing.assert_close(after[f"{name}.running_mean"], mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(after[f"{name}.running_var"], variance, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(before[f"{name}.running_var"], variance, rtol=0.01)
    with torch.no_grad():
        torch.testing.assert_close(exported(x), module(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["batchnorm_opset15", "batchnorm_opset9"])
def test_in_onnx(name: str) -> None:
    """The second norm reads what the first one makes with its new statistics."""
    proto = small.SMALL[name]()
    feeds = small.samples(proto, batch=64)
    model = normalise(ir.from_proto(proto), "model", fold_batchnorm=False)
    before = run(model, feeds)["y"]
    ReestimateBatchNorm([{k: v[rows] for k, v in feeds.items()} for rows in (slice(40), slice(40, 64))], threads=1)(
        model
    )
    norms = [node for node in model.graph if node.op_type == "BatchNormalization"]
    for node in norms:
        source = node.inputs[0]
        assert source is not None
        x = np.moveaxis(run(model, feeds, [source.name or ""])[source.name or ""].astype(np.float64), 1, 0)
        mean, variance = (value.const_value.numpy() for value in node.inputs[3:5] if value and value.const_value)
        np.testing.assert_allclose(mean, x.reshape(len(x), -1).mean(1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(variance, x.reshape(len(x), -1).var(1, ddof=1), rtol=1e-4)
    assert len(norms) == sum(node.op_type == "BatchNormalization" for node in proto.graph.node) > 0
    assert not np.allclose(run(model, feeds)["y"], before, rtol=0.01)


def test_without_batch_norms_nothing_changes() -> None:
    net = Net.named("conv_chain")
    assert not ReestimateBatchNorm([net.feeds], threads=1)(net.model).modified


def test_merging_loses_nothing_far_from_zero() -> None:
    x = torch.randn(90, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.01 + 1000
    parts = [Statistics.of(part) for part in x.float().split([1, 30, 59])]
    merged = parts[0].merge(parts[1]).merge(parts[2])
    rows = x.float().double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(merged.mean, rows.mean(1), rtol=1e-12, atol=0)
    torch.testing.assert_close(merged.variance, rows.var(1), rtol=1e-8, atol=0)
