"""Running a model in steps, and changing it under way, against running it whole."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import find_groups
from modhifi_graph.dialects import program
from modhifi_graph.dialects.onnx import lift
from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.dialects.onnx_stepper import OnnxStepper as Stepper
from modhifi_graph.dialects.onnx_stepper import runner
from modhifi_graph.exporters.onnxruntime import Engine
from modhifi_graph.latency.pieces import pieces
from modhifi_graph.models.opening import open_model
from modhifi_graph.passes.normal_form import normalise
from modhifi_graph.passes.slim import Slim
from modhifi_graph.plan import GroupPlan, Plan

from ..oracles import small

MODELS = ("conv_chain", "residual_projection", "two_outputs", "two_inputs", "if_subgraph", "lstm", "dynamic_reshape",
          "attention_gqa", "embedding", "c2f_split")  # fmt: skip


def opened(name: str) -> tuple[ir.Model, list[dict[str, np.ndarray]]]:
    """The model and three batches, the last one smaller where the batch is free."""
    proto = small.SMALL[name]()
    return normalise(ir.from_proto(proto), name), [
        small.samples(proto, seed, 3 if seed < 2 else 2) for seed in range(3)
    ]


def whole(model: ir.Model | onnx.ModelProto, batch: dict[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    proto = to_proto(model) if isinstance(model, ir.Model) else onnx.ModelProto.FromString(model.SerializeToString())
    present = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    return Engine.compile(proto, threads=1).run(batch, names)


def made(model: ir.Model) -> list[str]:
    return [str(value.name) for node in model.graph for value in node.outputs if value.name]


def live(stepper: Stepper) -> set[str]:
    """What it holds for the first batch."""
    return set(stepper._live[0])


def values(stepper: Stepper, name: str) -> list[np.ndarray]:
    """One value in every batch."""
    return [found.numpy() for (found,) in stepper.visit([name])]


@pytest.mark.parametrize("name", MODELS)
def test_every_step_gives_what_one_run_does(name: str) -> None:
    model, batches = opened(name)
    names = made(model)
    stepper = Stepper(model, batches, names, threads=1)
    assert stepper.batches == 3
    for value in names:
        for batch, found in zip(batches, values(stepper, value), strict=True):
            expected = whole(model, batch, [value])[value]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
            assert found.dtype == expected.dtype
    assert live(stepper) == set()


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_held_but_what_is_read_or_visited_later(name: str) -> None:
    model, batches = opened(name)
    wanted = made(model)[::3]
    stepper = Stepper(model, batches, wanted, threads=1)
    for number, value in enumerate(wanted):
        values(stepper, value)
        nodes = list(to_proto(model).graph.node)
        position = next(i for i, node in enumerate(nodes) if value in node.output) + 1
        done = {name for node in nodes[:position] for name in node.output} | set(batches[0])
        assert live(stepper) == (_mentioned(nodes[position:]) | set(wanted[number + 1 :])) & done


def _mentioned(nodes: list[onnx.NodeProto]) -> set[str]:
    """What nodes and their subgraphs read."""
    found: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        found |= set(node.input)
        for attribute in node.attribute:
            pending += attribute.g.node
            found |= {output.name for output in attribute.g.output}
    return found


def test_a_value_can_be_visited_twice_and_out_of_order() -> None:
    model, batches = opened("conv_chain")
    stepper = Stepper(model, batches, ["c1", "c0", "c1"], threads=1)
    later, earlier = values(stepper, "c1"), values(stepper, "c0")
    np.testing.assert_allclose(later[0], whole(model, batches[0], ["c1"])["c1"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(earlier[0], whole(model, batches[0], ["c0"])["c0"], rtol=1e-5, atol=1e-6)
    assert "c0" not in live(stepper)
    assert np.shares_memory(values(stepper, "c1")[0], later[0])


def test_several_values_are_visited_together() -> None:
    model, batches = opened("residual_projection")
    stepper = Stepper(model, batches, ["r1", "s", "x"], threads=1)
    for batch, found in zip(batches, stepper.visit(["r1", "s", "x"]), strict=True):
        expected = whole(model, batch, ["r1", "s"])
        for value, name in zip(found, ("r1", "s"), strict=False):
            np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)
        assert np.shares_memory(found[2].numpy(), batch["x"])


def test_only_one_batch_of_what_is_only_looked_at_is_held() -> None:
    model, batches = opened("conv_chain")
    stepper = Stepper(model, batches, ["y"], threads=1)
    held = [sum("y" in batch for batch in stepper._live) for _ in stepper.visit(["y"])]
    assert held == [0, 0, 0], "nobody will ask for it again"


@pytest.mark.parametrize("name", MODELS)
def test_a_frontier_that_is_too_wide_is_not_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step gives what one run does, a changed constant included, and no frontier is wider than the one before."""
    model, batches = opened(name)
    names = made(model)
    expected = [whole(model, batch, names) for batch in batches]
    monkeypatch.setattr(program, "KEPT_BYTES", 0)
    stepper = Stepper(model, batches, [*names, names[0]], threads=1)
    sizes = [sum(array.nbytes for array in batches[0].values())]
    for value in [*names, names[0]]:
        for found, wanted in zip(values(stepper, value), expected, strict=True):
            np.testing.assert_allclose(found, wanted[value], rtol=1e-5, atol=1e-6)
        sizes.append(sum(array.nbytes for array in stepper._live[0].values()))
    assert sizes == sorted(sizes, reverse=True)


