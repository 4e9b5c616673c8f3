from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from noworse.codec import _native
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
    monkeypatch.setattr(adam, "NATIVE", False)
    (_, mine), (_, theirs) = tuned, expected = leaves(), leaves()
    optimiser = Adam(groups_of(tuned))
    after(optimiser, tuned)
    after(torch.optim.Adam(groups_of(expected), fused=True), expected)
    assert optimiser.state[mine]["exp_avg"].dtype == torch.bfloat16
    moved = (theirs - leaves()[1]).abs()
    assert ((mine - theirs).abs() <= 0.01 * moved + 1e-6).all()
    assert not torch.equal(mine, theirs)


@pytest.mark.parametrize("native", [True, False])
def test_neighbours_of_large_leaves_share_the_mean_of_their_second_moments(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adam, "LARGE", 1000)
    monkeypatch.setattr(adam, "NATIVE", native)
    tuned = leaves()[1][:1003].clone()
    optimiser = Adam([{"params": [tuned], "lr": 0.1}])
    tuned.grad = torch.arange(1003.0)
    optimiser.step()
    second = optimiser.state[tuned]["exp_avg_sq"]
    squares = torch.arange(1000.0).square().view(-1, 8).mean(1)
    torch.testing.assert_close(second[:125], (1 - adam.BETAS[1]) * squares)
    assert second[125] > 0


@pytest.mark.parametrize("native", [True, False])
def test_parts_of_a_large_leaf_step_as_the_whole(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut between neighbours that share a moment; one of the parts is empty, another smaller than what is large."""
    monkeypatch.setattr(adam, "LARGE", 1000)
    monkeypatch.setattr(adam, "NATIVE", native)
    whole = leaves()[1]
    parts = [part.clone() for part in torch.split(whole, [800, 0, 2200])]
    after(Adam([{"params": [whole], "lr": 0.1}]), [whole])
    for part in parts:
        after(Adam([{"params": [part], "lr": 0.1, "count": len(whole)}]), [part])
    assert torch.equal(torch.cat(parts), whole)


def test_leaves_without_gradient_stay() -> None:
    first, second = leaves()
    optimiser = Adam([{"params": [first, second]}])
    first.grad = torch.ones(7)
    before = second.clone()
    optimiser.step()
    assert torch.equal(second, before)
    assert second not in optimiser.state


def test_large_leaves_step_by_native_code_as_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adam, "LARGE", 1000)
    found = []
    for native in (True, False):
        monkeypatch.setattr(adam, "NATIVE", native)
        tuned = [leaves()[1][:2997]]
        optimiser = Adam(groups_of([*tuned, leaves()[0]]))
        found.append((after(optimiser, tuned)[0], optimiser.state[tuned[0]]))
    (mine, moments), (theirs, others) = found
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(moments["exp_avg_sq"], others["exp_avg_sq"])
    torch.testing.assert_close(moments["exp_avg"], others["exp_avg"], rtol=2**-7, atol=1e-4)  # one of its last places
    assert moments["step"] == others["step"] == STEPS


def test_a_native_step_is_that_of_float64() -> None:
    """Whatever the threads and the instruction set; one number fewer than a whole group, over several pieces."""
    count, seen = (1 << 18) + 7, set()
    rng = np.random.default_rng(0)
    w, g = (rng.standard_normal(count).astype(np.float32) for _ in range(2))
    m = torch.from_numpy(rng.standard_normal(count)).bfloat16()
    v = rng.random((count + 7) // 8).astype(np.float32)
    rule = np.array([0.1, 0.999, 0.001, 1e-8, 0.2, -0.003], np.float32)
    for threads, simd in [(t, s) for t in (1, 3) for s in range(_native.best_simd() + 1)]:
        weights, first, second = w.copy(), m.view(torch.int16).numpy().view(np.uint16).copy(), v.copy()
        _native.adam_step(weights, g, first, second, rule, threads, simd)
        seen.add(weights.tobytes() + first.tobytes() + second.tobytes())
    assert len(seen) == 1
    mean = 0.9 * m.double().numpy() + 0.1 * g
    own = v.astype(np.float64).repeat(8)
    own[:count] = 0.999 * own[:count] + 0.001 * g.astype(np.float64) ** 2
    np.testing.assert_allclose(weights, w - 0.003 * mean / (np.sqrt(own[:count]) / 0.2 + 1e-8), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(second, own.reshape(-1, 8).mean(1), rtol=1e-6)
    kept = torch.from_numpy(first.view(np.int16)).view(torch.bfloat16)
    assert (kept != torch.from_numpy(mean).bfloat16()).double().mean() < 1e-3  # but for ties of what float32 rounded


def test_moments_keep_what_is_not_a_number() -> None:
    w, g = np.zeros(8, np.float32), np.array([np.nan, np.inf, -np.inf, 3e38, 1, 0, 0, 0], np.float32)
    first, second = np.zeros(8, np.uint16), np.zeros(1, np.float32)
    _native.adam_step(w, g, first, second, np.array([1, 0.999, 0.001, 1e-8, 1, -1], np.float32))
    assert first[:5].tolist() == [0x7FC0, 0x7F80, 0xFF80, 0x7F62, 0x3F80]
    assert np.isnan(second[0])


@pytest.mark.parametrize("sizes", [(17, 16, 16, 2, 6), (16, 17, 16, 2, 6), (16, 16, 17, 2, 6), (16, 16, 16, 3, 6),
                                   (16, 16, 16, 2, 5)])  # fmt: skip
def test_native_steps_refuse_what_does_not_fit(sizes: tuple[int, ...]) -> None:
    kinds = np.float32, np.float32, np.uint16, np.float32, np.float32
    with pytest.raises(ValueError, match=r"must be|has six"):
        _native.adam_step(*(np.zeros(size, kind) for size, kind in zip(sizes, kinds, strict=True)))  # type: ignore[arg-type]
