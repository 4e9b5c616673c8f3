from __future__ import annotations

import pytest
import torch
from torch import Tensor

from noworse.tune import adam
from noworse.tune.adam import Adam

STEPS, RATES = 30, (0.1, 0.003)


def leaves() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, generator=generator) for size in (7, 3000)]


def gradients(leaf: Tensor, step: int) -> Tensor:
    return (leaf - 1.0) * (1.0 + 0.3 * step % 1.0)


def after(optimiser: Adam | torch.optim.Adam, tuned: list[Tensor]) -> list[Tensor]:
    for step in range(STEPS):
        for leaf in tuned:
            leaf.grad = gradients(leaf, step)
        optimiser.step()
    return tuned


def groups_of(tuned: list[Tensor]) -> list[dict[str, object]]:
    return [{"params": [leaf], "lr": rate} for leaf, rate in zip(tuned, RATES, strict=True)]


def test_steps_are_those_of_torch() -> None:
    mine, theirs = leaves(), leaves()
    after(Adam(groups_of(mine)), mine)
    after(torch.optim.Adam(groups_of(theirs), fused=True), theirs)
    for a, b in zip(mine, theirs, strict=True):
        assert torch.equal(a, b)


def test_large_leaves_step_nearly_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adam, "LARGE", 1000)
    monkeypatch.setattr(adam, "PIECE", 999)
    monkeypatch.setattr(adam, "TOGETHER", 1)
    (_, mine), (_, theirs) = tuned, expected = leaves(), leaves()
    optimiser = Adam(groups_of(tuned))
    after(optimiser, tuned)
    after(torch.optim.Adam(groups_of(expected), fused=True), expected)
    assert optimiser.state[mine]["exp_avg"].dtype == torch.bfloat16
    moved = (theirs - leaves()[1]).abs()
    assert ((mine - theirs).abs() <= 0.01 * moved + 1e-6).all()
    assert not torch.equal(mine, theirs)


def test_neighbours_of_large_leaves_share_the_mean_of_their_second_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adam, "LARGE", 1000)
    tuned = leaves()[1][:1003].clone()
    optimiser = Adam([{"params": [tuned], "lr": 0.1}])
    tuned.grad = torch.arange(1003.0)
    optimiser.step()
    second = optimiser.state[tuned]["exp_avg_sq"]
    squares = torch.arange(1000.0).square().view(-1, 8).mean(1)
    torch.testing.assert_close(second[:125], (1 - adam.BETAS[1]) * squares)
    assert second[125] > 0


def test_leaves_without_gradient_stay() -> None:
    first, second = leaves()
    optimiser = Adam([{"params": [first, second]}])
    first.grad = torch.ones(7)
    before = second.clone()
    optimiser.step()
    assert torch.equal(second, before)
    assert second not in optimiser.state
