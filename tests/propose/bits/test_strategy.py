from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from noworse.errors import BadInput
from noworse.papers.llc.bits import aciq_range
from noworse.propose.bits import strategy
from noworse.propose.bits.sites import Values
from noworse.propose.bits.strategy import Clip, covering, least_squares


def clip_range(x: Tensor, bits: int, way: Clip) -> tuple[float, float]:
    seen = Values()
    seen.add(x)
    return strategy.clip_range(seen, bits, way)


def test_mse_errs_least_and_max_covers_all() -> None:
    torch.manual_seed(0)
    x = torch.randn(5000)
    low, high = clip_range(x, 4, covering)
    assert (low, high) == pytest.approx((float(x.min()), float(x.max())))

    def error(low: float, high: float) -> float:
        step = (high - low) / 15
        zero = round(-low / step)
        return float(((x / step).round().clamp(-zero, 15 - zero) * step - x).square().mean())

    narrow = clip_range(x, 4, least_squares)
    assert error(*narrow) <= min(error(*clip_range(x, 4, way)) for way in (covering, aciq_range))


def test_constant_and_unbounded_values() -> None:
    assert clip_range(torch.zeros(9), 8, least_squares) == (0.0, 0.0)
    assert clip_range(torch.full((9,), 2.5), 8, covering) == (0.0, 2.5)
    with pytest.raises(BadInput, match="finite"):
        clip_range(torch.tensor([1.0, math.inf]), 8, covering)
