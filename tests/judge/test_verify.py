from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.errors import BadInput, CorruptFile, MismatchedModule
from noworse.io import save_file
from noworse.judge.verdict import judge
from noworse.judge.verify import compare, contrast, verify, verify_task
from noworse.task.task import Task


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
def held_out() -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(50, 6, generator=generator), torch.randint(0, 5, (50,), generator=generator)
    return list(zip(x.split(16), y.split(16), strict=True))


def reference(models: tuple[nn.Module, ...], held_out: list[Any]) -> tuple[Any, ...]:
    """Losses, flips, divergences and acceptance by NumPy and SciPy from logits in eval mode."""
    x, y = (torch.cat(column) for column in zip(*held_out, strict=True))
    logits = [copy.deepcopy(model).eval()(x).detach().double().numpy() for model in models]
    p, q = (softmax(each, axis=-1) for each in logits)
    losses = [-np.log(each[np.arange(len(y)), y]) for each in (p, q)]
    flips = logits[0].argmax(1) != logits[1].argmax(1)
    return losses[0], losses[1], flips, rel_entr(p, q).sum(1), np.minimum(p, q).sum(1)


def test_against_numpy_with_one_pass_per_model(pair: tuple[Counted, Counted], held_out: list[Any]) -> None:
    original, candidate, flips, kl, ear = reference(pair, held_out)
    before = copy.deepcopy(pair[0].state_dict())
    found = compare(*pair, cross_entropy, iter(held_out))
    np.testing.assert_allclose(found.original, original, rtol=1e-5)
    np.testing.assert_allclose(found.compressed, candidate, rtol=1e-5)
    assert found.changed is not None
    assert found.kl is not None
    np.testing.assert_array_equal(found.changed, flips)
    np.testing.assert_allclose(found.kl, kl, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(found.ear, ear, rtol=1e-5)  # type: ignore[arg-type]
    assert 0 < ear.min() < ear.max() < 1
    assert 0 < found.changed.mean() < 1
    for model in pair:
        assert model.calls == len(held_out)
        assert all(module.training for module in model.modules())
        assert not model._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in pair[0].state_dict().items())


def direct(model: Counted, batch: Any) -> Tensor:
    return F.cross_entropy(model.linear(model.norm(batch[0])), batch[1], reduction="none")


def twice(model: Counted, batch: Any) -> Tensor:
    return 0.5 * (cross_entropy(model, batch) + cross_entropy(model, batch))


@pytest.mark.parametrize(("loss", "calls"), [(direct, 1), (twice, 3)])
def test_outputs_by_a_further_pass(pair: Any, held_out: list[Any], loss: Any, calls: int) -> None:
    expected = compare(*pair, cross_entropy, held_out)
    for model in pair:
        model.calls = 0
    found = compare(*pair, loss, held_out)
    np.testing.assert_allclose(found.original, expected.original, rtol=1e-6)
    np.testing.assert_allclose(found.kl, expected.kl, rtol=1e-6)  # type: ignore[arg-type]
    assert pair[0].calls == pair[1].calls == calls * len(held_out)


def test_own_forward_gives_the_outputs(pair: Any, held_out: list[Any]) -> None:
    found = compare(*pair, cross_entropy, held_out, forward=lambda model, batch: model(batch[0])[:, :2])
    full = compare(*pair, cross_entropy, held_out)
    assert found.kl is not None
    assert not np.allclose(found.kl, full.kl)  # type: ignore[arg-type]


@pytest.mark.parametrize("distill", ["mse", "cosine"])
def test_outputs_that_are_no_logits_are_left_out(pair: Any, held_out: list[Any], distill: str) -> None:
    found = compare(*pair, cross_entropy, held_out, distill=distill)
    assert found.changed is None
    assert found.kl is None
    assert found.ear is None
    assert pair[0].calls == len(held_out)


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
    found = contrast(a, b)
    single = [contrast(a[:, t], b[:, t]) for t in range(4)]
    for k in range(3):
        torch.testing.assert_close(found[k], sum(each[k] for each in single) / 4)


def test_acceptance_is_what_speculative_sampling_accepts() -> None:
    """Against the sum over draws from one model of the chance that the other takes them, in plain floats."""
    torch.manual_seed(0)
    a, b = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    expected = []
    for sample in zip(a.double().tolist(), b.double().tolist(), strict=True):
        accepted = 0.0
        for logits in zip(*sample, strict=True):
            p, q = ([math.exp(x) / math.fsum(map(math.exp, z)) for x in z] for z in logits)
            accepted += sum(qk * min(1.0, pk / qk) for pk, qk in zip(p, q, strict=True))
        expected.append(accepted / 2)
    assert contrast(a, b)[2].tolist() == pytest.approx(expected, abs=1e-12)


