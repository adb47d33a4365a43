"""Lifting modules: what each operator becomes, and the groups it gives."""

from __future__ import annotations

import functools

import pytest

torch = pytest.importorskip("torch")

from modhifi_graph.axes.coupling import couple  # noqa: E402
from modhifi_graph.axes.groups import Groups, find_groups  # noqa: E402
from modhifi_graph.axes.movement import MOVEMENT  # noqa: E402
from modhifi_graph.axes.rules import RULES  # noqa: E402
from modhifi_graph.dialects.aten import lift  # noqa: E402
from modhifi_graph.dialects.aten_module import functional  # noqa: E402
from modhifi_graph.dialects.aten_table import ATEN, BOUNDARIES  # noqa: E402
from tools import zoo  # noqa: E402

from ..oracles import golden, modules, params  # noqa: E402

GROUPS = {
    "residual": {"stem.weight": 8, "conv1.weight": 12, "conv2.weight/0": 4, "conv2.weight/2": 4, "point.weight": 10},
    "attention": {"qkv.weight/0": 4, "qkv.weight/1": 3, "up.weight": 20},
    "grouped": {"q.weight/0": 2, "q.weight/1": 2, "q.weight/2": 6, "kv.weight/2": 6, "gates.weight": 14},
    "norms": {"second.weight": 8, "mix": 6},
}
KINDS = {
    "attention": {"qkv.weight/0": "heads", "qkv.weight/1": "head dims", "up.weight": "hidden"},
    "residual": dict.fromkeys(GROUPS["residual"], "channels"),
}


@functools.cache
def exported(name: str) -> Groups:
    module, args, kwargs = modules.build(name)
    return find_groups(couple(lift(functional(torch.export.export(module, args, kwargs))).graph))


@pytest.mark.parametrize("name", modules.MODULES)
def test_the_groups_of_a_small_module(name: str) -> None:
    assert {group.name: group.size for group in exported(name).groups} == GROUPS[name]
    kinds = {group.name: group.kind for group in exported(name).groups}
    assert KINDS.get(name, kinds) == kinds


def core_operators() -> list[torch._ops.OpOverload]:
    packets = (getattr(torch.ops.aten, name) for name in dir(torch.ops.aten))
    overloads = [getattr(p, o) for p in packets if hasattr(p, "overloads") for o in p.overloads()]
    return [op for op in overloads if torch.Tag.core in op.tags]


def test_every_core_operator_has_a_rule_or_a_stated_boundary() -> None:
    operators = core_operators()
    assert len(operators) > 150
    for op in operators:
        name = op._schema.name.removeprefix("aten::")
        assert name in ATEN or name in BOUNDARIES or torch.Tag.pointwise in op.tags, op
    assert not ATEN.keys() & BOUNDARIES.keys()


@pytest.mark.parametrize("name", modules.MODULES)
def test_every_kind_is_one_that_the_axes_know(name: str) -> None:
    graph = exported(name).coupling.graph
    assert [op.kind for op in graph.ops if op.domain] == []
    assert {op.kind for op in graph.ops} <= RULES.keys() | MOVEMENT.keys()


QUICK = ("resnet18", "shufflenet_v2_x1_0", "llama", "bert", "mixtral", "mixtral_grouped")


@pytest.mark.parametrize("name", params.names(QUICK))
def test_the_groups_of_the_zoo_are_those_on_the_list(name: str) -> None:
    """The same list that the ONNX dialect must find, in `tests/oracles/test_equivalence.py`."""
    params.require(name)
    zoo.import_torch()
    inputs = tuple(torch.from_numpy(array) for array in zoo.samples(name).values())
    groups = find_groups(couple(lift(functional(torch.export.export(zoo.module(name), inputs))).graph))
    assert golden.listing(groups) == golden.expected(name)


class Tables(torch.nn.Module):
    """Makes tensors as it runs, where its input is and where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + torch.arange(4, device=x.device) + torch.zeros(4)


def test_a_module_is_moved_with_all_that_it_makes() -> None:
    module = Tables()
    program = torch.export.export(module, (torch.ones(2, 4),))
    moved = functional(program, torch.device("meta"))
    assert moved(torch.ones(2, 4, device="meta")).device.type == "meta"
    assert {p.device.type for p in moved.parameters()} == {"meta"}
    assert {p.device.type for p in (*module.parameters(), *program.parameters())} == {"cpu"}
