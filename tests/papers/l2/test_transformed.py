"""Grids of any transform: equal to the fast ones where both exist, to the file in all cases; singular tensors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from noworse.papers.l2 import official
from noworse.papers.l2.transformed import NARROWEST, TransformedGrids
from noworse.papers.l2.transforms import TRANSFORMS
from noworse.propose.grids.grid import GridSet, GridSpec
from noworse.rate.kernels import Relaxation
from noworse.representation import CHANNEL_UNITS, unpack_step

SHAPES = {"bias": (6,), "conv": (6, 16, 3, 3), "matrix": (5, 40)}
STEPS = {"bias": 0.1, "conv": 0.25, "matrix": 0.4}


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def grids(kind: type[GridSet], *arguments: object) -> GridSet:
    specs = [GridSpec(name, shape, "float32", name != "matrix") for name, shape in SHAPES.items()]
    found = kind(specs, weights(), 0.75, *arguments)  # type: ignore[arg-type]
    found.log_step.copy_(torch.tensor(list(STEPS.values())).log())
    found.rebase()
    return found


@pytest.mark.parametrize("on_weights", [False, True])
def test_straight_lines_are_what_the_fast_grids_compute(on_weights: bool) -> None:
    fast, slow = grids(GridSet), grids(TransformedGrids, "deadzone", False)
    values = [torch.empty(fast.count) for _ in range(2)]
    upstream = torch.randn(fast.count, generator=torch.Generator().manual_seed(1))
    for found, out in zip((fast, slow), values, strict=True):
        found.quantise(out, Relaxation())
        found.gradients(out, upstream.clone(), 0.01, on_weights)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(fast.bits, slow.bits)
    for one, other in zip((fast.log_step, fast.log_zone), (slow.log_step, slow.log_zone), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0.02, atol=0.1)  # the fast ones count in cells
    torch.testing.assert_close(fast.latent.grad, slow.latent.grad, rtol=0.02, atol=3e-3)
    assert dict(fast.representations()) == dict(slow.representations())


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("transform", sorted(TRANSFORMS))
def test_the_file_holds_what_is_tuned(transform: str, per_channel: bool) -> None:
    found = grids(TransformedGrids, transform, per_channel)
    if per_channel:
        assert found.log_channel.shape == (6,)  # of the convolution: rows of the matrix are narrower than 128
        found.log_channel += torch.linspace(-0.5, 0.7, 6)
    found.trained += 0.1
    out = torch.empty(found.count)
    found.quantise(out, Relaxation())
    for k, (spec, grid) in enumerate(zip(found.specs, found.representations().values(), strict=True)):
        tuned = spec.unflatten(out[found.offsets[k] : found.offsets[k + 1]])
        np.testing.assert_allclose(grid.decode(), tuned.numpy(), rtol=2e-5, atol=1e-6)
        _, counts = np.unique(grid.codes, return_counts=True)
        assert float(found.bits[k]) == pytest.approx(-(counts * np.log2(counts / counts.sum())).sum(), rel=1e-6)
        expected = TRANSFORMS[transform].curve if len(spec.shape) > 1 else "linear"
        assert grid.form.curve == expected
        assert bool(grid.form.channels) == (per_channel and spec.name == "conv")
        if not TRANSFORMS[transform].tunes_zone:
            assert grid.edge == 32


def test_rows_get_the_steps_they_ask_for() -> None:
    found = grids(TransformedGrids, "deadzone", True)
    wanted = torch.linspace(-2, 2, 6)
    found.log_channel += wanted
    grid = found.representations()["conv"]
    numbers = grid.step + CHANNEL_UNITS * np.frombuffer(grid.form.channels, np.int8).astype(int)
    steps = np.array([unpack_step(n) for n in numbers])
    np.testing.assert_allclose(steps, STEPS["conv"] * np.exp(wanted.numpy()), rtol=0.04)


@pytest.mark.parametrize("transform", sorted(TRANSFORMS))
def test_gradients_lower_loss_and_rate(transform: str) -> None:
    """A step against the gradient of ‖ŵ − w‖² + λR, by every leaf together, lowers that sum."""
    found = grids(TransformedGrids, transform, True)
    out, original, multiplier = torch.empty(found.count), torch.cat([found.weights(k) for k in range(3)]), 0.05

    def objective() -> float:
        found.quantise(out, Relaxation())
        return float((out - original).square().sum()) + multiplier * float(found.bits.sum())

    before = objective()
    for _ in range(30):
        found.quantise(out, Relaxation())
        found.gradients(out, 2 * (out - original), multiplier, False)
        for option, leaf in found.leaves:
            if option != "lr_weights":
                assert leaf.grad is not None
                leaf -= 0.02 * leaf.grad.sign()
    assert objective() < 0.97 * before


def test_the_official_rate_is_of_all_weights_or_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official, "LARGEST_WHOLE", 100)
    pulls = {}
    for rate in ("official", "official_whole"):
        for seed in (0, 1):
            torch.manual_seed(seed)
            found = grids(TransformedGrids, "deadzone", False, rate)
            out = torch.empty(found.count)
            found.quantise(out, Relaxation())
            found.gradients(out, torch.zeros(found.count), 1.0, True)
            assert found.latent.grad is not None
            pulls[rate, seed] = found.latent.grad.clone()
    assert pulls["official", 0].count_nonzero() < pulls["official_whole", 0].count_nonzero() / 4
    assert not pulls["official", 0].equal(pulls["official", 1])


@pytest.mark.parametrize("rate", ["official", "official_whole"])
def test_untuned_tensors_keep_step_and_zone(rate: str) -> None:
    found = grids(TransformedGrids, "deadzone", False, rate)
    out = torch.empty(found.count)
    found.quantise(out, Relaxation())
    found.gradients(out, torch.randn(found.count), 0.1, False)
    for leaf in (found.log_step, found.log_zone):
        assert leaf.grad is not None
        assert leaf.grad[2] == 0
        assert (leaf.grad[:2] != 0).all()


SINGULAR = {
    "zero range": torch.full((4, NARROWEST), 0.3),
    "a row of zeros": torch.cat([torch.zeros(1, NARROWEST), torch.randn(3, NARROWEST)]),
    "one outlier": torch.cat([torch.full((1,), 1e6), torch.randn(4 * NARROWEST - 1)]).view(4, NARROWEST),
    "denormals": torch.full((4, NARROWEST), 1e-42).copysign(torch.randn(4, NARROWEST)),
    "huge": torch.randn(4, NARROWEST) * 1e30,
}


@pytest.mark.parametrize("case", SINGULAR)
@pytest.mark.parametrize("transform", sorted(TRANSFORMS))
def test_singular_tensors_stay_finite(transform: str, case: str) -> None:
    """Zero range, rows of zeros, outliers, denormals: finite gradients, a grid that the file takes, small errors."""
    w = SINGULAR[case]
    for step in (1.0, 0.05):  # in units of the largest weight: one symbol, and some
        found = TransformedGrids([GridSpec("w", (4, NARROWEST), "float32")], {"w": w}, 0.6, transform, True)
        found.log_step += math.log(step)
        found.rebase()
        out = torch.empty(found.count)
        found.quantise(out, Relaxation())
        found.gradients(out, torch.ones(found.count) / found.unit[0], 1e-3, True)
        for _, leaf in found.leaves:
            assert leaf.grad is not None
            assert torch.isfinite(leaf.grad).all()
        decoded = torch.tensor(found.representations()["w"].decode())
        reach = max(float(found.steps()[0]), 1e-30)
        assert (decoded - w).abs().max() <= 1.3 * reach