def test_masked_classes_and_equal_outputs_have_no_divergence() -> None:
    logits = torch.tensor([[0.5, -torch.inf, 2.0], [1e4, 0.0, -1e4]])
    changed, kl, ear = contrast(logits, logits.clone())
    assert changed.tolist() == [0, 0]
    assert kl.tolist() == [0, 0]
    assert ear.tolist() == pytest.approx([1, 1], abs=1e-15)


def test_large_outputs_are_contrasted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = torch.randn(20, 3, 5), torch.randn(20, 3, 5)
    whole = contrast(a, b)
    monkeypatch.setattr("noworse.judge.verify.CHUNK", 40)
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
def test_losses_that_cannot_be_used(pair: Any, held_out: list[Any], loss: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        compare(*pair, loss, held_out)
    assert pair[0].training
    assert not pair[0]._forward_hooks


def test_broken_candidate_is_named(pair: Any, held_out: list[Any]) -> None:
    with torch.no_grad():
        pair[1].linear.bias[0] = torch.nan
    with pytest.raises(BadInput, match="loss of the compressed model in batch 0 is NaN"):
        compare(*pair, cross_entropy, held_out)


class Headless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 5)

    def forward(self, x: Tensor, extra: Tensor) -> Tensor:
        raise NotImplementedError


def test_model_that_only_the_loss_can_call(held_out: list[Any]) -> None:
    def loss(model: Any, batch: Any) -> Tensor:
        return F.cross_entropy(model.body(batch[0]), batch[1], reduction="none")

    model = Headless()
    with pytest.raises(BadInput, match=r"expected forward=, or distill='mse'"):
        compare(model, model, loss, held_out)
    found = compare(model, model, loss, held_out, forward=lambda m, b: m.body(b[0]))
    assert found.kl is not None
    assert not found.kl.any()


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def accuracy(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    assert not model.training
    hits = [(model(x).argmax(1) == y).float() for x, y in batches]
    return float(torch.cat(hits).mean())


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 4))


@pytest.fixture
def batches() -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(600, 8, generator=generator)
    model = net().eval()
    y = (3 * model(x)).softmax(1).multinomial(1, generator=generator)[:, 0]
    return list(zip(x.split(128), y.split(128), strict=True))


def saved(path: Path, noise: float, model: nn.Module | None = None) -> tuple[Path, nn.Module]:
    candidate = copy.deepcopy(model or net())
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in candidate.parameters():
            parameter += noise * torch.randn(parameter.shape, generator=generator)
    save_file(candidate.state_dict(), path)
    return path, candidate