def test_what_is_run_again_has_the_weights_it_was_given_last(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batches = opened("conv_chain")
    monkeypatch.setattr(program, "KEPT_BYTES", 0)
    stepper = Stepper(model, batches, ["x", "r0", "y"], threads=1)
    values(stepper, "x")
    initializer = model.graph.initializers["w0"]
    assert initializer.const_value is not None
    halved = initializer.const_value.numpy() / 2
    stepper.replace("w0", halved)
    initializer.const_value = ir.tensor(halved, name="w0")
    for name in ("r0", "y"):
        for batch, found in zip(batches, values(stepper, name), strict=True):
            np.testing.assert_allclose(found, whole(model, batch, [name])[name], rtol=1e-5, atol=1e-6)


def test_inputs_are_values_too() -> None:
    model, batches = opened("conv_chain")
    stepper = Stepper(model, batches, ["c1", "x"], threads=1)
    values(stepper, "c1")
    assert all(np.shares_memory(x, batch["x"]) for x, batch in zip(values(stepper, "x"), batches, strict=True))
    assert "x" not in live(stepper)


def test_advancing_runs_what_comes_before_a_node() -> None:
    model, batches = opened("conv_chain")
    stepper = Stepper(model, batches, threads=1)
    stepper.advance("c1")
    assert live(stepper) == {"r0"}
    stepper.advance("r0")
    assert live(stepper) == {"r0"}, "there is no way back"
    stepper.advance("y")
    assert live(stepper) == {"f"}


def test_values_that_a_subgraph_captures_are_kept() -> None:
    model, batches = opened("if_subgraph")
    branch = next(node for node in model.graph if node.op_type == "If")
    assert "r0" not in {value.name for value in branch.inputs if value is not None}
    stepper = Stepper(model, batches, ["s", "b"], threads=1)
    values(stepper, "s")
    assert "r0" in live(stepper)
    for batch, found in zip(batches, values(stepper, "b"), strict=True):
        np.testing.assert_allclose(found, whole(model, batch, ["b"])["b"], rtol=1e-5, atol=1e-6)
    assert "r0" not in live(stepper)


def changed(model: ir.Model, name: str, array: np.ndarray) -> onnx.ModelProto:
    proto = to_proto(model)
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))
    return proto


def weight(model: ir.Model, name: str) -> np.ndarray:
    value = model.graph.initializers[name].const_value
    assert value is not None
    return value.numpy()


def test_replacing_a_constant_changes_what_has_not_run_yet() -> None:
    model, batches = opened("conv_chain")
    stepper = Stepper(model, batches, ["r0", "r1", "y"], threads=1)
    before = values(stepper, "r0")
    stepper.replace("w0", 0 * weight(model, "w0"))  # too late
    stepper.replace("w1", 2 * weight(model, "w1"))
    expected = whole(changed(model, "w1", 2 * weight(model, "w1")), batches[0], ["r0", "r1", "y"])
    np.testing.assert_allclose(before[0], expected["r0"], rtol=1e-5, atol=1e-6)
    for name in ("r1", "y"):
        np.testing.assert_allclose(values(stepper, name)[0], expected[name], rtol=1e-5, atol=1e-6)
    assert not np.allclose(expected["r1"], whole(model, batches[0], ["r1"])["r1"])


