"""Devices: where models are, copies elsewhere, float64, generators, memory; whole runs are in tests/devices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from noworse.errors import BadInput
from noworse.model.device import (
    CPU,
    double,
    home,
    out_of_memory,
    own_random,
    placed,
    random_states,
    room,
    seeded,
    set_random_states,
    steady,
    wide,
)

META = torch.device("meta")


def tied() -> nn.Sequential:
    net: Any = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False), nn.BatchNorm1d(5))
    net[1].weight = net[0].weight
    net[0].register_buffer("count", torch.ones(2))
    net[1].register_buffer("count", net[0].count)
    return net  # type: ignore[no-any-return]


def test_home_is_that_of_the_first_tensor() -> None:
    assert home(nn.Linear(2, 2)) == CPU
    assert home(nn.Linear(2, 2, device="meta")) == META
    assert home(nn.ReLU()) == CPU


def test_a_copy_elsewhere_keeps_ties_and_leaves_the_module() -> None:
    net = tied()
    assert placed(net) is net
    assert placed(net, "cpu") is net
    there: Any = placed(net, "meta")
    assert {tensor.device for tensor in there.state_dict().values()} == {META}
    assert there[0].weight is there[1].weight
    assert there[0].count is there[1].count
    assert {tensor.device for tensor in net.state_dict().values()} == {CPU}
    assert there[0].weight.requires_grad
    assert not there[0].count.requires_grad


def test_a_model_on_several_devices() -> None:
    net: Any = tied()
    net[2].to("meta")  # its counter of batches, a single number, would not be told from others by torch
    with pytest.raises(BadInput, match=r"'0.weight' on cpu, '2.weight' on meta: expected one, or device="):
        placed(net)
    net = nn.BatchNorm1d(3, device="meta")
    net.num_batches_tracked = torch.zeros(())
    assert placed(net) is net


@pytest.mark.parametrize("device", ["nowhere", "cuda:99", 1.5])
def test_devices_that_are_not_there(device: object) -> None:
    with pytest.raises(BadInput, match=f"device {device!r} cannot be used"):
        placed(nn.Linear(2, 2), device)


def test_double_where_there_is_float64() -> None:
    assert wide(CPU) == CPU
    assert double(torch.ones(2)).dtype == torch.float64


def test_random_numbers_are_left_as_they_were() -> None:
    torch.manual_seed(3)
    before = random_states(CPU)
    with own_random(CPU, 5):
        assert torch.equal(torch.rand(3), torch.rand(3, generator=seeded(CPU, 5)))
    first = torch.rand(3)
    set_random_states(CPU, before)
    assert torch.equal(torch.rand(3), first)


def test_steady_on_another_device_and_not_here() -> None:
    def switches() -> list[bool]:
        cudnn: Any = torch.backends.cudnn
        return [torch.are_deterministic_algorithms_enabled(), cudnn.allow_tf32]

    before = switches()
    with steady(CPU):
        assert switches() == before
    with steady(META):
        assert switches() == [True, False]
    assert switches() == before


FULL = MemoryError(), torch.cuda.OutOfMemoryError("out of memory"), RuntimeError("MPS backend out of memory")


@pytest.mark.parametrize("error", FULL)
def test_memory_that_runs_out_is_told(error: Exception) -> None:
    assert out_of_memory(error)
    with pytest.raises(BadInput, match=r"memory ran out.*expected less"), room(lambda: "less"):
        raise error


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="another"), room(lambda: "less"):
        raise RuntimeError("another")
