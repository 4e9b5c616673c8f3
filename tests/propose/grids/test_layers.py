from __future__ import annotations

import pytest
import torch
from torch import Tensor

from noworse.propose.grids.compensated import Layer, start_at
from noworse.propose.grids.grid import GridSet, GridSpec
from noworse.propose.grids.layers import SLACK, Layers, start_compensated
from noworse.propose.grids.untuned import Untuned
from tests.propose.grids.test_compensated import ZONE, correlated


def test_a_start_takes_the_bits_that_it_is_given() -> None:
    """Compensated weights need more bits at the same steps: the steps are chosen after that."""
    torch.manual_seed(2)
    specs = [GridSpec("layer", (30, 40), "float32"), GridSpec("other", (500,), "float32")]
    weights = {"layer": torch.randn(30, 40), "other": torch.randn(500)}
    grids, scratch = GridSet(specs, weights, ZONE), torch.empty(1700)
    sensitivity, bits = {"layer": 1.0, "other": 2.0}, 1.5 * 1700
    start_at(grids, sensitivity, bits, grids.meter(scratch))
    uncompensated = grids.steps()
    untuned, layers = Untuned(grids), Layers(held={"layer": Layer((30, 40), correlated(40, 5)[None])})

    def cost() -> float:
        grids.quantise(scratch)
        return float(grids.bits.sum())

    _, found = start_compensated(untuned, layers, sensitivity, bits, grids.meter(scratch), cost)
    assert found == float(grids.bits.sum()) == pytest.approx(bits, rel=1.1 * SLACK)
    assert grids.steps()[0] > uncompensated[0]
    torch.testing.assert_close(grids.weights(1), weights["other"])  # no moments: not moved


def rounded(threads: int) -> tuple[Tensor, list[tuple[int, int]]]:
    """Latents after all layers were rounded by so many threads, and what was told of it."""
    torch.manual_seed(0)
    names = [f"layer {k}" for k in range(5)]
    weights = {name: torch.randn(64, 48) for name in names}
    grids = GridSet([GridSpec(name, (64, 48), "float32") for name in names], weights, ZONE)
    layers, told = Layers(), []
    moments = {name: correlated(48, k)[None].float() for k, name in enumerate(names)}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        layers.add(weights, moments, 0.01)
        grids.log_step.fill_(-1.0)
        grids.rebase()
        layers.round(grids, lambda done, of: told.append((done, of)))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    return grids.latent, told


def test_any_number_of_threads_rounds_alike() -> None:
    alone, told = rounded(1)
    assert told == [(done, 5) for done in range(1, 6)]
    for threads in (2, 5):
        assert torch.equal(rounded(threads)[0], alone)


def test_layers_of_some_names() -> None:
    layers = Layers(held={name: Layer((30, 40), correlated(40, 5)[None]) for name in "abc"})
    chosen = layers.among(["a", "c", "d"])
    assert list(chosen.left) == ["a", "c"]
    assert chosen.left["a"] == layers.left["a"] == Layer((30, 40), correlated(40, 5)[None]).curvature()
    assert chosen
    assert not Layers()
