from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from noworse.datafree.outliers import LARGEST_CODE
from noworse.format import packed_size
from noworse.propose.grids.chunks import CHUNK, SMALL
from noworse.propose.grids.general import GeneralGrids
from noworse.propose.grids.grid import ZONE_MIN, GridSet, GridSpec, stored_steps
from noworse.propose.grids.specs import grid_specs
from noworse.propose.grids.transform import Deadzone, Transform
from noworse.rate.counter import CELLS
from noworse.rate.soft import Cosine, SoftEntropy
from noworse.representation import Outliers, pack_step, unpack_step

BIG, CONV = (CHUNK // 250 + 40, 250), (SMALL // 128, 16, 3, 3)
# Two small tensors that share a chunk, one large enough to be cut, a convolution, small ones again (one untuned).
SHAPES = {"a": (7,), "b": (5, 3), "big": BIG, "conv": CONV, "c": (4, 3, 3, 3), "frozen": (11, 9)}
STEPS = {"a": 0.03, "b": 0.11, "big": 0.21, "conv": 0.9, "c": 0.5, "frozen": 0.4}
ZONES = {"a": 0.5, "b": 0.59375, "big": 0.75, "conv": 1.25, "c": 2.0, "frozen": 0.5}  # multiples of 1/32
KERNEL = Cosine()
DELTA = KERNEL.delta


def on_cells(shape: tuple[int, ...], step: float, zone: float, seed: int) -> NDArray[np.float64]:
    """Laplacian weights moved to the middle of the counter's cells: there its gradients are exact."""
    rng = np.random.default_rng(seed)
    t = np.abs(rng.laplace(scale=1.5, size=shape))
    t = zone + (np.floor((t - zone) * CELLS) + 0.5) / CELLS
    t = np.where(t > 0, t, 0.5 / CELLS)
    return rng.choice([-1.0, 1.0], shape) * t * step


@pytest.fixture
def weights() -> dict[str, NDArray[np.float64]]:
    steps = {name: unpack_step(pack_step(step)) for name, step in STEPS.items()}
    return {name: on_cells(shape, steps[name], ZONES[name], i) for i, (name, shape) in enumerate(SHAPES.items())}


@pytest.fixture
def grids(weights: dict[str, NDArray[np.float64]]) -> GridSet:
    """A set at the steps and zones above."""
    specs = [GridSpec(name, shape, "float32", name != "frozen") for name, shape in SHAPES.items()]
    found = GridSet(specs, {name: torch.tensor(w) for name, w in weights.items()}, 0.6)
    found.log_step.copy_(torch.tensor([unpack_step(pack_step(STEPS[s.name])) for s in specs]).double().log())
    found.log_zone.copy_((torch.tensor([ZONES[s.name] for s in specs]).double() - ZONE_MIN).log())
    found.rebase()
    return found


def reference(w: NDArray[np.float64], step: float, zone: float) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """Codes, reconstruction and empirical entropy in bits, in float64, from the definitions in docs/method.md."""
    t = np.abs(w) / step
    c = np.where(t <= zone, t / (2 * zone), t - zone + 0.5)
    q = (np.sign(w) * np.floor(c + 0.5)).astype(np.int64)
    values = np.sign(q) * (zone + np.abs(q) - 0.5) * step
    _, counts = np.unique(q, return_counts=True)
    return q, values, float(-(counts * np.log2(counts / counts.sum())).sum())


def rows(grids: GridSet, flat: Tensor) -> dict[str, Tensor]:
    """The tensors on a flat vector."""
    parts = torch.split(flat, grids.sizes)
    return {spec.name: spec.unflatten(part) for spec, part in zip(grids.specs, parts, strict=True)}


def test_layout_covers_every_case(grids: GridSet) -> None:
    sizes = [(chunk.rows.stop - chunk.rows.start, chunk.tensors.stop - chunk.tensors.start) for chunk in grids._chunks]
    assert sizes == [(22, 2), (CHUNK, 1), (math.prod(BIG) - CHUNK, 1), (math.prod(CONV), 1), (108 + 99, 2)]


@pytest.mark.parametrize("kernel", [None, KERNEL])
def test_values_and_bits_against_a_reference(
    grids: GridSet, weights: dict[str, NDArray[np.float64]], kernel: Cosine | None
) -> None:
    out = torch.full((grids.count,), torch.nan)
    grids.quantise(out, kernel)
    found = rows(grids, out)
    for k, (name, w) in enumerate(weights.items()):
        _, values, bits = reference(w, unpack_step(pack_step(STEPS[name])), ZONES[name])
        assert np.allclose(found[name].numpy(), values, rtol=1e-6, atol=0), name
        assert grids.bits[k].item() == pytest.approx(bits, rel=1e-9), name


def test_representations_are_what_quantise_writes(grids: GridSet, weights: dict[str, NDArray[np.float64]]) -> None:
    """At steps and zones that a file can hold there is nothing to round: same codes, same values."""
    out = torch.empty(grids.count)
    grids.quantise(out)
    found = rows(grids, out)
    for name, grid in grids.representations().items():
        codes, _, _ = reference(weights[name], unpack_step(pack_step(STEPS[name])), ZONES[name])
        assert (grid.shape, grid.dtype) == (SHAPES[name], "float32")
        assert np.array_equal(grid.codes.reshape(grid.shape), codes), name
        assert np.allclose(grid.decode(), found[name].numpy(), rtol=1e-6, atol=0), name


def test_representations_round_steps_and_zones(grids: GridSet) -> None:
    """Elsewhere a value is off by the step's rounding (8 bits) and the zone's (1/128), or by a code at a boundary."""
    grids.log_step += 0.0123
    grids.log_zone += 0.017
    out = torch.empty(grids.count)
    grids.quantise(out)
    found = rows(grids, out)
    for k, (name, grid) in enumerate(grids.representations().items()):
        step, zone = float(grids.steps()[k]), float(grids.zones()[k])
        assert unpack_step(grid.step) == pytest.approx(step, rel=2.0**-9)
        assert grid.edge / 64 == pytest.approx(zone, abs=1 / 128 + 1e-6)
        error = np.abs(grid.decode() - found[name].numpy())
        bound = 2.0**-9 * np.abs(found[name].numpy()) + 1.01 * step / 128 + 1e-7
        moved = error > bound
        assert moved.mean() < 0.05
        assert (error[moved] < 1.05 * step * max(1.0, 0.5 + zone)).all()


@given(st.lists(st.integers(1, 4), min_size=0, max_size=5).map(tuple))
def test_flat_rows_come_back(shape: tuple[int, ...]) -> None:
    spec, tensor = GridSpec("x", shape, "float32"), torch.randn(shape)
    row = spec.flatten(tensor).clone()
    view = spec.unflatten(row)
    assert row.dim() == 1
    assert torch.equal(view, tensor)
    assert view.data_ptr() == row.data_ptr(), "unflatten must not copy"


def test_kernels_lie_channels_last() -> None:
    tensor = torch.arange(24.0).view(2, 3, 2, 2)
    spec = GridSpec("x", (2, 3, 2, 2), "float32")
    row = spec.flatten(tensor)
    assert row[:3].tolist() == [0, 4, 8], "channels are neighbours"
    assert spec.unflatten(row.clone()).is_contiguous(memory_format=torch.channels_last)


def soft_entropy(c: Tensor) -> Tensor:
    """Brute force in float64: the kernel mass of every signed code in every bin, differentiable."""
    reach = int(c.abs().max().item()) + 2
    bins = torch.arange(-reach, reach + 1, dtype=torch.float64)

    def step(u: Tensor) -> Tensor:
        return 0.5 - 0.5 * torch.cos(math.pi * (u.clamp(-1, 1) + 1) / 2)

    mass = (step((bins + 0.5 - c[:, None]) / DELTA) - step((bins - 0.5 - c[:, None]) / DELTA)).sum(0)
    return -torch.xlogy(mass, mass / len(c)).sum() / math.log(2)


def straight_through(grids: GridSet, upstream: Tensor, multiplier: float, on_weights: bool) -> list[Tensor]:
    """Gradients of Σ g·ŵ + multiplier · R by plain autograd in float64, round passed straight through."""
    latent, log_step, log_zone = (
        leaf.double().requires_grad_() for leaf in (grids.latent, grids.log_step, grids.log_zone)
    )
    total = torch.zeros((), dtype=torch.float64)
    for k in range(len(grids.specs)):
        part = slice(grids.offsets[k], grids.offsets[k + 1])
        stored, zone = grids.steps()[k].double(), grids.zones()[k].double()  # their rounding is passed straight through
        s = log_step[k].exp() * (stored / log_step[k].exp()).detach()
        r = log_zone[k].exp() + (zone - log_zone[k].exp()).detach()
        w = latent[part] * grids.unit[k].double()
        for counted in (False, True):
            source = w.detach() if counted and not on_weights else w
            t = source.abs() / s
            c = torch.where(t <= r, t / (2 * r), t - r + 0.5) * source.sign()
            if counted:
                total = total + multiplier * soft_entropy(c)
                continue
            q = c.round().detach() + c - c.detach()
            values = torch.where(c.round() == 0, 2 * r * s * q, source.sign() * s * (r + q.abs() - 0.5))
            total = total + (values * upstream[part].double()).sum()
    gradients = torch.autograd.grad(total, [latent, log_step, log_zone])
    return [gradients[0], gradients[1] * grids.tuned, gradients[2] * grids.tuned]


@pytest.mark.parametrize(("multiplier", "on_weights"), [(0.0, False), (0.3, False), (0.3, True)])
def test_gradients_against_autograd(grids: GridSet, multiplier: float, on_weights: bool) -> None:
    values, upstream = torch.empty(grids.count), torch.randn(grids.count, generator=torch.Generator().manual_seed(1))
    grids.quantise(values, KERNEL)
    grids.gradients(values, upstream.clone(), multiplier, on_weights)
    expected = straight_through(grids, upstream, multiplier, on_weights)
    for leaf, gradient in zip((grids.latent, grids.log_step, grids.log_zone), expected, strict=True):
        scale = gradient.abs().max().item()
        assert torch.allclose(leaf.grad.double(), gradient, rtol=2e-4, atol=1e-4 * scale)
    assert grids.log_step.grad[-1] == grids.log_zone.grad[-1] == 0, "the last tensor is not tuned"


def test_slopes_of_weights_are_kept_only_where_asked_for(grids: GridSet) -> None:
    values, upstream = torch.empty(grids.count), torch.randn(grids.count)
    found = []
    for on_weights in (True, False):
        grids.quantise(values, KERNEL, on_weights)
        grids.gradients(values, upstream.clone(), 0.3, False)
        found.append([leaf.grad.clone() for leaf in (grids.latent, grids.log_step, grids.log_zone)])
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)  # native sums are more exact
    with pytest.raises(AssertionError, match="keeps what is asked for"):
        grids.gradients(values, upstream.clone(), 0.3, True)


