from __future__ import annotations

import math
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from noworse.codec import _native
from noworse.errors import BadInput
from noworse.papers.l2.rate import Linear
from noworse.propose.grids import kernels
from noworse.propose.grids.grid import GridSet, GridSpec
from noworse.propose.grids.kernels import Placed
from noworse.rate.counter import Slopes, entropy_slopes, lay_out, locate
from noworse.rate.soft import Cosine

MODES = [(threads, simd) for threads in (1, 2, 5) for simd in range(_native.best_simd() + 1)]
LARGE = 1 << 19  # several pieces of work, and thrice that enough for several threads

# tensors as the number of their weights, their scale in steps, and half the zone in 64ths of a step
tensor = st.tuples(st.integers(1, 700), st.sampled_from([0.0, 0.2, 1.0, 9.0, 900.0]), st.integers(26, 255))


def made(tensors: list[tuple[int, float, int]], seed: int) -> tuple[Tensor, Placed]:
    """Latents in units of a step each, with exact zeros of both signs and weights on boundaries."""
    generator = torch.Generator().manual_seed(seed)
    sizes, scales, edges = zip(*tensors, strict=True)
    zones = torch.tensor(edges) / 64
    steps = torch.linspace(0.01, 3, len(sizes))
    ratio = torch.linspace(0.4, 1.7, len(sizes))
    parts = []
    for size, scale, zone, own in zip(sizes, scales, zones, ratio, strict=True):
        part = scale * torch.randn(size, generator=generator).exp() * torch.randn(size, generator=generator).sign()
        part[torch.randint(0, size, (1,), generator=generator)] = -0.0
        part[torch.randint(0, size, (1,), generator=generator)] = zone / own
        parts.append(part)
    return torch.cat(parts), Placed(np.array(list(accumulate(sizes)), np.int64), ratio, steps, zones)


def rows(placed: Placed) -> list[slice]:
    return [slice(*ends) for ends in pairwise([0, *placed.ends.tolist()])]


def torch_values(latent: Tensor, placed: Placed) -> tuple[Tensor, Tensor, Tensor]:
    """ŵ, q and |w|/s − r (N,) by the torch code's operations in float32."""
    _, ratio, steps, zones = placed
    sizes = torch.tensor([row.stop - row.start for row in rows(placed)])
    ratio, steps, zones = (each.repeat_interleave(sizes) for each in (ratio, steps, zones))
    scaled = latent * ratio
    excess = scaled.abs() - zones
    q = (excess.floor() + 1).clamp(min=0)
    return torch.copysign((q + (zones - 0.5)) * (q > 0) * steps, scaled), torch.copysign(q, scaled), excess


def reference(latent: Tensor, placed: Placed, kernel: Cosine) -> tuple[list[float], Slopes]:
    """Bits by definition, and the slopes of the torch code in float64 on counts of the same cells."""
    _, q, excess = torch_values(latent, placed)
    bits = []
    for row in rows(placed):
        _, counts = np.unique(q[row].numpy() + 0.0, return_counts=True)
        bits.append(float(-(counts * np.log2(counts / counts.sum())).sum()))
    reach = torch.stack([latent[row].abs().max() for row in rows(placed)]) * placed.ratio
    cells = lay_out(reach, placed.zones)
    counts = torch.zeros(cells.total, dtype=torch.float64)
    for k, row in enumerate(rows(placed)):
        place = cells.base[k] + cells.zero[k] + (excess[row] * cells.resolution[k]).floor().long()
        counts += torch.bincount(place + (latent[row] < 0) * cells.width[k], minlength=cells.total)
    zones = placed.zones.double()
    return bits, entropy_slopes(counts, locate(cells, zones), zones, kernel)


