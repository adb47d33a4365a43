"""The modules that Torch-Pruning works on are what the files are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.mark.parametrize("file", ["resnet56_cifar10.onnx", "mobilenet_v2_1.0_224_float.onnx"])
def test_modules_compute_what_the_files_do(shared: Path, file: str) -> None:
    pytest.importorskip("torch")
    if file.startswith("mobilenet") and importlib.util.find_spec("onnx2torch") is None:
        pytest.skip("onnx2torch is not installed: pip install onnx2torch")
    from tools.peers.modules import CifarResNet, module_of

    module = module_of(shared / "models" / file)  # refuses one that does not
    count = sum(parameter.numel() for parameter in module.parameters())
    assert (count, isinstance(module, CifarResNet)) == ((853018, True) if "resnet" in file else (3489097, False))