def test_verdict_is_that_of_the_written_file(tmp_path: Path, batches: list[Any]) -> None:
    model = net().train()
    state = copy.deepcopy(model.state_dict())
    path, candidate = saved(tmp_path / "x.nwt", 0.05)
    found = verify(path, model, loss, batches, tolerance=0.05, metric=accuracy, look=2, looks=2)
    pairs = compare(model, candidate, loss, batches)
    expected = judge(pairs.original, pairs.compressed, 0.05, look=2, looks=2)
    for name in ("verdict", "samples", "mean_difference", "upper_bound", "lower_bound", "tolerance", "looks"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.samples == 600
    assert found.changed == pytest.approx(pairs.changed.mean())  # type: ignore[union-attr]
    assert found.mean_kl == pytest.approx(pairs.kl.mean())  # type: ignore[union-attr]
    assert found.ear == pytest.approx(pairs.ear.mean())  # type: ignore[union-attr]
    # that of the losses' differences, had they been these
    assert found.ear_bound == pytest.approx(judge(0 * pairs.ear, pairs.ear, 0, look=2, looks=2).lower_bound)  # type: ignore[operator,arg-type]
    assert 0.5 < found.ear_bound < found.ear < 1  # type: ignore[operator]
    assert found.metric_original == accuracy(copy.deepcopy(model).eval(), batches)
    assert found.metric_compressed == accuracy(candidate.eval(), batches)
    assert found.metric_compressed != found.metric_original
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_scores_give_the_metric_in_the_same_pass(tmp_path: Path, batches: list[Any]) -> None:
    path, candidate = saved(tmp_path / "x.nwt", 0.05)
    calls: list[int] = []

    def counted(model: nn.Module, batch: Any) -> Tensor:
        calls.append(1)
        return loss(model, batch)

    found = verify(
        path, net().eval(), counted, iter(batches), score=lambda outputs, batch: (outputs.argmax(1) == batch[1]).float()
    )
    assert found.metric_original == pytest.approx(accuracy(net().eval(), batches))
    assert found.metric_compressed == pytest.approx(accuracy(candidate.eval(), batches))
    assert len(calls) == 2 * len(batches) + 1  # the first tells whether the loss calls what it is given


def test_lossless_file_is_no_worse_and_noise_is_worse(tmp_path: Path, batches: list[Any]) -> None:
    same = verify(saved(tmp_path / "a.nwt", 0.0)[0], net(), loss, batches, tolerance=0)
    assert (same.verdict, same.mean_difference, same.changed, same.mean_kl) == ("no worse", 0.0, 0.0, 0.0)
    assert (same.ear, same.ear_bound) == pytest.approx((1, 1), abs=1e-9)
    broken = verify(saved(tmp_path / "b.nwt", 1.0)[0], net(), loss, batches)
    assert broken.verdict == "worse"
    assert broken.tolerance == pytest.approx(0.01 * broken.original_loss)
    assert broken.changed is not None
    assert broken.changed > 0.2


def test_one_shot_data_and_a_task(tmp_path: Path, batches: list[Any]) -> None:
    path, _ = saved(tmp_path / "x.nwt", 0.05)
    listed = verify(path, net(), loss, batches, metric=accuracy)
    assert verify(path, net(), loss, iter(batches), metric=accuracy) == listed
    task = Task(net(), loss, [], batches, metric=accuracy)
    assert verify_task(path, task) == listed
    plain = verify(path, net(), loss, iter(batches), distill="mse")
    assert (plain.changed, plain.mean_kl, plain.ear, plain.ear_bound, plain.metric_original) == (None,) * 5
    assert plain.upper_bound == listed.upper_bound


def test_data_are_read_batch_by_batch(tmp_path: Path, batches: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than one batch may be alive: the next is produced only after both models have seen the last."""
    path, _ = saved(tmp_path / "x.nwt", 0.05)
    events: list[str] = []

    def produce() -> Iterable[Any]:
        for batch in batches:
            events.append("batch")
            yield batch

    def noting(model: nn.Module, batch: Any) -> Tensor:
        events.append("loss")
        return loss(model, batch)

    verify(path, net(), noting, produce())
    once = ["batch", "loss", "loss"]
    assert events == [*once, "loss"] + once * (len(batches) - 1)  # at first, a copy tells whether the loss calls it


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": lambda m, b: F.cross_entropy(m(b[0]), b[1])}, "single number: expected one loss per sample"),
        ({"loss": lambda m, b: loss(m, b) * torch.nan}, "NaN"),
        ({"data": []}, "verify is empty: expected at least 30 samples"),
        ({"data": [(torch.zeros(10, 8), torch.zeros(10).long())]}, "verify holds 10 samples: expected at least 30"),
        ({"data": [(torch.zeros(30, 8), torch.zeros(29).long())]}, "verify batch 0 disagree"),
        ({"data": torch.zeros(60, 8)}, "verify is one Tensor"),
        ({"tolerance": "small"}, "tolerance 'small'"),
        ({"metric": lambda m, b: "good"}, "metric returned str: expected one number"),
    ],
)
def test_bad_input_is_named(tmp_path: Path, batches: list[Any], change: dict[str, Any], message: str) -> None:
    path, _ = saved(tmp_path / "x.nwt", 0.05)
    given = {"path": path, "model": net(), "loss": loss, "data": batches, **change}
    with pytest.raises(BadInput, match=message):
        verify(**given)


def test_metric_that_is_not_finite_is_left_out(tmp_path: Path, batches: list[Any]) -> None:
    path, _ = saved(tmp_path / "x.nwt", 0.05)
    found = verify(path, net(), loss, batches, metric=lambda m, b: np.float32("nan"))
    assert (found.metric_original, found.metric_compressed) == (None, None)


def test_a_metric_that_fails_on_the_file_alone_is_a_warning(tmp_path: Path, batches: list[Any]) -> None:
    path, _ = saved(tmp_path / "x.nwt", 0.05)
    model = net()

    def metric(module: nn.Module, data: Any) -> float:
        if module is not model:
            raise RuntimeError("of all models only the original has a cache")
        return 1.0

    with pytest.warns(UserWarning, match="only the original has a cache"):
        found = verify(path, model, loss, batches, metric=metric)
    assert (found.metric_original, found.metric_compressed) == (1.0, None)
    assert found.samples == 600


def test_files_that_do_not_fit_or_are_damaged(tmp_path: Path, batches: list[Any]) -> None:
    path, _ = saved(tmp_path / "x.nwt", 0.0)
    with pytest.raises(MismatchedModule):
        verify(path, nn.Linear(8, 4), loss, batches)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(CorruptFile):
        verify(path, net(), loss, batches)
