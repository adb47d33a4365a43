"""Fine-tuning a pruned sample: what pruning alone has lost comes back, by the loop that trains any module."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
onnxruntime = pytest.importorskip("onnxruntime")

from modhifi_graph import OptimizedModule, samples  # noqa: E402
from tools.command import ROOT  # noqa: E402
from tools.samples import finetune  # noqa: E402

VIT = samples.load("digits-vit")


@pytest.fixture(scope="module")
def dense() -> Any:
    return finetune.dense_module(VIT)


@pytest.fixture(scope="module")
def slim(dense: Any) -> OptimizedModule:
    """A ninth of the multiply-accumulates, repaired with few images: about 85 % of the test images are right."""
    found = finetune.prune(dense, VIT, finetune.Settings(samples=100))
    assert found.report["macs"]["after"] <= 0.11 * found.report["macs"]["before"]
    return found


@pytest.fixture(scope="module")
def tuned(slim: OptimizedModule) -> Any:
    return finetune.fine_tune(copy.deepcopy(slim.module), finetune.Settings(epochs=3, rate=5e-4))


@pytest.mark.parametrize("name", samples.names())
def test_the_dense_module_is_the_sample(name: str) -> None:
    sample = samples.load(name)
    images = sample.test[:20]
    (expected,) = session_of(sample.path).run(None, {samples.INPUT: images})
    with torch.no_grad():
        np.testing.assert_allclose(finetune.dense_module(sample)(torch.from_numpy(images)), expected, atol=1e-4)


def session_of(path: Path) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_a_few_epochs_recover_accuracy(dense: Any, slim: OptimizedModule, tuned: Any) -> None:
    before, after = (finetune.accuracy(module, VIT) for module in (slim.module, tuned))
    assert finetune.accuracy(dense, VIT) == pytest.approx(99.67, abs=0.2)
    assert before < 90
    assert after > before + 3


def test_the_dense_model_can_teach_it(dense: Any, slim: OptimizedModule) -> None:
    """Without labels altogether: only what the dense model says counts."""
    fixed = {name: value.clone() for name, value in dense.state_dict().items()}
    settings = finetune.Settings(epochs=2, rate=5e-4, distil=1.0)
    taught = finetune.fine_tune(copy.deepcopy(slim.module), settings, dense)
    before, after = (finetune.accuracy(module, VIT) for module in (slim.module, taught))
    assert after > before + 2
    assert all(torch.equal(value, fixed[name]) for name, value in dense.state_dict().items())
    assert all(parameter.grad is None for parameter in dense.parameters())


def test_the_same_seed_gives_the_same_weights(slim: OptimizedModule) -> None:
    settings = finetune.Settings(epochs=1, seed=3)
    once, again = (finetune.fine_tune(copy.deepcopy(slim.module), settings).state_dict() for _ in range(2))
    assert all(torch.equal(value, again[name]) for name, value in once.items())
    assert not torch.equal(once["head.weight"], slim.module.state_dict()["head.weight"])


def test_what_is_written_is_what_was_trained(slim: OptimizedModule, tuned: Any, tmp_path: Path) -> None:
    """The module is trained in place, so what wraps it writes the trained weights."""
    before = copy.deepcopy(slim.module.state_dict())
    try:
        slim.module.load_state_dict(tuned.state_dict())
        slim.save(tmp_path / "slim.pt2")
    finally:
        slim.module.load_state_dict(before)
    written = torch.export.load(tmp_path / "slim.pt2").module()
    images = torch.from_numpy(VIT.test[:20])
    with torch.no_grad():
        torch.testing.assert_close(written(images), tuned(images))
        assert (written(images) - slim.module(images)).abs().max() > 1


def test_the_loss_of_distillation() -> None:
    """Two classes by hand: z = (0, 2 ln 3), v = (0, 0) and T = 2 give (1/4, 3/4) against (1/2, 1/2)."""
    logits, labels = torch.tensor([[0.0, 2 * math.log(3)]]), torch.tensor([0])
    divergence = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    hard = math.log(1 + 9)
    for weight in (0.0, 0.3, 1.0):
        loss = finetune.Distillation(torch.zeros_like, weight, 2.0)(logits, logits, labels)
        assert loss.item() == pytest.approx((1 - weight) * hard + weight * 4 * divergence, rel=1e-5)


def test_the_table() -> None:
    rows = [finetune.Row("dense", 99.667, 1.0), finetune.Row("slim", 91.167, 0.10494, 8.4)]
    assert finetune.table(rows).splitlines()[2:] == [
        "| dense | 99.67 % | 1.0000 |  |",
        "| slim | 91.17 % | 0.1049 | 8 |",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--macs", "1.5"], "--macs is 1.5; expected a fraction above 0 and at most 1"),
        (["--distil", "-1"], "--distil is -1; expected a weight from 0 to 1"),
        (["--samples", "-4"], "--samples is -4; expected a number above 0"),
        (["--epochs", "0"], "--epochs is 0; expected a number above 0"),
        (["--temperature", "nan"], "--temperature is nan; expected a number above 0"),
        (["-o", "slim.pth"], "--output is slim.pth; expected a name that ends in .onnx or .pt2"),
        (["-o", "nowhere/slim.onnx"], "there is no folder nowhere: create it first"),
    ],
)
def test_what_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert finetune.main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", samples.names())
def test_the_command(name: str, tmp_path: Path) -> None:
    """What the README says, in a process of its own; the file holds the model that the table's last row is about."""
    written = tmp_path / "slim.onnx"
    done = subprocess.run(
        [sys.executable, "-m", "tools.samples.finetune", name, "--distil", "0.9", "-o", str(written)],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()[2:]]
    dense, slim, distilled = (float(accuracy.removesuffix(" %")) for _, accuracy, _, _ in rows)
    assert [model for model, *_ in rows] == ["dense", "slim", "distilled"]
    assert slim + 1.5 < distilled <= dense
    session = session_of(written)
    found = samples.accuracy(lambda batch: session.run(None, {samples.INPUT: batch})[0], samples.load(name))
    assert found == pytest.approx(distilled, abs=0.2)