def test_gradients_after_the_steps_moved(grids: GridSet) -> None:
    """Latents stay in units of the step at the start: the chain rule must see both steps."""
    grids.log_step += 0.3
    values, upstream = torch.empty(grids.count), torch.randn(grids.count)
    grids.quantise(values, KERNEL)
    grids.gradients(values, upstream.clone(), 0.0, False)
    expected = straight_through(grids, upstream, 0.0, False)
    for leaf, gradient in zip((grids.latent, grids.log_step, grids.log_zone), expected, strict=True):
        assert torch.allclose(leaf.grad.double(), gradient, rtol=2e-4, atol=1e-4 * gradient.abs().max().item())


@pytest.mark.parametrize("knob", ["shift", "log_scale"])
def test_knobs_make_codes_cheaper_one_by_one(grids: GridSet, knob: str) -> None:
    sizes, before = [], None
    for value in np.linspace(-0.25, 0.25, 6):
        found = grids.representations(**{knob: value})
        magnitudes = np.concatenate([np.abs(grid.codes) for grid in found.values()])
        assert before is None or (magnitudes <= before).all()
        before = magnitudes
        sizes.append(packed_size(found, {}, None))
    assert all(a > b for a, b in pairwise(sizes))


def test_rebase_keeps_the_weights(grids: GridSet, weights: dict[str, NDArray[np.float64]]) -> None:
    grids.log_step += torch.linspace(-1, 1, len(SHAPES))
    before, after = torch.empty(grids.count), torch.empty(grids.count)
    grids.quantise(before)
    grids.rebase()
    assert torch.equal(grids.unit, grids.steps())
    for k, (name, latent) in enumerate(rows(grids, grids.latent).items()):
        assert np.allclose(latent.numpy() * grids.unit[k].item(), weights[name], rtol=1e-6, atol=0)
    grids.quantise(after)
    close = torch.isclose(before, after, rtol=1e-5, atol=0)
    assert close.double().mean() > 0.999, "only weights on a boundary may move"


