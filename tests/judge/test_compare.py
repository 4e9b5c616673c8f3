from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.errors import BadInput
from noworse.judge.compare import compare, contrast


class Counted(nn.Module):
    """A linear net with dropout and batch norm that counts its calls."""

    def __init__(self, features: int = 6, classes: int = 5) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(features)
        self.linear = nn.Linear(features, classes)
        self.drop = nn.Dropout(0.5)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.drop(self.linear(self.norm(x)))


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


@pytest.fixture
def pair() -> tuple[Counted, Counted]:
    torch.manual_seed(0)
    original, candidate = Counted(), Counted()
    candidate.load_state_dict(original.state_dict())
    with torch.no_grad():
        candidate.linear.weight += 0.3 * torch.randn_like(candidate.linear.weight)
    return original, candidate


@pytest.fixture
def batches() -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(50, 6, generator=generator), torch.randint(0, 5, (50,), generator=generator)
    return list(zip(x.split(16), y.split(16), strict=True))


def reference(models: tuple[nn.Module, ...], batches: list[Any]) -> tuple[Any, ...]:
    """Losses, flips and divergences by NumPy and SciPy from logits in eval mode."""
    x, y = (torch.cat(column) for column in zip(*batches, strict=True))
    logits = [copy.deepcopy(model).eval()(x).detach().double().numpy() for model in models]
    p, q = (softmax(each, axis=-1) for each in logits)
    losses = [-np.log(each[np.arange(len(y)), y]) for each in (p, q)]
    return losses[0], losses[1], logits[0].argmax(1) != logits[1].argmax(1), rel_entr(p, q).sum(1)


def test_against_numpy_with_one_pass_per_model(pair: tuple[Counted, Counted], batches: list[Any]) -> None:
    original, candidate, flips, kl = reference(pair, batches)
    before = copy.deepcopy(pair[0].state_dict())
    found = compare(*pair, cross_entropy, iter(batches))
    np.testing.assert_allclose(found.original, original, rtol=1e-5)
    np.testing.assert_allclose(found.compressed, candidate, rtol=1e-5)
    assert found.changed is not None
    assert found.kl is not None
    np.testing.assert_array_equal(found.changed, flips)
    np.testing.assert_allclose(found.kl, kl, rtol=1e-4, atol=1e-9)
    assert 0 < found.changed.mean() < 1
    for model in pair:
        assert model.calls == len(batches)
        assert all(module.training for module in model.modules())
        assert not model._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in pair[0].state_dict().items())


def direct(model: Counted, batch: Any) -> Tensor:
    return F.cross_entropy(model.linear(model.norm(batch[0])), batch[1], reduction="none")


def twice(model: Counted, batch: Any) -> Tensor:
    return 0.5 * (cross_entropy(model, batch) + cross_entropy(model, batch))


@pytest.mark.parametrize(("loss", "calls"), [(direct, 1), (twice, 3)])
def test_outputs_by_a_further_pass(pair: Any, batches: list[Any], loss: Any, calls: int) -> None:
    expected = compare(*pair, cross_entropy, batches)
    for model in pair:
        model.calls = 0
    found = compare(*pair, loss, batches)
    np.testing.assert_allclose(found.original, expected.original, rtol=1e-6)
    np.testing.assert_allclose(found.kl, expected.kl, rtol=1e-6)  # type: ignore[arg-type]
    assert pair[0].calls == pair[1].calls == calls * len(batches)


def test_own_forward_gives_the_outputs(pair: Any, batches: list[Any]) -> None:
    found = compare(*pair, cross_entropy, batches, forward=lambda model, batch: model(batch[0])[:, :2])
    full = compare(*pair, cross_entropy, batches)
    assert found.kl is not None
    assert not np.allclose(found.kl, full.kl)  # type: ignore[arg-type]


@pytest.mark.parametrize("distill", ["mse", "cosine"])
def test_outputs_that_are_no_logits_are_left_out(pair: Any, batches: list[Any], distill: str) -> None:
    found = compare(*pair, cross_entropy, batches, distill=distill)
    assert found.changed is None
    assert found.kl is None
    assert pair[0].calls == len(batches)


def test_regression_outputs_have_no_classes() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    found = compare(model, model, lambda m, b: m(b).square()[:, 0], [torch.randn(10, 3)])
    assert found.changed is None
    np.testing.assert_array_equal(found.original, found.compressed)


def test_positions_are_averaged() -> None:
    """(B, T, K) logits: shares of positions that changed, against a loop over positions."""
    torch.manual_seed(0)
    a, b = torch.randn(7, 4, 5), torch.randn(7, 4, 5)
    changed, kl = contrast(a, b)
    single = [contrast(a[:, t], b[:, t]) for t in range(4)]
    torch.testing.assert_close(changed, sum(each[0] for each in single) / 4)
    torch.testing.assert_close(kl, sum(each[1] for each in single) / 4)


def test_masked_classes_and_equal_outputs_have_no_divergence() -> None:
    logits = torch.tensor([[0.5, -torch.inf, 2.0], [1e4, 0.0, -1e4]])
    changed, kl = contrast(logits, logits.clone())
    assert changed.tolist() == [0, 0]
    assert kl.tolist() == [0, 0]


def test_large_outputs_are_contrasted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = torch.randn(20, 3, 5), torch.randn(20, 3, 5)
    whole = contrast(a, b)
    monkeypatch.setattr("noworse.judge.compare.CHUNK", 40)
    for part, expected in zip(contrast(a, b), whole, strict=True):
        torch.testing.assert_close(part, expected)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda m, b: F.cross_entropy(m(b[0]), b[1]), "single number: expected one loss per sample, shape \\(16,\\)"),
        (lambda m, b: m(b[0]), "shape \\(16, 5\\): expected one loss per sample"),
        (lambda m, b: m(b[0])[:3, 0], "shape \\(3,\\)"),
        (lambda m, b: 0.3, "is float"),
        (lambda m, b: cross_entropy(m, b) * torch.nan, "NaN or infinite for 16 of 16"),
        (lambda m, b: torch.where(b[1] == b[1][0], torch.inf, 0.0), "original model in batch 0 is NaN or infinite"),
        (lambda m, b: cross_entropy(m, b) + 0j, "complex64"),
    ],
)
def test_losses_that_cannot_be_used(pair: Any, batches: list[Any], loss: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        compare(*pair, loss, batches)
    assert pair[0].training
    assert not pair[0]._forward_hooks


def test_broken_candidate_is_named(pair: Any, batches: list[Any]) -> None:
    with torch.no_grad():
        pair[1].linear.bias[0] = torch.nan
    with pytest.raises(BadInput, match="loss of the compressed model in batch 0 is NaN"):
        compare(*pair, cross_entropy, batches)


class Headless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 5)

    def forward(self, x: Tensor, extra: Tensor) -> Tensor:
        raise NotImplementedError


def test_model_that_only_the_loss_can_call(batches: list[Any]) -> None:
    def loss(model: Any, batch: Any) -> Tensor:
        return F.cross_entropy(model.body(batch[0]), batch[1], reduction="none")

    model = Headless()
    with pytest.raises(BadInput, match=r"expected forward=, or distill='mse'"):
        compare(model, model, loss, batches)
    found = compare(model, model, loss, batches, forward=lambda m, b: m.body(b[0]))
    assert found.kl is not None
    assert not found.kl.any()
