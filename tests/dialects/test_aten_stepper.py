"""Running a module in steps, and changing it under way, against running it whole."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from modhifi_graph.dialects import program  # noqa: E402
from modhifi_graph.dialects.aten import Lifted, lift  # noqa: E402
from modhifi_graph.dialects.aten_module import attribute, functional  # noqa: E402

from ..oracles import modules  # noqa: E402


def opened(name: str) -> tuple[Lifted, list[dict[str, torch.Tensor]]]:
    """The module, lifted, and three batches of the size it was exported with."""
    module, args, kwargs = modules.build(name)
    lifted = lift(functional(torch.export.export(module, args, kwargs)))
    flat = torch.utils._pytree.tree_flatten((args, kwargs))[0]
    names = [value.name for value in lifted.graph.inputs]
    return lifted, [{n: tensor * (1 + i) for n, tensor in zip(names, flat, strict=True)} for i in range(3)]


def made(lifted: Lifted) -> list[str]:
    return [value.name for op in lifted.graph.ops for value in op.outputs if value.name]


class Recorder(torch.fx.Interpreter):
    """Every value of one run, by its name in the graph."""

    def __init__(self, module) -> None:
        super().__init__(module)
        self.seen: dict[str, torch.Tensor] = {}

    def run_node(self, node):
        result = super().run_node(node)
        self.seen[node.name] = result
        if isinstance(result, tuple | list):
            self.seen.update({f"{node.name}.{i}": part for i, part in enumerate(result)})
        return result


def whole(lifted: Lifted, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    recorder = Recorder(lifted.module)
    with torch.no_grad():
        recorder.run(*batch.values(), enable_io_processing=False)
    return recorder.seen


@pytest.mark.parametrize("kept", [1 << 31, 0])
@pytest.mark.parametrize("name", modules.MODULES)
def test_every_step_gives_what_one_run_does(name: str, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "KEPT_BYTES", kept)
    lifted, batches = opened(name)
    names, expected = made(lifted), [whole(lifted, batch) for batch in batches]
    stepper = lifted.stepper(batches, names)
    for value in names:
        for (found,), wanted in zip(stepper.visit([value]), expected, strict=True):
            torch.testing.assert_close(found, wanted[value])
    if kept:
        assert all(not live for live in stepper._live), "nobody needs anything any more"


@pytest.mark.parametrize("name", modules.MODULES)
def test_all_at_once(name: str) -> None:
    lifted, batches = opened(name)
    names = [lifted.graph.inputs[0].name, *made(lifted)[::3]]
    for found, batch in zip(lifted.results(batches, names), batches, strict=True):
        wanted = {**whole(lifted, batch), **batch}
        assert found.keys() == set(names)
        for value in names:
            torch.testing.assert_close(found[value], wanted[value])


def consumer(lifted: Lifted, kind: str, number: int):
    return [op for op in lifted.graph.ops if op.kind == kind][number]


class TestChanges:
    def test_an_outcome_has_other_weights_and_changes_nothing(self) -> None:
        lifted, batches = opened("residual")
        outputs = [value.name for value in lifted.graph.outputs]
        op = consumer(lifted, "Conv", 1)
        weight = op.inputs[1].array()
        shift = np.linspace(-1, 1, 12, dtype=np.float32).reshape(1, 12, 1, 1)
        before = [whole(lifted, batch)[outputs[0]] for batch in batches]
        stepper = lifted.stepper(batches)
        stepper.advance(op.outputs[0].name)
        found = stepper.outcome(outputs, {op.outputs[0].name: (1, 0.5 * weight, shift)})
        for plain, wanted in zip(stepper.outcome(outputs, {}), before, strict=True):
            torch.testing.assert_close(plain[outputs[0]], wanted)
        parameter = attribute(lifted.module, "conv1.weight")
        with torch.no_grad():
            parameter.mul_(0.5)
        changed = Shifted(lifted.module, op.name, torch.from_numpy(shift))
        with torch.no_grad():
            changed.run(*batches[0].values(), enable_io_processing=False)
        torch.testing.assert_close(found[0][outputs[0]], changed.seen[outputs[0]])

    def test_a_value_can_be_replaced_by_a_constant(self) -> None:
        lifted, batches = opened("residual")
        (output,) = [value.name for value in lifted.graph.outputs]
        name = consumer(lifted, "Conv", 2).outputs[0].name
        stepper = lifted.stepper(batches)
        stepper.advance(name)
        instead = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 16, 1, 1)
        found = stepper.outcome([output], {}, {name: instead})
        for batch, answer in zip(batches, found, strict=True):
            shift = torch.from_numpy(instead) - whole(lifted, batch)[name]
            changed = Shifted(lifted.module, name, shift)
            with torch.no_grad():
                changed.run(*batch.values(), enable_io_processing=False)
            torch.testing.assert_close(answer[output], changed.seen[output], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(stepper.outcome([output], {})[0][output], whole(lifted, batches[0])[output])

    def test_a_weight_that_is_read_transposed(self) -> None:
        lifted, batches = opened("norms")
        op = consumer(lifted, "Gemm", 1)
        assert op.inputs[1].name == "last"
        (output,) = [value.name for value in lifted.graph.outputs]
        zero = {output: (1, np.zeros((5, 6), np.float32), np.full((1, 5), 3, np.float32))}
        torch.testing.assert_close(lifted.stepper(batches).outcome([output], zero)[1][output], torch.full((4, 5), 3.0))

    def test_assigning_reaches_the_module_and_the_run(self) -> None:
        lifted, batches = opened("residual")
        op, last = consumer(lifted, "Conv", 1), lifted.graph.outputs[0].name
        stepper = lifted.stepper(batches, [op.inputs[0].name, last])
        list(stepper.visit([op.inputs[0].name]))
        array = op.inputs[1].array() / 3
        lifted.assign(op, 1, array, stepper)
        assert op.input(2) is None
        lifted.assign(op, 2, np.arange(12, dtype=np.float32), stepper)
        names = dict(lifted.module.named_parameters())
        assert torch.equal(names["conv1.bias"], torch.arange(12.0))
        assert names["conv1.weight"].requires_grad
        for (found,), batch in zip(stepper.visit([last]), batches, strict=True):
            torch.testing.assert_close(found, whole(lifted, batch)[last])


class Shifted(Recorder):
    """One call gives more than it computes."""

    def __init__(self, module, name: str, shift: torch.Tensor) -> None:
        super().__init__(module)
        self.name, self.shift = name, shift

    def run_node(self, node):
        result = super().run_node(node)
        if node.name == self.name:
            result = result + self.shift
        self.seen[node.name] = result
        return result
