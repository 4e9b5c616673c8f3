from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from noworse.papers.l2.rate import Linear, RangeKernel, Triangle
from noworse.propose.grids.transform import magnitude
from noworse.rate import counter
from noworse.rate.counter import code_bits, segment_entropy
from noworse.rate.soft import Cosine, Kernel


def test_known_entropies() -> None:
    counts = torch.tensor([4, 4, 4, 4, 7, 0, 1, 3])
    owner = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    found = segment_entropy(counts, owner)
    assert found.tolist() == pytest.approx([16 * 2, 0, 2 + 3 * math.log2(4 / 3)])


def test_against_torch_distributions() -> None:
    counts = torch.randint(1, 50, (3, 8))
    owner = torch.arange(3).repeat_interleave(8)
    expected = torch.distributions.Categorical(counts.double()).entropy() / math.log(2) * counts.sum(1)
    assert torch.allclose(segment_entropy(counts.flatten(), owner), expected)


def test_bits_of_codes() -> None:
    assert code_bits(torch.tensor([[-3, 0, 0], [0, 5, 5]])) == pytest.approx(3 * 1 + 2 * math.log2(3) + math.log2(6))
    assert code_bits(torch.full((4, 2), -7, dtype=torch.int32)) == 0


def laplacian(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).laplace(size=n)


STEPS = {  # K(u) of the paper
    "cos": lambda u: 0.5 - 0.5 * np.cos(np.pi * (u + 1) / 2),
    "linear": lambda u: (u + 1) / 2,
    "triangle": lambda u: np.where(u < 0, (1 + u) ** 2 / 2, 1 - (1 - u) ** 2 / 2),
}


KERNELS = {"cos": Cosine, "linear": Linear, "triangle": Triangle}


def codes_of(w: np.ndarray, s: float, r: float) -> np.ndarray:
    t = np.abs(w) / s
    return np.sign(w) * np.where(t <= r, t / (2 * r), t - r + 0.5)


def soft_entropy(w: np.ndarray, s: float, r: float, delta: float, kernel: str = "cos") -> float:
    """Brute force in float64: every weight's kernel mass over all bins, one weight and one bin at a time."""
    c = codes_of(w, s, r)
    margin = math.ceil(delta) + 1
    bins = np.arange(-math.ceil(np.abs(c).max()) - margin, math.ceil(np.abs(c).max()) + margin + 1)

    def step(u: np.ndarray) -> np.ndarray:
        return STEPS[kernel](np.clip(u, -1, 1))

    mass = np.array([(step((k + 0.5 - c) / delta) - step((k - 0.5 - c) / delta)).sum() for k in bins])
    mass = mass[mass > 0]
    return float(-(mass * np.log2(mass / len(w))).sum())


def slopes(w: np.ndarray, s: float, r: float, kernel: Kernel) -> tuple[counter.Slopes, counter.Bins, torch.Tensor]:
    scaled = torch.tensor(w / s, dtype=torch.float32)
    zones = torch.tensor([r])
    cells = counter.lay_out(scaled.abs().max().reshape(1), zones, counter.CELLS)
    place = ((scaled.abs() - r) * cells.resolution).floor().long() + cells.zero + (scaled < 0) * cells.width
    counts = torch.bincount(place, minlength=cells.total).float()
    bins = counter.locate(cells, zones)
    return counter.entropy_slopes(counts, bins, zones, kernel), bins, counts


@pytest.mark.parametrize(("s", "r"), [(0.08, 0.5), (0.8, 0.5), (1.5, 0.93), (1.5, 2.0)])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("width", [0.25, 0.5, "resolution 16", "resolution 64"])
def test_gradient_is_that_of_the_brute_force_soft_entropy(s: float, r: float, width: float | str, kernel: str) -> None:
    w, h, n = laplacian(20_000), 1e-4, 20_000
    resolution = int(width[11:]) if isinstance(width, str) else 0
    chosen = RangeKernel(resolution=resolution, of=kernel) if resolution else KERNELS[kernel](width)
    delta = float(np.ptp(codes_of(w, s, r))) / resolution if resolution else float(width)
    found, _, _ = slopes(w, s, r, chosen)

    def entropy(s: float, r: float) -> float:
        return soft_entropy(w, s, r, delta, kernel)

    by_step = (entropy(s * math.exp(h), r) - entropy(s * math.exp(-h), r)) / (2 * h)
    by_zone = (entropy(s, r + h) - entropy(s, r - h)) / (2 * h)
    # weights sit in cells of 1/32, so that a box sees whole cells enter and leave it
    assert found.log_step.item() / n == pytest.approx(by_step / n, abs=0.06 if kernel == "linear" else 0.03)
    assert found.zone.item() / n == pytest.approx(by_zone / n, abs=0.06 if kernel == "linear" else 0.03)


# True derivatives of the entropy of Laplacian codes by ln e and ln s in bits per weight, by finite differences of the
# closed form: the soft entropy's must agree to the accuracy that δ = 1/4 allows at each rate.
REGIMES = [(0.04, 0.08, 0.02), (0.4, 0.8, 0.05), (1.4, 1.5, 0.11), (3.0, 1.5, 0.06)]


@pytest.mark.parametrize(("e", "s", "tolerance"), REGIMES)
def test_gradient_is_close_to_that_of_the_true_entropy(e: float, s: float, tolerance: float) -> None:
    def entropy(e: float, s: float) -> float:
        edges = e + s * np.arange(0, 2000)
        tails = np.exp(-edges)
        p = np.concatenate([[1 - tails[0]], (tails[:-1] - tails[1:]) / 2, (tails[:-1] - tails[1:]) / 2])
        p = p[p > 0]
        return float(-(p * np.log2(p)).sum())

    h, n = 1e-4, 400_000
    found, _, _ = slopes(laplacian(n), s, e / s, Cosine())
    by_edge = found.zone.item() / n * (e / s)
    by_step = found.log_step.item() / n - by_edge
    up, down = math.exp(h), math.exp(-h)
    assert by_edge == pytest.approx((entropy(e * up, s) - entropy(e * down, s)) / (2 * h), abs=tolerance)
    assert by_step == pytest.approx((entropy(e, s * up) - entropy(e, s * down)) / (2 * h), abs=tolerance)


def test_hard_bits_are_the_empirical_entropy() -> None:
    w, s, r = laplacian(5000), 0.7, 0.8
    _, bins, counts = slopes(w, s, r, Cosine())
    t = np.abs(w.astype(np.float32)) / s
    q = np.sign(w) * np.maximum(np.floor(t - r) + 1, 0)
    _, n = np.unique(q, return_counts=True)
    assert counter.hard_bits(counts, bins).item() == pytest.approx(-(n * np.log2(n / n.sum())).sum(), rel=1e-3)


def test_boundary_lies_where_the_magnitude_changes() -> None:
    r = 0.8
    t = torch.linspace(0.001, 5, 5000, dtype=torch.float64)
    q = magnitude(t - r)
    distance, outward = counter.boundary(t, q, r)
    c = torch.where(t <= r, t / (2 * r), t - r + 0.5)
    beyond = (c + outward * (distance + 1e-9)).abs()
    assert torch.equal(torch.round(beyond), q + outward)
    inside = c + outward * (distance - 1e-9)
    assert torch.equal(torch.round(inside).abs(), q)
