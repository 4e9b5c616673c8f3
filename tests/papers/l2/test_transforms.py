"""Transforms: inverses, the paper's own formulas, gradients straight through the rounding, agreement with the file."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from noworse.propose.grids.transform import Transform, stored
from noworse.representation import Form, Grid, pack_step
from noworse.tune.seams import NAMES as PLUGINS
from noworse.tune.seams import made

TRANSFORMS: dict[str, Transform] = {name: made("transform", name) for name in PLUGINS["transform"]}
NAMES = sorted(TRANSFORMS)
LARGEST = 3.0


def parts(name: str, step: float = 0.11, zone: float = 0.8) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Trained parameters, step, zone and shape of a transform (any will do)."""
    transform = TRANSFORMS[name]
    trained = torch.tensor(transform.start) + 0.1 * torch.arange(len(transform.start))
    s = torch.tensor(step)
    r = torch.tensor(zone if transform.tunes_zone else 0.5)
    return trained, s, r, transform.shape(trained, s, LARGEST)


@pytest.mark.parametrize("name", NAMES)
def test_code_and_decode_are_inverse_and_increase(name: str) -> None:
    _, _, r, shape = parts(name)
    t = torch.linspace(0, 40, 4001)
    code = TRANSFORMS[name].code(t, r, shape)
    assert (code.diff() > 0).all()
    assert code[0] == 0
    torch.testing.assert_close(TRANSFORMS[name].decode(code, r, shape), t, rtol=1e-4, atol=1e-4)


def test_log_exp_and_multiscale_are_those_of_the_paper() -> None:
    """At the paper's start: codes as its formulas give them, for weights up to the largest."""
    w = torch.linspace(0, LARGEST, 301, dtype=torch.float64)
    s = 1 / 64
    half = torch.tensor(0.5)
    for name, a, h, expected in (
        ("log", LARGEST / (math.e - 1), math.exp(s) - 1, (1 + w / (LARGEST / (math.e - 1))).log() / s),
        ("exp", LARGEST / math.log(2), s, ((w / (LARGEST / math.log(2))).exp() - 1) / s),
    ):
        step = a * h
        shape = TRANSFORMS[name].shape(torch.tensor(TRANSFORMS[name].start), torch.tensor(step), LARGEST)
        found = TRANSFORMS[name].code((w / step).float(), half, shape)
        assert found[-1] == pytest.approx(64, rel=5e-3)
        torch.testing.assert_close(found.double(), expected, rtol=5e-3, atol=1e-3)  # h has 9 bits in the file
    step = 2 * LARGEST / 256
    shape = TRANSFORMS["multiscale"].shape(torch.zeros(4), torch.tensor(step), LARGEST)
    found = TRANSFORMS["multiscale"].code((w / step).float(), half, shape)
    torch.testing.assert_close(found.double(), w / step, rtol=1e-4, atol=1e-4)  # equal slopes: the uniform grid


def straight_through(name: str, w: Tensor, s: Tensor, r: Tensor, trained: Tensor) -> Tensor:
    transform = TRANSFORMS[name]
    shape = transform.shape(trained, s, LARGEST)
    c = transform.code(w.abs() / s, r, shape)
    q = c + (c.round() - c).detach()
    return w.sign() * s * transform.decode(q, r, shape)


@pytest.mark.parametrize("name", ["deadzone", "uniform"])
def test_gradients_of_straight_lines_are_the_closed_forms(name: str) -> None:
    trained, s, r, _ = parts(name)
    w = torch.linspace(-2, 2, 57)[1:-1].requires_grad_()
    s, r = s.requires_grad_(), r.requires_grad_()
    values = straight_through(name, w, s, r, trained)
    for value, weight, i in zip(values, w.tolist(), range(len(w)), strict=True):
        by_w, by_s, by_r = torch.autograd.grad(value, [w, s, r], retain_graph=True, allow_unused=True)
        assert by_w[i] == pytest.approx(1, abs=1e-4)
        assert s.item() * by_s.item() == pytest.approx(value.item() - weight, abs=1e-4)
        assert by_r.item() == pytest.approx(-weight / r.item() if value == 0 else 0, abs=1e-3)


@pytest.mark.parametrize("name", ["log", "exp", "multiscale"])
def test_gradients_of_curves_are_those_of_the_unrounded_value_at_the_rounded_code(name: str) -> None:
    """ŵ = T⁻¹(q; θ) with q moving as T(w; θ) does: finite differences of either part, added."""
    trained, s, r, _ = parts(name)
    transform, h = TRANSFORMS[name], 1e-2
    w = torch.tensor([0.35, 0.9, 1.7, 2.6])
    leaf = trained.clone().requires_grad_()
    found = torch.autograd.grad(straight_through(name, w, s, r, leaf).sum(), leaf)[0]
    for i in range(len(trained)):
        up, down = trained.clone(), trained.clone()
        up[i] += h
        down[i] -= h
        fine = [unrounded(transform, theta, s) for theta in (down, trained, up)]
        codes = [transform.code(w / s, r, shape) for shape in fine]
        q = codes[1].round()
        values = [s * transform.decode(q + c - codes[1], r, shape) for c, shape in zip(codes, fine, strict=True)]
        assert found[i].item() == pytest.approx(((values[2] - values[0]) / (2 * h)).sum().item(), abs=0.02)


def unrounded(transform: object, trained: Tensor, s: Tensor) -> Tensor:
    """The shape without the rounding to what the file holds, whose steps finite differences would see."""
    if transform is TRANSFORMS["multiscale"]:
        return torch.cat([(LARGEST / 5 / s).reshape(1), trained.exp()])
    return s / (LARGEST * trained.exp())


@pytest.mark.parametrize("name", NAMES)
def test_the_file_decodes_to_the_values_of_tuning(name: str) -> None:
    transform = TRANSFORMS[name]
    trained, s, r, _ = parts(name)
    s = stored(s)
    r = (r * 64).round() / 64
    shape = transform.shape(trained, s, LARGEST)
    w = torch.linspace(-LARGEST, LARGEST, 500)
    c = transform.code(w.abs() / s, r, shape)
    values = w.sign() * s * transform.decode(c.round(), r, shape)
    codes = (w.sign() * c.round()).int().numpy()
    form = Form(transform.curve, tuple(pack_step(float(x)) for x in shape))
    grid = Grid(codes, pack_step(float(s)), round(64 * float(r)), (500,), "float32", form)
    np.testing.assert_allclose(grid.decode(), values.numpy(), rtol=2e-5, atol=1e-6)
