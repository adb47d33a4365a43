"""Slim modules: equal to masked ones, to permuted ones, and trainable, exportable modules with the names they had."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from modhifi_graph.axes.branches import find_branches  # noqa: E402
from modhifi_graph.axes.coupling import couple  # noqa: E402
from modhifi_graph.axes.groups import find_groups  # noqa: E402
from modhifi_graph.axes.shrink import Shrink  # noqa: E402
from modhifi_graph.dialects.aten import lift  # noqa: E402
from modhifi_graph.dialects.aten_lowering import Lowering  # noqa: E402
from modhifi_graph.dialects.aten_module import functional  # noqa: E402
from modhifi_graph.passes.fx.fold_batchnorm import FoldBatchNorm  # noqa: E402
from modhifi_graph.passes.fx.mask import Mask  # noqa: E402
from modhifi_graph.passes.fx.slim import Slim  # noqa: E402
from modhifi_graph.plan import GroupPlan, Plan, random_plan  # noqa: E402
from tools import zoo  # noqa: E402

from ...oracles import modules, params  # noqa: E402
from ...oracles.test_equivalence import BRANCHES, LAST_BRANCH  # noqa: E402

TOLERANCE = 2e-6
PLANS = ((0, 0.5), (1, 0.25), (2, 0.8))
DEPTHS = ((0, 0.5, 1.0), (1, 0.75, 0.5), (2, 1.0, 0.5))


class Case:
    """A module, exported and made functional, with the inputs it was exported with."""

    def __init__(self, module, args, kwargs=None, dynamic=True) -> None:
        self.args, self.kwargs = args, kwargs or {}
        shapes = torch.utils._pytree.tree_map(lambda t: {0: torch.export.Dim.AUTO}, (args, self.kwargs))
        given = shapes[1] or shapes[0]
        exported = torch.export.export(module, args, self.kwargs, dynamic_shapes=given if dynamic else None)
        self.module = functional(exported)
        self.groups = find_groups(couple(lift(self.module).graph))
        self.branches = find_branches(self.groups).by_name()
        self.answers = self.run(module)

    def run(self, module) -> list:
        with torch.no_grad():
            return torch.utils._pytree.tree_flatten(module(*self.args, **self.kwargs))[0]

    def after(self, change) -> list:
        result = copy.deepcopy(self.module)
        change(result)
        return self.run(result)

    def distance(self, one: list, other: list) -> float:
        pairs = zip(one, other, self.answers, strict=True)
        return max(float((a - b).abs().max() / reference.abs().max()) for a, b, reference in pairs)

    def slim_against_mask(self, seed: int, fraction: float, depth: float = 0.0) -> float:
        plan = random_plan(self.groups, seed, fraction, depth)
        return self.distance(self.after(Slim(plan)), self.after(Mask(plan)))

    def permuted_against_original(self, seed: int) -> float:
        generator = np.random.default_rng(seed)
        result = copy.deepcopy(self.module)
        lifted = lift(result)
        coupling = couple(lifted.graph)
        orders = {group.factor: generator.permutation(group.size) for group in find_groups(coupling).groups}
        Lowering(lifted, Shrink(coupling, orders)).run()
        return self.distance(self.run(result), self.answers)


@pytest.fixture(scope="module", params=modules.MODULES)
def case(request) -> Case:
    return Case(*modules.build(request.param))


def test_the_functional_module_computes_the_same(case) -> None:
    assert case.distance(case.run(case.module), case.answers) < 1e-6


def test_slim_equals_mask(case) -> None:
    for seed, fraction in PLANS:
        assert case.slim_against_mask(seed, fraction) < TOLERANCE


def test_slim_equals_mask_without_branches(case) -> None:
    for seed, fraction, depth in DEPTHS if case.branches else ():
        assert case.slim_against_mask(seed, fraction, depth) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("residual", {"conv2.weight": ["conv1.weight", "conv2.weight"]}),
        ("attention", {"out.weight": ["qkv.weight", "out.weight"]}),
        ("grouped", {"out.weight": ["q.weight", "kv.weight", "out.weight"]}),
        ("norms", {}),
    ],
)
def test_a_branch_goes_with_its_parameters(name: str, expected: dict[str, list[str]]) -> None:
    """The second sum of the transformers is an output of theirs."""
    case = Case(*modules.build(name))
    assert list(case.branches) == list(expected)
    for branch, weights in expected.items():
        slim = copy.deepcopy(case.module)
        assert Slim(Plan(branches=(branch,)))(slim).modified
        left = dict(slim.named_parameters())
        assert not set(weights) & set(left)
        whole = dict(case.module.named_parameters())
        assert all(torch.equal(parameter, whole[key]) for key, parameter in left.items())
        assert case.distance(case.run(slim), case.answers) > 1e-3
        assert case.distance(case.run(slim), case.after(Mask(Plan(branches=(branch,))))) < TOLERANCE
        slim(*case.args, **case.kwargs)


def test_removing_something_changes_the_outputs(case) -> None:
    plan = random_plan(case.groups, 0, 0.5)
    assert case.distance(case.after(Mask(plan)), case.answers) > 1e-3


def test_order_does_not_matter(case) -> None:
    for seed in range(3):
        assert case.permuted_against_original(seed) < TOLERANCE


def test_an_empty_plan_changes_nothing(case) -> None:
    assert case.distance(case.after(Slim(Plan())), case.answers) < 1e-6


def test_the_slim_module_has_the_names_it_had_and_fits_again(case) -> None:
    """Lifting it again finds the same groups, with what was kept of them, and every noted shape is the real one."""
    plan = random_plan(case.groups, 0, 0.5)
    slim = copy.deepcopy(case.module)
    Slim(plan)(slim)
    left = sorted(len(entry.keep) for entry in plan.groups if len(entry.keep) > 1)
    assert sorted(group.size for group in find_groups(couple(lift(slim).graph)).groups) == left
    assert dict(slim.named_parameters()).keys() == dict(case.module.named_parameters()).keys()
    assert sum(p.numel() for p in slim.parameters()) < sum(p.numel() for p in case.module.parameters())


class Recorder(torch.fx.Interpreter):
    """Checks every noted shape against the real one."""

    def run_node(self, node):
        result = super().run_node(node)
        noted = node.meta.get("val")
        if isinstance(noted, torch.Tensor) and isinstance(result, torch.Tensor):
            for mine, theirs in zip(noted.shape, result.shape, strict=True):
                assert not isinstance(mine, int) or mine == theirs, node
        return result


@pytest.mark.parametrize("name", modules.MODULES)
def test_noted_shapes_are_the_real_ones(name: str) -> None:
    case = Case(*modules.build(name))
    slim = copy.deepcopy(case.module)
    Slim(random_plan(case.groups, 3, 0.5))(slim)
    flat = torch.utils._pytree.tree_flatten((case.args, case.kwargs))[0]
    with torch.no_grad():
        Recorder(slim).run(*flat, enable_io_processing=False)


def test_other_batches_run_and_gradients_flow() -> None:
    module, (x,), _ = modules.build("residual")
    case = Case(module, (x,))
    slim = copy.deepcopy(case.module)
    Slim(random_plan(case.groups, 0, 0.5))(slim)
    assert slim(torch.randn(7, 3, 8, 8)).shape == (7, 5)
    slim(x).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in slim.named_parameters()}
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values())


def test_a_scale_that_attention_infers_is_that_of_the_dense_head() -> None:
    case = Case(*modules.build("attention"))
    slim = copy.deepcopy(case.module)
    Slim(random_plan(case.groups, 0, 0.5))(slim)
    (call,) = (n for n in slim.graph.nodes if "scaled_dot_product" in str(n.target))
    assert call.kwargs["scale"] == pytest.approx(3**-0.5)


@pytest.mark.parametrize("name", ["residual"])
def test_folding_batch_norms(name: str) -> None:
    case = Case(*modules.build(name))
    folded = copy.deepcopy(case.module)
    assert FoldBatchNorm()(folded).modified
    assert not any("batch_norm" in str(node.target) for node in folded.graph.nodes)
    assert case.distance(case.run(folded), case.answers) < 1e-5
    names = dict(folded.named_parameters()).keys()
    assert {"stem.weight", "stem.bias", "conv1.bias", "conv2.bias"} <= names
    assert not any("norm" in each for each in names)
    again = find_groups(couple(lift(folded).graph))
    assert [(g.name, g.size) for g in again.groups] == [(g.name, g.size) for g in case.groups.groups]


SINGLE = {"mixtral_grouped": "PyTorch's grouped product takes no doubles"}


QUICK = ("resnet18", "llama", "bert", "mixtral", "mixtral_grouped")


@pytest.mark.parametrize("name", params.names(QUICK))
def test_the_zoo(name: str) -> None:
    params.require(name)
    zoo.import_torch()
    # In double precision: another order of summation moves the outputs of a deep network in single precision by up to 1e-4.
    dtype = torch.float32 if name in SINGLE else torch.float64
    inputs = tuple(torch.from_numpy(a) for a in zoo.samples(name).values())
    inputs = tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)
    case = Case(zoo.module(name).to(dtype), inputs, dynamic=False)
    for seed, fraction in PLANS[:2]:
        assert case.slim_against_mask(seed, fraction) < TOLERANCE
    assert case.permuted_against_original(0) < TOLERANCE
    assert len(case.branches) == BRANCHES.get(name, len(case.branches))
    if name in LAST_BRANCH:
        assert list(case.branches)[-1] == LAST_BRANCH[name]
    for seed, fraction, depth in DEPTHS[1:] if case.branches else ():
        assert case.slim_against_mask(seed, fraction, depth) < TOLERANCE


def test_queries_and_keys_may_become_narrower_than_values() -> None:
    """Attention then gives its result in another memory layout, of which the views that were exported need not exist."""
    case = Case(zoo.module("bert"), tuple(torch.from_numpy(array) for array in zoo.samples("bert").values()))
    dims = [g for g in case.groups.groups if any(not c.weighted for c in g.consumers)]
    assert len(dims) == 2
    plan = Plan(tuple(GroupPlan(group.name, group.size, tuple(range(0, group.size, 2))) for group in dims))
    assert case.distance(case.after(Slim(plan)), case.after(Mask(plan))) < TOLERANCE
