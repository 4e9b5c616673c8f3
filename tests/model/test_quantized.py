"""Rounded layers against torch's own fake quantisation, and hooks of others that stay."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from noworse.errors import BadInput, CorruptFile, MismatchedModule
from noworse.model.quantized import (
    OUTPUT,
    Range,
    activation_ranges,
    add_rounding,
    from_settings,
    remove_rounding,
    to_settings,
)

RANGES = {"0": Range(0.1, 3, 4), "1" + OUTPUT: Range(0.05, 0, 8, "down")}


def test_codes_are_those_of_torch() -> None:
    x, values = torch.randn(1000), Range.covering(-1.0, 3.0, 4)
    torch.testing.assert_close(values(x), torch.fake_quantize_per_tensor_affine(x, values.scale, values.zero, 0, 15))


def test_ranges_are_told_and_go_without_the_hooks_of_others() -> None:
    net, x = nn.Sequential(nn.Linear(3, 3), nn.ReLU()), torch.randn(5, 3)
    net[0].register_forward_pre_hook(lambda layer, args: (args[0] + 1,))
    before = net(x)
    add_rounding(net, RANGES)
    expected = RANGES["1" + OUTPUT](torch.relu(nn.functional.linear(RANGES["0"](x + 1), *net[0].parameters())))
    torch.testing.assert_close(net(x), expected)
    assert activation_ranges(copy.deepcopy(net)) == from_settings(to_settings(RANGES)) == RANGES
    remove_rounding(net)
    assert torch.equal(net(x), before)
    assert not net[0]._forward_pre_hooks_with_kwargs
    assert activation_ranges(net) == {}


def test_bad_ranges() -> None:
    with pytest.raises(BadInput, match="expected 2 to 16"):
        Range(1.0, 0, 1)
    with pytest.raises(CorruptFile, match="cannot be read"):
        from_settings({"0": [0.0, 0, 8]})
    with pytest.raises(MismatchedModule, match="no layers nothing"):
        add_rounding(nn.Sequential(), {"nothing": RANGES["0"]})
