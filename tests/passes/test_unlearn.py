"""The passes: what they change, what they leave behind, and what they ask for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modhifi_graph.forget.forgetting import How
from modhifi_graph.passes.unlearn import Unlearn
from modhifi_graph.prove import structure

from ..forget.test_kernels import CLASSIFIER
from ..oracles.layers import Net, parameter, run


@pytest.fixture(scope="module")
def net() -> Net:
    return Net.of(CLASSIFIER, samples=128)


@pytest.fixture(scope="module")
def sets(net: Net) -> tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
    """What the model takes most often for one class, and the half of the samples that it is least sure of that for."""
    scores = net.outputs["y"]
    label = int(np.bincount(scores.argmax(1)).argmax())
    order = np.argsort(scores[:, label])
    return [{"x": net.feeds["x"][order[64:]]}], [{"x": net.feeds["x"][order[:64]]}]


def test_two_layers_are_refitted(net: Net, sets: tuple[list, list]) -> None:
    model = net.model.clone()
    unlearn = Unlearn(*sets, How(threads=1))
    assert unlearn(model).modified
    assert structure.first_difference(net.model, model) is None
    for op, number, changed in (("Conv", 0, False), ("Conv", 1, True), ("Gemm", 0, True)):
        for slot in (1, 2):
            same = np.array_equal(parameter(net.model, op, number, slot), parameter(model, op, number, slot))
            assert same != changed
    label = unlearn.done.edited.label
    assert [site.output.name for site in unlearn.done.edited.layers] == ["c1", "y"]
    before, after = net.outputs["y"], run(model, net.feeds)["y"]
    assert (after.argmax(1) == label).sum() < (before.argmax(1) == label).sum() / 2
    np.testing.assert_allclose(run(model, sets[0][0])["y"], unlearn.done.edited.after[0].numpy(), rtol=1e-4, atol=1e-5)


def test_without_the_forget_set_the_head_is_what_it_was(net: Net, sets: tuple[list, list]) -> None:
    model = net.model.clone()
    Unlearn(*sets, How(mu=0.0, depth=0, threads=1))(model)
    np.testing.assert_allclose(parameter(model, "Gemm", 0, 1), parameter(net.model, "Gemm", 0, 1), rtol=1e-4, atol=1e-5)


def test_samples_are_needed(net: Net) -> None:
    with pytest.raises(ir.passes.PreconditionError, match="no samples to forget"):
        Unlearn([])(net.model.clone())


def test_the_same_on_modules() -> None:
    torch = pytest.importorskip("torch")
    from modhifi_graph.dialects.aten_module import functional
    from modhifi_graph.passes.fx.unlearn import Unlearn as UnlearnModule

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 12), torch.nn.ReLU(),
                                 torch.nn.Linear(12, 3))  # fmt: skip
    x = torch.randn(200, 6)
    with torch.no_grad():
        module[4].bias -= module(x).mean(0)  # so that every class is seen
        answers = module(x).argmax(1)
    label = int(answers.bincount().argmax())
    graph = functional(torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},)))
    name = next(node.name for node in graph.graph.nodes if node.op == "placeholder")
    unlearn = UnlearnModule([{name: x[answers == label]}], [{name: x[answers != label]}])
    assert unlearn(graph).modified
    with torch.no_grad():
        before, after = ((found.argmax(1) == label).sum() for found in (module(x), graph(x)))
    assert unlearn.done.edited.label == label
    assert after < before / 2
