"""Widths from the range of codes; the kernels themselves are tested with the standard one (tests/rate)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from noworse.errors import BadInput
from noworse.papers.l2.kernels import RangeKernel, Triangle


def test_the_width_is_the_range_over_the_resolution() -> None:
    extents = torch.tensor([0.0, 8.0, 256.0])
    assert RangeKernel(resolution=64).width(lambda: extents).tolist() == pytest.approx([1e-3, 0.125, 4.0])


def test_it_has_the_shape_of_the_kernel_that_it_names() -> None:
    u = torch.linspace(0, 1.5, 7)
    assert torch.equal(RangeKernel(of="triangle").share(u), Triangle().share(u))
    assert torch.equal(RangeKernel(of="triangle").density(u), Triangle().density(u))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 15}, "a kernel of resolution 15: expected 16 to 4096"),
        ({"resolution": 5000}, "a kernel of resolution 5000"),
        ({"of": "box"}, "unknown kernel 'box': expected one of cos, linear, triangle"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        RangeKernel(**settings)
