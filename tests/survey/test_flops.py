from __future__ import annotations

import torch
from torch import nn

from noworse.survey.flops import count_flops


def test_operations_are_two_for_each_product_of_a_weight_and_an_input() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 25, 4))
    convolution, linear = 2 * 25 * 8 * 27, 2 * 4 * 200  # places x outputs x inputs of each
    assert count_flops(net, lambda m: m(torch.randn(6, 3, 5, 5)), 6) == convolution + linear


def test_a_layer_counts_in_each_of_its_calls() -> None:
    layer = nn.Linear(5, 5)
    assert count_flops(layer, lambda m: m(m(torch.randn(2, 5))), 2) == 2 * 2 * 25
