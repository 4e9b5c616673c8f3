import numpy as np
import pytest
import torch

from noworse.errors import BadInput
from noworse.rate.kernels import KERNELS, Relaxation
from tests.rate.test_counter import STEPS


@pytest.mark.parametrize("name", KERNELS)
def test_steps_are_those_of_the_paper_and_densities_their_slopes(name: str) -> None:
    u = torch.linspace(-1.2, 1.2, 4801, dtype=torch.float64)
    step = KERNELS[name].step(u)
    np.testing.assert_allclose(step.numpy(), STEPS[name](np.clip(u.numpy(), -1, 1)), atol=1e-12)
    slope = torch.gradient(step, spacing=(u,))[0]
    smooth = (u.abs() - 1).abs() > 2e-3  # the box has edges there
    assert torch.allclose(slope[smooth], KERNELS[name].density(u.abs()).to(slope)[smooth], atol=2e-3)


def test_widths() -> None:
    extent = torch.tensor([0.0, 8.0, 256.0])
    assert Relaxation(delta=0.3).width(extent).tolist() == pytest.approx([0.3] * 3)
    assert Relaxation(resolution=64).width(extent).tolist() == pytest.approx([1e-3, 0.125, 4.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel": "box"}, "unknown kernel 'box': expected one of cos, linear, triangle"),
        ({"delta": 0.0}, "half width delta = 0.0: expected above 0, at most 0.5"),
        ({"delta": 0.51}, "half width delta = 0.51"),
        ({"delta": float("nan")}, "half width delta = nan"),
        ({"resolution": 15}, r"a resolution of 15: expected 0 \(none\) or 16 to 4096"),
        ({"resolution": -1}, "a resolution of -1"),
        ({"resolution": 5000}, "a resolution of 5000"),
    ],
)
def test_what_is_out_of_range_is_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Relaxation(**arguments)  # type: ignore[arg-type]
