from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from noworse.errors import BadInput
from noworse.papers.llc.bits import aciq_reach
from noworse.propose.bits.rounding import Reach, Rounded, fit_steps, round_weights
from noworse.propose.grids.compensated import Layer


def largest(rows: Tensor, bits: int) -> Tensor:
    """Steps that clip nothing."""
    return rows.abs().amax(1)


REACHES: dict[str, Reach | None] = {"max": largest, "mse": None, "laplace": aciq_reach}


def net(rows: int = 6, inputs: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Weights whose rows differ in size, and second moments (I, I) of correlated inputs."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(rows, inputs, generator=generator) * torch.logspace(-2, 0, rows)[:, None]
    x = torch.randn(500, inputs, generator=generator) @ torch.randn(inputs, inputs, generator=generator)
    return weights, x.T @ x / len(x)


def output_error(found: Rounded, weights: Tensor, moments: Tensor) -> float:
    error = (found.decode() - weights).flatten(1)
    return float(((error @ moments) * error).sum())


@given(bits=st.sampled_from([2, 3, 4, 6, 8, 16]), adaptive=st.booleans(), per_channel=st.booleans(),
       clipping=st.sampled_from(sorted(REACHES)))  # fmt: skip
def test_codes_fit_their_bits_and_files_give_them_back(
    bits: int, adaptive: bool, per_channel: bool, clipping: str
) -> None:
    weights, moments = net()
    steps = fit_steps(weights, bits, per_channel, REACHES[clipping])
    found = round_weights(weights, bits, steps, Layer(weights.shape, moments[None]) if adaptive else None)
    assert int(found.codes.abs().max()) <= 2 ** (bits - 1) - 1
    assert torch.equal(torch.from_numpy(np.array(found.grid().decode())), found.decode())
    assert found.rounding == ("adaptive" if adaptive else "nearest")
    step = found.steps.values()[:, None]
    inside = weights.double().abs() < (2 ** (bits - 1) - 1) * step
    error = (found.decode().double() - weights.double()) / step
    assert adaptive or bool((error[inside].abs() <= 0.501).all())


def test_rows_of_their_own_steps_and_least_squares_lose_less() -> None:
    weights, _ = net(rows=12)

    def error(clipping: str, per_channel: bool) -> float:
        found = round_weights(weights, 4, fit_steps(weights, 4, per_channel, REACHES[clipping]))
        return float((found.decode() - weights).norm())

    errors = {(clipping, per): error(clipping, per) for clipping in ("max", "mse") for per in (True, False)}
    assert errors["mse", True] <= errors["max", True] * 1.001 < errors["max", False]
    assert errors["mse", False] <= errors["max", False]


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_adaptive_rounding_loses_less_at_the_output(bits: int) -> None:
    weights, moments = net()
    steps = fit_steps(weights, bits)
    layers = None, Layer(weights.shape, moments[None])
    nearest, adaptive = (output_error(round_weights(weights, bits, steps, layer), weights, moments) for layer in layers)
    assert adaptive < 0.8 * nearest


def test_bad_input() -> None:
    weights, _ = net()
    for bits in (1, 17, 4.0):
        with pytest.raises(BadInput, match="2 to 16"):
            fit_steps(weights, bits)  # type: ignore[arg-type]
    zero = round_weights(torch.zeros(3, 5), 4, fit_steps(torch.zeros(3, 5), 4))
    assert not zero.decode().any()