def test_the_finest_step_keeps_codes_in_range(grids: GridSet) -> None:
    grids.log_step.fill_(-90.0)
    codes = [np.abs(grid.codes).max() for grid in grids.representations().values()]
    assert max(codes) <= 1.01 * LARGEST_CODE
    assert min(codes) > 0.9 * LARGEST_CODE


def test_new_sets_prune_weights_but_not_vectors() -> None:
    specs = [GridSpec("w", (4, 4), "float32"), GridSpec("b", (4,), "float32")]
    grids = GridSet(specs, {"w": torch.randn(4, 4), "b": torch.randn(4)}, 0.7)
    assert grids.zones().tolist() == [45 / 64, 0.5]  # 0.7 in the units of the file
    assert grids.latent[:16].abs().max() == 1
    assert grids.latent[16:].abs().max() == 1


@given(st.floats(2.0**-90, 2.0**90, width=32))
def test_stored_steps_are_those_that_a_file_packs(step: float) -> None:
    found = stored_steps(torch.tensor([step]))
    assert found.item() == pytest.approx(step, rel=2**-9)
    assert found.item() == unpack_step(pack_step(found.item()))
    assert abs(found.item() - step) == abs(unpack_step(pack_step(step)) - step)  # a tie may go either way


def test_what_is_tuned_is_what_is_written(grids: GridSet) -> None:
    values = torch.empty(grids.count)
    with torch.no_grad():
        grids.log_step += 0.1234
        grids.log_zone += 0.0567
    grids.quantise(values)
    for k, (spec, written) in enumerate(zip(grids.specs, grids.representations().values(), strict=True)):
        tuned = spec.unflatten(values[grids.offsets[k] : grids.offsets[k + 1]])
        assert np.array_equal(tuned.numpy(), written.decode())