@settings(deadline=None)
@given(st.lists(tensor, min_size=1, max_size=4), st.integers(0, 99), st.sampled_from([0.1, 0.25, 0.5]))
def test_values_are_those_of_torch_and_sums_those_of_float64(
    tensors: list[tuple[int, float, int]], seed: int, delta: float
) -> None:
    latent, placed = made(tensors, seed)
    values, kernel = torch.full_like(latent, torch.nan), Cosine(delta)
    bits, slopes = kernels.quantise(latent, placed, values, kernel)
    assert torch.equal(values.view(torch.int32), torch_values(latent, placed)[0].view(torch.int32))
    expected, exact = reference(latent, placed, kernel)
    assert bits.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-9)
    for found, right in ((slopes.log_step, exact.log_step), (slopes.zone, exact.zone)):
        torch.testing.assert_close(found.double(), right.double(), rtol=1e-6, atol=1e-7)
    plain, _ = kernels.quantise(latent, placed, values, None)
    assert torch.equal(plain, bits), "bits do not depend on how finely is counted"


@settings(deadline=None)
@given(st.lists(tensor, min_size=1, max_size=4), st.integers(0, 99))
def test_gradients_are_those_of_torch_and_sums_those_of_float64(
    tensors: list[tuple[int, float, int]], seed: int
) -> None:
    latent, placed = made(tensors, seed)
    unit = torch.linspace(0.3, 2, len(tensors))
    upstream = torch.randn(len(latent), generator=torch.Generator().manual_seed(seed))
    found = upstream.clone()
    moved, at_zero = kernels.gradients(latent, placed, unit, found)
    values, q, _ = torch_values(latent, placed)
    for k, row in enumerate(rows(placed)):
        assert torch.equal(found[row], upstream[row] * unit[k])
        errors = ((values[row] - latent[row] * unit[k]) * upstream[row]).tolist()
        bound = 1e-6 * math.fsum(map(abs, errors)) + 1e-30
        assert moved[k].item() == pytest.approx(math.fsum(errors), abs=bound)
        zeros = [error for error, code in zip(errors, q[row].tolist(), strict=True) if code == 0]
        assert at_zero[k].item() == pytest.approx(math.fsum(zeros), abs=bound)


def test_threads_and_instruction_sets_leave_no_trace() -> None:
    tensors = [(5, 1.0, 32), (2 * LARGE + 77, 2.0, 40), (LARGE, 300.0, 26), (33, 900.0, 200)]
    latent, placed = made(tensors, 0)
    upstream, seen = torch.randn(len(latent), generator=torch.Generator().manual_seed(1)), set()
    for threads, simd in MODES:
        out, rates, sums = torch.empty_like(latent), np.zeros((3, 4)), np.zeros((2, 4))
        _native.quantise(latent.numpy(), *placed.arrays, out.numpy(), 0.25, rates, threads, simd)
        gradient = upstream.clone()
        units = placed.ratio.numpy()
        _native.gradients(latent.numpy(), *placed.arrays, units, gradient.numpy(), sums, threads, simd)
        seen.add(b"".join(each.tobytes() for each in (out.numpy(), rates, gradient.numpy(), sums)))
    assert len(seen) == 1
    assert torch.equal(out, torch_values(latent, placed)[0])


def both(kernel: Cosine | Linear, on_weights: bool) -> tuple[GridSet, GridSet, list[Tensor]]:
    """The same grids by native code and by torch, after an iteration, with what that wrote."""
    shapes = {"a": (7,), "b": (300, 250), "c": (8, 4, 3, 3)}
    generator = torch.Generator().manual_seed(2)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    found, written = [], []
    for native in (True, False):
        grids = GridSet([GridSpec(name, shape, "float32") for name, shape in shapes.items()], weights, 0.6)
        grids.native = native
        grids.log_step.copy_(torch.tensor([0.1, 0.3, 0.8]).log())
        grids.rebase()
        values = torch.empty(grids.count)
        grids.quantise(values, kernel, on_weights)
        grids.log_step += 0.1  # as the controller does before gradients are there
        gradient = torch.randn(grids.count, generator=torch.Generator().manual_seed(3))
        grids.gradients(values, gradient, 0.01, on_weights)
        found.append(grids)
        written.append(values)
    return found[0], found[1], written


