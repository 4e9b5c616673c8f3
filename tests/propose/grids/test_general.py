"""Grids of any transform: equal to the fast ones where both exist, to the file in all cases; singular tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from noworse.papers.l2 import rate as official
from noworse.papers.l2.rate import Official
from noworse.propose.grids.general import GeneralGrids
from noworse.propose.grids.grid import GridSet, GridSpec
from noworse.rate.soft import Cosine, Rate, SoftEntropy
from noworse.tune.seams import NAMES as PLUGINS
from noworse.tune.seams import made

SOFT = SoftEntropy()
TRANSFORMS = sorted(PLUGINS["transform"])

SHAPES = {"bias": (6,), "conv": (6, 16, 3, 3), "matrix": (5, 40)}
STEPS = {"bias": 0.1, "conv": 0.25, "matrix": 0.4}


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def grids(transform: str = "deadzone", rate: Rate = SOFT, fast: bool = False) -> Any:
    specs = [GridSpec(name, shape, "float32", name != "matrix") for name, shape in SHAPES.items()]
    slow = GeneralGrids(specs, weights(), 0.75, made("transform", transform), rate)
    found = GridSet(specs, weights(), 0.75) if fast else slow
    found.log_step.copy_(torch.tensor(list(STEPS.values())).log())
    found.rebase()
    return found


@pytest.mark.parametrize("on_weights", [False, True])
def test_straight_lines_are_what_the_fast_grids_compute(on_weights: bool) -> None:
    fast, slow = grids(fast=True), grids()
    values = [torch.empty(fast.count) for _ in range(2)]
    upstream = torch.randn(fast.count, generator=torch.Generator().manual_seed(1))
    for found, out in zip((fast, slow), values, strict=True):
        found.quantise(out, Cosine())
        found.gradients(out, upstream.clone(), 0.01, on_weights)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(fast.bits, slow.bits)
    for one, other in zip((fast.log_step, fast.log_zone), (slow.log_step, slow.log_zone), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0.02, atol=0.1)  # the fast ones count in cells
    torch.testing.assert_close(fast.latent.grad, slow.latent.grad, rtol=0.02, atol=3e-3)
    assert dict(fast.representations()) == dict(slow.representations())


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_file_holds_what_is_tuned(transform: str) -> None:
    found, chosen = grids(transform), made("transform", transform)
    found.trained += 0.1
    out = torch.empty(found.count)
    found.quantise(out, Cosine())
    for k, (spec, grid) in enumerate(zip(found.specs, found.representations().values(), strict=True)):
        tuned = spec.unflatten(out[found.offsets[k] : found.offsets[k + 1]])
        np.testing.assert_allclose(grid.decode(), tuned.numpy(), rtol=2e-5, atol=1e-6)
        _, counts = np.unique(grid.codes, return_counts=True)
        assert float(found.bits[k]) == pytest.approx(-(counts * np.log2(counts / counts.sum())).sum(), rel=1e-6)
        assert grid.form.curve == (chosen.curve if len(spec.shape) > 1 else "linear")
        if not chosen.tunes_zone:
            assert grid.edge == 32


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_gradients_lower_loss_and_rate(transform: str) -> None:
    """A step against the gradient of ‖ŵ − w‖² + λR, by every leaf together, lowers that sum."""
    found = grids(transform)
    out, original, multiplier = torch.empty(found.count), torch.cat([found.weights(k) for k in range(3)]), 0.05

    def objective() -> float:
        found.quantise(out, Cosine())
        return float((out - original).square().sum()) + multiplier * float(found.bits.sum())

    before = objective()
    for _ in range(30):
        found.quantise(out, Cosine())
        found.gradients(out, 2 * (out - original), multiplier, False)
        for option, leaf in found.leaves:
            if option != "lr_weights":
                assert leaf.grad is not None
                leaf -= 0.02 * leaf.grad.sign()
    assert objective() < 0.97 * before


def test_the_official_rate_is_of_all_weights_or_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official, "LARGEST_WHOLE", 100)
    pulls = {}
    for rate in (Official(), Official(sampled=False)):
        for seed in (0, 1):
            torch.manual_seed(seed)
            found = grids(rate=rate)
            out = torch.empty(found.count)
            found.quantise(out, Cosine())
            found.gradients(out, torch.zeros(found.count), 1.0, True)
            assert found.latent.grad is not None
            pulls[rate.sampled, seed] = found.latent.grad.clone()
    assert pulls[True, 0].count_nonzero() < pulls[False, 0].count_nonzero() / 4
    assert not pulls[True, 0].equal(pulls[True, 1])


@pytest.mark.parametrize("rate", [SoftEntropy(), Official()])
def test_untuned_tensors_keep_step_and_zone(rate: Rate) -> None:
    found = grids(rate=rate)
    out = torch.empty(found.count)
    found.quantise(out, Cosine())
    found.gradients(out, torch.randn(found.count), 0.1, False)
    for leaf in (found.log_step, found.log_zone):
        assert leaf.grad is not None
        assert leaf.grad[2] == 0
        assert (leaf.grad[:2] != 0).all()


WIDE = 128
SINGULAR = {
    "zero range": torch.full((4, WIDE), 0.3),
    "a row of zeros": torch.cat([torch.zeros(1, WIDE), torch.randn(3, WIDE)]),
    "one outlier": torch.cat([torch.full((1,), 1e6), torch.randn(4 * WIDE - 1)]).view(4, WIDE),
    "denormals": torch.full((4, WIDE), 1e-42).copysign(torch.randn(4, WIDE)),
    "huge": torch.randn(4, WIDE) * 1e30,
}


@pytest.mark.parametrize("case", SINGULAR)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_singular_tensors_stay_finite(transform: str, case: str) -> None:
    """Zero range, rows of zeros, outliers, denormals: finite gradients, a grid that the file takes, small errors."""
    w = SINGULAR[case]
    for step in (1.0, 0.05):  # in units of the largest weight: one symbol, and some
        spec = GridSpec("w", (4, WIDE), "float32")
        found = GeneralGrids([spec], {"w": w}, 0.6, made("transform", transform), SoftEntropy())
        found.log_step += math.log(step)
        found.rebase()
        out = torch.empty(found.count)
        found.quantise(out, Cosine())
        found.gradients(out, torch.ones(found.count) / found.unit[0], 1e-3, True)
        for _, leaf in found.leaves:
            assert leaf.grad is not None
            assert torch.isfinite(leaf.grad).all()
        decoded = torch.tensor(found.representations()["w"].decode())
        reach = max(float(found.steps()[0]), 1e-30)
        assert (decoded - w).abs().max() <= 1.3 * reach
