"""Our passes within ``onnx_ir.passes.Sequential``, before and after those of onnx_ir and onnxscript."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from onnx_ir.passes import Sequential, common
from onnxscript.optimizer._constant_folding import FoldConstantsPass
from onnxscript.rewriter import RewritePass
from onnxscript.rewriter.rules.common import fuse_batchnorm_into_conv_rule

from modhifi_graph.errors import InputError
from modhifi_graph.passes.compensate import Compensate
from modhifi_graph.passes.fold_batchnorm import FoldBatchNorm
from modhifi_graph.passes.mask import Mask
from modhifi_graph.passes.normalise import Normalise
from modhifi_graph.passes.slim import Slim
from modhifi_graph.plan import GroupPlan, Plan, random_plan

from ..oracles import small
from ..oracles.equivalence import Case, apply, distance, groups_of, normalised, run

OTHERS: dict[str, Callable[[], ir.passes.PassBase]] = {
    "fold_constants": lambda: FoldConstantsPass(shape_inference=True, input_size_limit=1024, output_size_limit=1 << 20),
    "remove_unused_nodes": common.RemoveUnusedNodesPass,
    "identity_elimination": common.IdentityEliminationPass,
    "common_subexpressions": common.CommonSubexpressionEliminationPass,
    "lift_constants": common.LiftConstantsToInitializersPass,
    "lift_subgraph_initialisers": common.LiftSubgraphInitializersToMainGraphPass,
    "inline": common.InlinePass,
    "topological_sort": common.TopologicalSortPass,
    "shape_inference": common.ShapeInferencePass,
    "default_attributes": common.AddDefaultAttributesPass,
    "clear_metadata": common.ClearMetadataAndDocStringPass,
    "fix_names": common.NameFixPass,
    "fix_outputs": common.OutputFixPass,
    "remove_unused_opsets": common.RemoveUnusedOpsetsPass,
    "check": lambda: common.CheckerPass(full_check=True),
}

MODELS = ("conv_chain", "shared_zero_bias", "channel_shuffle_units", "dynamic_reshape", "attention_gqa", "two_outputs")
TOLERANCE = 1e-5

WORK = """
    g (float[N,3,8,8] x) => (float[N,5] y)
    <float[8,3,3,3] w0, float[6,8,1,1] w1, float[5,6] w2, float half = {0.5}, float three = {3}> {
      i = Identity(x)
      c = Conv<pads = [1,1,1,1]>(i, w0)
      a = Relu(c)
      b = Relu(c)
      s = Add(a, b)
      d = Conv(s, w1)
      dead = Sigmoid(d)
      p = GlobalAveragePool(d)
      f = Flatten(p)
      t = Mul(half, three)
      m = Mul(f, t)
      y = Gemm<transB = 1>(m, w2)
    }"""
"""Something for each of the other passes to do: an identity, the same op twice, a dead one, arithmetic on constants."""

WORK_PLAN = Plan((GroupPlan("w0", 8, (0, 3, 5)), GroupPlan("w1", 6, (1, 2, 3, 5))))


def others() -> list[ir.passes.PassBase]:
    return [make() for make in OTHERS.values()]


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Of the weights; passes that fold or lift constants may add others."""
    return {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer if tensor.name.startswith(("w", "b"))}


def parameters(model: onnx.ModelProto) -> int:
    return sum(int(np.prod(dims)) for dims in shapes(model).values())


@pytest.mark.parametrize("place", ["before", "after", "around"])
@pytest.mark.parametrize("name", MODELS)
def test_all_of_them_in_one_sequence(name: str, place: str) -> None:
    raw = small.SMALL[name]()
    case = Case.of(raw, small.samples(raw))
    plan = random_plan(case.groups, seed=1)
    expected = apply(case.model, Slim(plan))
    first, last = place != "after", place != "before"
    steps = [Normalise(), *(others() if first else []), Slim(plan), *(others() if last else [])]
    model = ir.from_proto(raw)
    result = Sequential(*steps)(model)
    assert result.model is model
    assert result.modified
    found = ir.to_proto(model)
    assert shapes(found) == shapes(expected)
    assert parameters(found) < parameters(case.model)
    reference = run(expected, case.feeds)
    assert distance(reference, case.answers, case.answers) > 1e-3, "the plan removes nothing that matters"
    assert distance(run(found, case.feeds), reference, reference) < TOLERANCE
    onnx.checker.check_model(found, full_check=True)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("change", [Slim, Mask])
def test_each_of_them_next_to_it(change: type[Slim | Mask], other: str) -> None:
    raw = small.build(WORK)
    feeds = small.samples(raw)
    model = normalised(raw)
    expected = apply(model, change(WORK_PLAN))
    reference = run(expected, feeds)
    for steps in ((OTHERS[other](), change(WORK_PLAN)), (change(WORK_PLAN), OTHERS[other]())):
        found = apply(model, Sequential(*steps))
        assert shapes(found) == shapes(expected)
        assert distance(run(found, feeds), reference, reference) < TOLERANCE