def test_grids_are_the_same_with_and_without() -> None:
    native, plain, written = both(Cosine(), False)
    assert torch.equal(*written)
    assert torch.equal(native.latent.grad, plain.latent.grad)
    torch.testing.assert_close(native.bits, plain.bits, rtol=1e-12, atol=0)
    torch.testing.assert_close(native.log_step.grad, plain.log_step.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(native.log_zone.grad, plain.log_zone.grad, rtol=1e-4, atol=1e-4)
    assert not torch.equal(native.log_step.grad, plain.log_step.grad), "torch's sums are less exact"


@pytest.mark.parametrize(("kernel", "on_weights"), [(Cosine(), True), (Linear(), False)])
def test_what_native_code_does_not_know_is_torchs(kernel: Cosine | Linear, on_weights: bool) -> None:
    native, plain, written = both(kernel, on_weights)
    assert torch.equal(*written)
    assert torch.equal(native.bits, plain.bits)
    assert torch.equal(native._slopes.log_step, plain._slopes.log_step)


def test_only_float32_in_one_piece_on_a_processor_is_taken() -> None:
    x = torch.zeros(6, 2)
    assert kernels.take(x, x)
    for other in (x.double(), x.half(), x.T, x[:, 0], x.to("meta")):
        assert not kernels.take(x, other)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 2.0**21, -3e38])
def test_weights_that_no_grid_can_hold_are_refused(bad: float) -> None:
    latent, placed = made([(9, 1.0, 32), (40, 1.0, 32)], 0)
    latent[30] = bad
    with pytest.raises(BadInput, match=r"not finite, or beyond 2\*\*20 steps: expected less, or lower learning rates"):
        kernels.quantise(latent, placed, torch.empty_like(latent), Cosine())


def arguments() -> dict[str, Any]:
    latent, placed = made([(9, 1.0, 32), (40, 1.0, 32)], 0)
    names = ("ends", "ratio", "steps", "zones")
    given = dict(zip(names, placed.arrays, strict=True))
    return {"latent": latent.numpy(), **given, "out": latent.numpy() * 0, "delta": 0.25, "found": np.zeros((3, 2))}


ENDS = [[9, 50], [9, 48], [20, 9], [-1, 49], [49]]


@pytest.mark.parametrize(
    "bad",
    [
        {"out": np.zeros(48, np.float32)},
        {"found": np.zeros((2, 2))},
        {"found": np.zeros((3, 3))},
        {"delta": 0.6},
        {"delta": math.nan},
        *({"ends": np.array(ends, np.int64)} for ends in ENDS),
        *({name: np.ones(3, np.float32)} for name in ("ratio", "steps", "zones")),
        *({"zones": np.array([0.5, zone], np.float32)} for zone in (-0.1, 65, math.nan)),
    ],
)
def test_native_code_refuses_what_does_not_fit(bad: dict[str, Any]) -> None:
    _native.quantise(**arguments())
    with pytest.raises(ValueError, match="must"):
        _native.quantise(**{**arguments(), **bad})


def test_native_code_refuses_ratios_that_are_not_numbers() -> None:
    with pytest.raises(ValueError, match="not finite"):
        _native.quantise(**{**arguments(), "ratio": np.array([1, math.nan], np.float32)})


@pytest.mark.parametrize("name", ["latent", "ends", "ratio", "steps", "zones", "out", "found"])
def test_native_code_refuses_other_types_and_strides(name: str) -> None:
    given: NDArray[Any] = arguments()[name]
    strided = np.repeat(given, 2, axis=-1)[..., ::2]
    for bad in (given.astype(np.float16), strided, given.tolist()):
        with pytest.raises(TypeError):
            _native.quantise(**{**arguments(), name: bad})


def test_gradients_refuse_what_does_not_fit() -> None:
    latent, placed = made([(9, 1.0, 32), (40, 1.0, 32)], 0)

    def descend(units: int, gradient: int, found: tuple[int, int]) -> None:
        given = np.ones(units, np.float32), np.zeros(gradient, np.float32), np.zeros(found)
        _native.gradients(latent.numpy(), *placed.arrays, *given)

    descend(2, 49, (2, 2))
    for bad in ((3, 49, (2, 2)), (2, 50, (2, 2)), (2, 49, (3, 2))):
        with pytest.raises(ValueError, match="must"):
            descend(*bad)
