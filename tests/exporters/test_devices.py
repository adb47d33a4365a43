"""Devices by name, and how much fits on them."""

from __future__ import annotations

import pytest
import torch

from modhifi_graph.errors import InputError
from modhifi_graph.exporters import devices


def test_a_name_is_a_device_and_none_is_none() -> None:
    assert devices.device_of("cpu") == torch.device("cpu")
    assert devices.device_of(None) is None


@pytest.mark.parametrize("name", ["gpu9", "cuda:77"])
def test_what_cannot_be_used_here_says_so_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match=f"device '{name}' cannot be used here: .*; leave it out") as caught:
        devices.device_of(name)
    assert "\n" not in str(caught.value)


def test_a_module_is_where_its_parameters_are() -> None:
    assert devices.home_of(torch.nn.Linear(2, 3, device="meta")) == torch.device("meta")
    assert devices.home_of(torch.nn.ReLU()) == torch.device("cpu")