def test_a_replaced_constant_may_have_another_shape() -> None:
    model, batches = opened("flatten_gemm_transb0")
    stepper = Stepper(model, batches, ["r1", "y"], threads=1)
    r1 = values(stepper, "r1")[0]
    stepper.replace("w2", weight(model, "w2")[:, :3])
    np.testing.assert_allclose(values(stepper, "y")[0], r1 @ weight(model, "w2")[:, :3], rtol=1e-5, atol=1e-6)


def test_rewiring_gives_one_node_a_constant_of_its_own() -> None:
    model, batches = opened("shared_weight")
    stepper = Stepper(model, batches, ["r0", "c1", "c2"], threads=1)
    r0 = values(stepper, "r0")[0]
    stepper.rewire("c1", 1, "own", 0 * weight(model, "shared"))
    c1, c2 = values(stepper, "c1")[0], values(stepper, "c2")[0]
    bias = weight(model, "b").reshape(1, -1, 1, 1)
    np.testing.assert_allclose(c1, np.broadcast_to(bias, c1.shape), rtol=1e-6)
    proto = to_proto(model)  # the node that shares the weight still has it
    nodes = [node for node in proto.graph.node if node.output[0] == "c2"]
    expected = whole(model, batches[0], ["c2"])["c2"]
    assert nodes[0].input[1] == "shared"
    assert not np.allclose(c2, expected), "its input has changed"
    assert not np.allclose(c2, np.broadcast_to(bias, c2.shape)), "its weight has not"
    assert r0.shape == c1.shape


def test_rewiring_can_give_a_node_a_bias() -> None:
    model, batches = opened("conv_transpose")
    stepper = Stepper(model, batches, ["c0"], threads=1)
    bias = np.arange(8, dtype=np.float32)
    stepper.rewire("c0", 2, "bias", bias)
    expected = whole(model, batches[0], ["c0"])["c0"] + bias.reshape(1, 8, 1, 1)
    np.testing.assert_allclose(values(stepper, "c0")[0], expected, rtol=1e-5, atol=1e-5)


