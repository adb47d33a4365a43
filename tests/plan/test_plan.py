"""Plans: JSON both ways, and a message for everything that can be wrong with one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Groups, find_groups
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.errors import InputError
from modhifi_graph.passes.normal_form import normalise
from modhifi_graph.plan import GroupPlan, Plan, random_plan

from ..oracles import small

PLAN = Plan(
    (GroupPlan("w0", 8, (0, 2, 3, 7)), GroupPlan("w1", 6, (1, 4))), {"criterion": "obs", "macs": 0.5, "seed": 3}
)


@pytest.fixture(scope="module")
def groups() -> Groups:
    model = normalise(ir.from_proto(small.SMALL["conv_chain"]()), "m")
    return find_groups(couple(lift(model).graph))


def as_json(**changes: Any) -> dict[str, Any]:
    return {**PLAN.to_json(), **changes}


class TestJson:
    def test_both_ways(self, tmp_path: Path) -> None:
        text = json.dumps(PLAN.to_json())
        assert Plan.from_json(json.loads(text)) == PLAN
        path = tmp_path / "plan.json"
        path.write_text(text, encoding="utf-8")
        assert Plan.load(path) == Plan.load(str(path)) == PLAN

    def test_what_is_written(self) -> None:
        assert PLAN.to_json() == {
            "version": 1,
            "settings": {"criterion": "obs", "macs": 0.5, "seed": 3},
            "groups": [
                {"name": "w0", "size": 8, "keep": [0, 2, 3, 7]},
                {"name": "w1", "size": 6, "keep": [1, 4]},
            ],
        }

    def test_with_branches(self) -> None:
        """Who knows only version 1 refuses such a plan instead of leaving the branches in."""
        plan = dataclasses.replace(PLAN, branches=("layer1.0.conv2.weight", "layer2.0.conv2.weight"))
        data = json.loads(json.dumps(plan.to_json()))
        assert data == {
            **PLAN.to_json(), "version": 2, "branches": ["layer1.0.conv2.weight", "layer2.0.conv2.weight"]
        }  # fmt: skip
        assert Plan.from_json(data) == plan != PLAN

    def test_whether_it_removes_anything(self) -> None:
        assert not Plan()
        assert PLAN
        assert Plan(branches=("w2",))

    def test_nothing_removed(self) -> None:
        assert Plan.from_json(Plan().to_json()) == Plan()

    def test_settings_may_be_missing(self) -> None:
        data = PLAN.to_json()
        del data["settings"]
        assert Plan.from_json(data).groups == PLAN.groups

    def test_positions_are_plain_integers(self, groups: Groups) -> None:
        plan = random_plan(groups, 0)
        assert json.loads(json.dumps(plan.to_json())) == plan.to_json()


class TestErrors:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (as_json(version=3), "p.json: plan version 3, expected 1 or 2; make the plan again"),
            (as_json(version="1"), "p.json: plan version '1', expected 1 or 2"),
            (as_json(version=2), "p.json: not a plan written by --plan-out: KeyError('branches')"),
            (as_json(version=2, branches="w2"), "p.json: not a plan written by --plan-out: TypeError"),
            ({}, "p.json: not a plan written by --plan-out: KeyError('version')"),
            ([], "p.json: not a plan written by --plan-out: TypeError"),
            (None, "p.json: not a plan written by --plan-out"),
            ("text", "p.json: not a plan written by --plan-out"),
            ({"version": 1}, "p.json: not a plan written by --plan-out: KeyError('groups')"),
            (as_json(groups=[{"name": "w0"}]), "p.json: not a plan written by --plan-out: KeyError('size')"),
            (
                as_json(groups=[{"name": "w0", "size": "x", "keep": [0]}]),
                "p.json: not a plan written by --plan-out: ValueError",
            ),
            (as_json(groups=[3]), "p.json: not a plan written by --plan-out: TypeError"),
            (as_json(groups=3), "p.json: not a plan written by --plan-out: TypeError"),
            (as_json(settings=3), "p.json: not a plan written by --plan-out: TypeError"),
        ],
    )
    def test_what_is_no_plan(self, data: Any, message: str) -> None:
        with pytest.raises(InputError) as caught:
            Plan.from_json(data, "p.json")
        assert str(caught.value).startswith(message)

    @pytest.mark.parametrize("keep", [(), (2, 1), (1, 1), (-1, 2), (0, 8), (8,)])
    def test_positions_that_cannot_be(self, keep: tuple[int, ...]) -> None:
        with pytest.raises(InputError) as caught:
            Plan.from_json(as_json(groups=[{"name": "w0", "size": 8, "keep": list(keep)}]), "p.json")
        assert str(caught.value) == "plan: group 'w0' must keep sorted, distinct positions in [0, 8)"

    @pytest.mark.parametrize("content", ["", "{", "\xff\xfe", "[1,"])
    def test_files_that_are_not_json(self, content: str, tmp_path: Path) -> None:
        path = tmp_path / "plan.json"
        path.write_text(content, encoding="latin-1")
        with pytest.raises(InputError, match=r"plan\.json: cannot be read as a plan"):
            Plan.load(path)

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"none\.json: cannot be read as a plan: .*No such file"):
            Plan.load(tmp_path / "none.json")

    def test_another_models_plan(self, groups: Groups) -> None:
        with pytest.raises(InputError) as caught:
            Plan((GroupPlan("conv1.weight", 8, (0,)),)).resolve(groups)
        assert str(caught.value) == (
            "plan: the model has no group 'conv1.weight'; `modhifi-graph inspect` lists its groups"
        )
        with pytest.raises(InputError) as caught:
            Plan((GroupPlan("w0", 16, (0,)),)).resolve(groups)
        assert str(caught.value) == "plan: group 'w0' has 8 components here, 16 in the plan"


def test_branches_by_name() -> None:
    model = normalise(ir.from_proto(small.SMALL["residual_projection"]()), "m")
    groups = find_groups(couple(lift(model).graph))
    assert Plan().removed(groups) == ()
    assert [branch.name for branch in Plan(branches=("w5", "w2")).removed(groups)] == ["w2", "w5"]
    with pytest.raises(InputError) as caught:
        Plan(branches=("w2", "w9")).removed(groups)
    assert str(caught.value) == (
        "plan: the model has no residual branch 'w9' that may go; `modhifi-graph inspect` lists them"
    )
    plans = [random_plan(groups, seed, depth=0.5) for seed in range(20)]
    assert {plan.branches for plan in plans} == {(), ("w2",), ("w5",), ("w2", "w5")}
    assert all(plan.groups == random_plan(groups, seed).groups for seed, plan in enumerate(plans))


def test_it_resolves_to_factors(groups: Groups) -> None:
    by_name = groups.by_name()
    keep = PLAN.resolve(groups)
    assert set(keep) == {by_name["w0"].factor, by_name["w1"].factor}
    np.testing.assert_array_equal(keep[by_name["w0"].factor], [0, 2, 3, 7])
    assert keep[by_name["w1"].factor].dtype == np.int64


def test_random_plans(groups: Groups) -> None:
    half, tiny = random_plan(groups, 0), random_plan(groups, 0, 0.01)
    assert [len(g.keep) for g in half.groups] == [4, 3]
    assert [len(g.keep) for g in tiny.groups] == [1, 1]
    assert random_plan(groups, 0) == half != random_plan(groups, 1)
