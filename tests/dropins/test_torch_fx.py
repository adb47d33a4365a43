"""The whole job as a pass among others."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.fx.passes.infra.pass_base import PassBase, PassResult  # noqa: E402
from torch.fx.passes.infra.pass_manager import PassManager  # noqa: E402

from modhifi_graph import Macs  # noqa: E402
from modhifi_graph.passes.fx import ModHiFi  # noqa: E402

from ..oracles import modules  # noqa: E402


class Count(PassBase):
    """Counts parameters, and changes nothing."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def call(self, graph_module) -> PassResult:
        self.seen.append(sum(p.numel() for p in graph_module.parameters()))
        return PassResult(graph_module, modified=False)


@pytest.mark.parametrize("traced", [torch.fx.symbolic_trace, lambda m: torch.export.export(m, (x(4),)).module()])
def test_it_runs_among_other_passes(traced) -> None:
    module = modules.build("residual")[0]
    count = Count()
    manager = PassManager(passes=[count, ModHiFi(x(4), Macs(0.5), calib=x(64)), count])
    result = manager(traced(module))
    assert result.modified
    assert count.seen[1] < 0.7 * count.seen[0]
    with torch.no_grad():
        found, wanted = result.graph_module(x(4)), module(x(4))
    assert found.shape == wanted.shape
    assert 0 < float((found - wanted).square().mean() / wanted.var()) < 0.5


def x(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(count))