class TestOutcome:
    def test_without_changes_it_is_the_model(self) -> None:
        for name in ("conv_chain", "two_outputs", "if_subgraph", "attention_gqa"):
            model, batches = opened(name)
            outputs = [str(value.name) for value in model.graph.outputs]
            stepper = Stepper(model, batches, outputs, threads=1)
            for step in made(model)[::4]:
                stepper.advance(step)
                for batch, found in zip(batches, stepper.outcome(outputs, {}), strict=True):
                    expected = whole(model, batch, outputs)
                    assert found.keys() == expected.keys()
                    for output in outputs:
                        np.testing.assert_allclose(found[output], expected[output], rtol=1e-5, atol=1e-6)

    def test_outputs_that_were_computed_before_are_among_them(self) -> None:
        model, batches = opened("two_outputs")
        stepper = Stepper(model, batches, ["y", "feature"], threads=1)
        values(stepper, "r2")
        trial = {"y": (1, 0 * weight(model, "w3"), np.ones((1, 5, 1, 1), dtype=np.float32))}
        for batch, found in zip(batches, stepper.outcome(["y", "feature"], trial), strict=True):
            np.testing.assert_array_equal(found["y"], np.ones(found["y"].shape))
            np.testing.assert_allclose(
                found["feature"], whole(model, batch, ["feature"])["feature"], rtol=1e-5, atol=1e-6
            )
        stepper = Stepper(model, batches, ["y", "y", "feature"], threads=1)
        values(stepper, "y")
        assert [sorted(found) for found in stepper.outcome(["feature", "y"], {})] == [["feature", "y"]] * 3

    def test_weights_and_shifts_take_effect_and_nothing_is_kept(self) -> None:
        model, batches = opened("conv_chain")
        stepper = Stepper(model, batches, ["r0", "y"], threads=1)
        values(stepper, "r0")
        before = live(stepper)
        shift = np.linspace(-1, 1, 6, dtype=np.float32)
        trial = {"c1": (1, 0.5 * weight(model, "w1"), shift.reshape(1, 6, 1, 1))}
        found = stepper.outcome(["y"], trial)
        proto = changed(model, "w1", 0.5 * weight(model, "w1"))
        for tensor in proto.graph.initializer:
            if tensor.name == "b1":
                tensor.CopyFrom(onnx.numpy_helper.from_array(weight(model, "b1") + shift, "b1"))
        np.testing.assert_allclose(found[0]["y"], whole(proto, batches[0], ["y"])["y"], rtol=1e-5, atol=1e-6)
        assert live(stepper) == before
        for batch, value in zip(batches, values(stepper, "y"), strict=True):
            np.testing.assert_allclose(value, whole(model, batch, ["y"])["y"], rtol=1e-5, atol=1e-6)

    def test_a_graph_output_can_be_changed(self) -> None:
        model, batches = opened("flatten_gemm_transb0")
        stepper = Stepper(model, batches, ["y"], threads=1)
        shift = np.full((1, 5), 3, dtype=np.float32)
        found = stepper.outcome(["y"], {"y": (1, weight(model, "w2"), shift)})
        np.testing.assert_allclose(found[1]["y"], whole(model, batches[1], ["y"])["y"] + 3, rtol=1e-5, atol=1e-5)

    def test_a_value_can_be_replaced_by_a_constant(self) -> None:
        """All of it, whatever its op has computed; of several outputs of an op only that one."""
        model, batches = opened("conv_chain")
        stepper = Stepper(model, batches, ["y"], threads=1)
        stepper.advance("c1")
        constant = np.linspace(-1, 1, 6, dtype=np.float32).reshape(1, 6, 1, 1)
        found = stepper.outcome(["y"], {}, {"c1": constant})
        trial = {"c1": (1, 0 * weight(model, "w1"), constant - weight(model, "b1").reshape(1, 6, 1, 1))}
        for one, other in zip(found, stepper.outcome(["y"], trial), strict=True):
            np.testing.assert_allclose(one["y"], other["y"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            stepper.outcome(["y"], {})[0]["y"], whole(model, batches[0], ["y"])["y"], rtol=1e-5, atol=1e-6
        )
        model, batches = opened("c2f_split")
        stepper = Stepper(model, batches, ["y"], threads=1)
        for one, batch in zip(stepper.outcome(["y"], {}, {"b": np.zeros((), np.float32)}), batches, strict=True):
            last = weight(model, "w3").copy()
            last[:, 4:] = 0  # all that comes from b
            expected = whole(changed(model, "w3", last), batch, ["y"])["y"]
            np.testing.assert_allclose(one["y"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("width", [49, 50, 52])
def test_what_a_fused_convolution_makes_can_be_asked_for(width: int) -> None:
    """Both summands of a projecting block: ONNX Runtime loses one of them at widths that are no multiples of 4."""
    dense = normalise(open_model("sample:digits-cnn").model.clone(), "digits-cnn")
    groups = find_groups(couple(lift(dense).graph)).groups
    kept = [GroupPlan(group.name, group.size, tuple(range(width))) for group in groups if group.size >= 64]
    Slim(Plan(tuple(kept), {}))(dense)
    graph = lift(dense).graph
    names = list(dict.fromkeys(value.name for piece in pieces(graph) for value in piece.inputs))
    conv, total = "/stage2/bn2/BatchNormalization_output_0", "/stage2/Add_output_0"
    projection = "/stage2/shortcut/shortcut.1/BatchNormalization_output_0"
    image = np.random.default_rng(0).standard_normal((2, 1, 32, 32)).astype(np.float32)
    found = {name: array.numpy() for name, array in runner(dense, names, 1)({"image": image}).items()}
    apart = {name: runner(dense, [name], 1)({"image": image})[name].numpy() for name in (projection, total)}
    assert found[conv].shape[1] == width
    np.testing.assert_allclose(found[conv] + apart[projection], apart[total], rtol=1e-5, atol=1e-5)