@pytest.mark.parametrize("knob", [{"shift": 0.11}, {"shift": -0.2}, {"log_scale": 0.4}])
def test_a_knob_turned_is_what_it_was_tried_as(grids: GridSet, knob: dict[str, float]) -> None:
    tried = {name: grid.codes.copy() for name, grid in grids.representations(**knob).items()}
    grids.turn(**knob)
    found = grids.representations()
    for name, codes in tried.items():
        assert np.mean(found[name].codes != codes) < 1e-3  # a step may be rounded twice


FAR = [0, 7, 100, 107]


def with_outliers(moved: bool, transform: Transform | None = None) -> tuple[GridSet, GridSet, Tensor]:
    """Grids of a kernel and a vector with outliers, the same with zeros in their places, and where these are."""
    torch.manual_seed(0)
    weights = {"kernel": torch.randn(4, 3, 3, 3), "bias": torch.randn(20)}
    zeroed = {name: w.clone() for name, w in weights.items()}
    for name in weights:
        places = [place for place in FAR if place < weights[name].numel()]
        weights[name].view(-1)[places] = 1e5 * torch.arange(1.0, len(places) + 1)
        zeroed[name].view(-1)[places] = 0
    found = []
    for own, factors in ((weights, ()), (zeroed, tuple(weights))):
        specs = grid_specs(own, own, dict.fromkeys(own, 1.0), moved, factors=factors)
        transforms = {"transform": transform, "rate": SoftEntropy()}
        found.append(GridSet(specs, own, 0.6) if transform is None else GeneralGrids(specs, own, 0.6, **transforms))
        found[-1].log_step.copy_(torch.tensor([0.2, 0.1]).log())
        found[-1].rebase()
    flat = torch.cat([spec.flatten(weights[spec.name]) for spec in found[0].specs])
    return *found, flat


