import numpy as np
import pytest
import torch

from noworse.errors import BadInput
from noworse.rate.soft import Cosine, Kernel
from tests.rate.test_counter import KERNELS, STEPS


@pytest.mark.parametrize("name", KERNELS)
def test_steps_are_those_of_the_paper_and_densities_their_slopes(name: str) -> None:
    kernel: Kernel = KERNELS[name]()
    u = torch.linspace(-1.2, 1.2, 4801, dtype=torch.float64)
    step = kernel.step(u)
    np.testing.assert_allclose(step.numpy(), STEPS[name](np.clip(u.numpy(), -1, 1)), atol=1e-12)
    slope = torch.gradient(step, spacing=(u,))[0]
    smooth = (u.abs() - 1).abs() > 2e-3  # the box has edges there
    assert torch.allclose(slope[smooth], kernel.density(u.abs()).to(slope)[smooth], atol=2e-3)


def test_its_width_is_its_own() -> None:
    assert Cosine(0.3).width(lambda: pytest.fail("codes need not be looked at")) == 0.3


@pytest.mark.parametrize("delta", [0.0, 0.51, float("nan")])
def test_what_is_out_of_range_is_refused(delta: float) -> None:
    with pytest.raises(BadInput, match=f"half width delta = {delta}: expected above 0, at most 0.5"):
        Cosine(delta)
