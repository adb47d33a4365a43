"""``torch.compile`` with the modhifi backend: what it compiles is slim, and the same for every batch size."""

from __future__ import annotations

import importlib.metadata
import warnings

import pytest

torch = pytest.importorskip("torch")

import modhifi_graph  # noqa: E402
from modhifi_graph.dropins import dynamo  # noqa: E402
from modhifi_graph.errors import InputError  # noqa: E402

from ..oracles import modules  # noqa: E402


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()
    dynamo._found.clear()


def images(count: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).square().mean() / wanted.var())


class Watched:
    """An inner backend that counts the parameters it is given."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, module, inputs):
        self.sizes.append(sum(p.numel() for p in module.parameters()))
        return module.forward


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    inner, known = Watched(), torch._dynamo.lookup_backend
    monkeypatch.setattr(torch._dynamo, "lookup_backend", lambda name: inner if name == "watched" else known(name))
    return inner


def test_it_is_registered() -> None:
    points = importlib.metadata.entry_points(group="torch_dynamo_backends")
    assert {p.name: p.value for p in points}.get("modhifi") == "modhifi_graph.dropins.dynamo:modhifi"


def test_the_slim_graph_is_what_optimize_makes(watched: Watched) -> None:
    module = modules.build("residual")[0]
    options = {"macs": 0.5, "calib": images(64), "backend": "watched"}
    compiled = torch.compile(module, backend=dynamo.modhifi, options=options)
    x = images(4, 2)
    with torch.no_grad():
        found = compiled(x)
        slim = modhifi_graph.optimize(module, x, calib=images(64), macs=0.5, bench_seconds=0).module
        torch.testing.assert_close(found, slim(x), rtol=1e-4, atol=1e-4)
        assert error(found, module(x)) > 1e-5, "something was removed"
    assert watched.sizes == [sum(p.numel() for p in slim.parameters())]


def test_another_batch_size_is_slimmed_in_the_same_way(watched: Watched) -> None:
    module = modules.build("residual")[0]
    compiled = torch.compile(
        module, backend=dynamo.modhifi, options={"macs": 0.5, "calib": images(64), "backend": "watched"}
    )
    x = images(9, 2)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        small = compiled(x[:4])
        torch.testing.assert_close(compiled(x)[:4], small)
    assert len(watched.sizes) == 2
    assert watched.sizes[0] == watched.sizes[1]


def test_without_options_half_of_the_macs_stay(watched: Watched) -> None:
    module = modules.build("residual")[0]
    compiled = torch.compile(module, backend=dynamo.modhifi, options={"backend": "watched"})
    with torch.no_grad():
        compiled(images(32))
    assert watched.sizes[0] < sum(p.numel() for p in module.parameters())


@pytest.mark.slow
def test_inductor_compiles_it() -> None:
    module = modules.build("attention")[0]
    compiled = torch.compile(module, backend=dynamo.modhifi, options={"macs": 0.8, "calib": torch.randn(64, 5, 12)})
    x = torch.randn(4, 5, 12)
    with torch.no_grad():
        assert 0 < error(compiled(x), module(x)) < 1


def test_with_gradients_the_dense_graph_is_compiled(watched: Watched) -> None:
    module = modules.build("residual")[0]
    compiled = torch.compile(module, backend=dynamo.modhifi, options={"backend": "watched"})
    with pytest.warns(UserWarning, match="gradients are enabled"):
        found = compiled(images(4))
    torch.testing.assert_close(found, module(images(4)))


def test_a_mode_is_inductors() -> None:
    found = dynamo._inner("inductor", "max-autotune")
    assert found.keywords["config_patches"]["max_autotune"] is True
    with pytest.raises(InputError, match="mode 'max-autotune' is Inductor's; the backend eager has none"):
        dynamo._inner("eager", "max-autotune")