@pytest.mark.parametrize("moved", [True, False])
@pytest.mark.parametrize("transform", [None, Deadzone()])
def test_outliers_are_exact_untouched_and_nothing_to_the_others(moved: bool, transform: Transform | None) -> None:
    grids, others, flat = with_outliers(moved, transform)
    far = flat.abs() > 1e4
    assert int(far.sum()) == 6
    assert grids.largest == others.largest
    assert grids.rms == others.rms
    values, expected = torch.empty(grids.count), torch.empty(grids.count)
    grids.quantise(values, KERNEL)
    others.quantise(expected, KERNEL)
    assert torch.equal(values[far], flat[far])
    assert torch.equal(values[~far], expected[~far])
    assert torch.equal(grids.bits, others.bits), "codes are zero"
    upstream = torch.randn(grids.count)
    grids.gradients(values, upstream.clone(), 0.3, True)
    others.gradients(expected, upstream.clone() * ~far, 0.3, True)
    assert not grids.latent.grad[far].any()
    torch.testing.assert_close(grids.latent.grad[~far], others.latent.grad[~far])
    torch.testing.assert_close(grids.log_step.grad, others.log_step.grad)
    torch.testing.assert_close(grids.log_zone.grad, others.log_zone.grad)


@pytest.mark.parametrize("shift", [-0.25, 0.0, 0.25])
def test_the_file_has_outliers_where_they_were(shift: float) -> None:
    grids, _, flat = with_outliers(True)
    grids.set_weights(0, torch.full((20,), 5.0))  # as compensated rounding and corrected biases do
    grids.turn(shift=shift)
    values = torch.empty(grids.count)
    grids.quantise(values)
    far = flat.abs() > 1e4
    for spec, part, original, is_far in zip(
        grids.specs, *(torch.split(x, grids.sizes) for x in (values, flat, far)), strict=True
    ):
        item = grids.representations()[spec.name]
        assert isinstance(item, Outliers)
        assert torch.equal(torch.from_numpy(item.decode()), spec.unflatten(part))
        assert torch.equal(part[is_far], original[is_far])
        assert not spec.flatten(torch.from_numpy(item.codes.reshape(spec.shape)))[is_far].any()


def test_what_calib_does_not_reach_is_rounded_to_nearest_whatever_the_knobs() -> None:
    weights = {"w": torch.randn(9, 9), "idle": torch.randn(9, 9)}
    specs = [GridSpec("w", (9, 9), "float32"), GridSpec("idle", (9, 9), "float32", tuned=False)]
    grids = GridSet(specs, weights, 0.5)
    with torch.no_grad():
        grids.log_step.copy_(torch.full((2,), -1.0))
    for name in ("shift", "log_scale"):
        found = grids.representations(**{name: 0.3})
        plain = grids.representations()
        assert np.array_equal(found["idle"].decode(), plain["idle"].decode())
        assert not np.array_equal(found["w"].decode(), plain["w"].decode())
    grids.turn(shift=0.3)
    assert np.array_equal(grids.representations()["idle"].decode(), plain["idle"].decode())