@pytest.mark.parametrize("first", [True, False], ids=["they_go_first", "they_go_last"])
def test_they_do_their_work_and_ours_is_done(first: bool) -> None:
    """Where they go first, the model is not yet normalised."""
    raw = small.build(WORK)
    ours = [Normalise(), Slim(WORK_PLAN)]
    assert [node.op_type for node in apply(raw, Sequential(*ours)).graph.node].count("Relu") == 2
    found = apply(raw, Sequential(*others(), *ours) if first else Sequential(*ours, *others()))
    kinds = [node.op_type for node in found.graph.node]
    assert kinds == ["Conv", "Relu", "Add", "Conv", "GlobalAveragePool", "Flatten", "Mul", "Gemm"]
    assert shapes(found) == {"w0": (3, 3, 3, 3), "w1": (4, 3, 1, 1), "w2": (5, 4)}
    feeds = small.samples(raw)
    reference = run(apply(normalised(raw), Slim(WORK_PLAN)), feeds)
    assert distance(run(found, feeds), reference, reference) < TOLERANCE


def test_initialisers_that_deduplication_shared_are_parted_again() -> None:
    raw = small.build("""
        g (float[N,3,8,8] x) => (float[N,5,8,8] y)
        <float[4,3,1,1] w0, float[4] b0 = {1, 2, 3, 4}, float[4,4,1,1] w1, float[4] b1 = {1, 2, 3, 4},
         float[5,4,1,1] w2> {
          c = Conv(x, w0, b0)
          d = Conv(c, w1, b1)
          y = Conv(d, w2)
        }""")  # fmt: skip
    model, feeds = normalised(raw), small.samples(raw)
    deduplicate = common.DeduplicateInitializersPass()
    assert len(apply(model, deduplicate).graph.initializer) == len(model.graph.initializer) - 1 == 4
    plan = Plan((GroupPlan("w0", 4, (0, 1, 3)), GroupPlan("w1", 4, (2,))))
    found = apply(model, Sequential(deduplicate, Slim(plan)))
    biases = [t for t in found.graph.initializer if t.name.startswith("b")]
    assert [numpy_helper.to_array(t).tolist() for t in biases] == [[1, 2, 4], [3]]
    reference = run(apply(model, Slim(plan)), feeds)
    assert distance(run(found, feeds), reference, reference) < TOLERANCE


@pytest.mark.parametrize("first", [True, False], ids=["fused_first", "fused_last"])
def test_batch_norms_that_onnxscript_fuses(first: bool) -> None:
    """What it folds into the weights is what we fold, before slimming as after it."""
    raw = small.SMALL["batchnorm_opset15"]()
    feeds = small.samples(raw)
    plan = Plan((GroupPlan("w0", 8, (0, 1, 4, 6)), GroupPlan("w1", 6, (2, 3))))
    ours = apply(raw, Sequential(Normalise(), FoldBatchNorm(), Slim(plan)))
    fuse = RewritePass([fuse_batchnorm_into_conv_rule])
    steps = (fuse, Normalise(), Slim(plan)) if first else (Normalise(), Slim(plan), fuse)
    found = apply(raw, Sequential(*steps, common.RemoveUnusedNodesPass()))
    for model in (ours, found):
        assert [node.op_type for node in model.graph.node] == ["Conv", "Relu", "Conv", "Relu", "Conv"]
        weights = [tuple(tensor.dims) for tensor in model.graph.initializer]
        assert sorted(weights) == [(2,), (2, 4, 3, 3), (4,), (4, 3, 3, 3), (5, 2, 1, 1)]
    reference = run(ours, feeds)
    assert distance(run(found, feeds), reference, reference) < TOLERANCE


def test_a_repair_in_the_middle_is_kept() -> None:
    raw = small.SMALL["conv_chain"]()
    case = Case.of(raw, small.samples(raw, 0, 64))
    plan = random_plan(case.groups, seed=1, fraction=0.7)
    dense = ir.from_proto(case.model)
    repair = Compensate(dense, groups_of(dense), plan, batches=[case.feeds])
    reference = run(apply(case.model, Sequential(Slim(plan), repair)), case.feeds)
    plain = run(apply(case.model, Slim(plan)), case.feeds)
    assert distance(reference, case.answers, case.answers) < 0.7 * distance(plain, case.answers, case.answers)
    found = apply(case.model, Sequential(*others(), Slim(plan), repair, *others()))
    assert distance(run(found, case.feeds), reference, reference) < TOLERANCE


def test_a_sequence_is_in_place_and_says_whether_it_changed_anything() -> None:
    model = ir.from_proto(normalised(small.SMALL["conv_chain"]()))
    sequence = Sequential(Slim(Plan()), common.RemoveUnusedNodesPass())
    assert sequence.in_place
    assert not sequence(model).modified
    assert Sequential(Slim(random_plan(groups_of(model), 0)), common.RemoveUnusedNodesPass())(model).modified


def test_slimming_before_normalising_is_refused() -> None:
    """Nothing is known of the shapes yet, so nothing may be removed."""
    with pytest.raises(ir.passes.PassError) as raised:
        apply(small.build(WORK), Sequential(Slim(WORK_PLAN), Normalise()))
    assert isinstance(raised.value.__cause__, InputError)
