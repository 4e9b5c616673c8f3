from __future__ import annotations

from itertools import islice

import pytest
import torch
from torch import Tensor

from noworse.task.data import Batch
from noworse.tune.sampling import Sampler

RAGGED = [torch.full((4, length), float(length)) for length in (3, 5, 7)]


def samples(count: int) -> Tensor:
    return torch.arange(count, dtype=torch.float32).view(count, 1)


def draw(sampler: Sampler, count: int) -> list[Tensor]:
    return [batch for batch, _ in islice(sampler, count) if isinstance(batch, Tensor)]


@pytest.mark.parametrize("given", [[samples(48)], list(samples(48).split(7))])
def test_a_pass_draws_every_sample_once(given: list[Batch]) -> None:
    sampler = Sampler(given, 12, seed=0)
    first, second = draw(sampler, 4), draw(sampler, 4)
    for one_pass in (first, second):
        assert sorted(torch.cat(one_pass).flatten().tolist()) == list(range(48))
    assert not torch.equal(torch.cat(first), torch.cat(second)), "each pass has an order of its own"


def test_batches_are_all_of_the_size_asked_for() -> None:
    sampler = Sampler([samples(50)], 12, seed=0)
    assert {len(batch) for batch in draw(sampler, 20)} == {12}
    assert set(torch.cat(draw(sampler, 40)).flatten().tolist()) == set(range(50)), "what a pass left out comes later"


def test_fewer_samples_than_a_batch() -> None:
    assert [len(batch) for batch in draw(Sampler([samples(5)], 64, seed=0), 3)] == [5, 5, 5]


def test_order_is_a_function_of_the_seed_alone() -> None:
    def order(seed: int) -> Tensor:
        torch.rand(3)  # the global generator must not matter
        return torch.cat(draw(Sampler([samples(40)], 10, seed), 8))

    assert torch.equal(order(3), order(3))
    assert not torch.equal(order(3), order(4))


@pytest.mark.parametrize("given", [[samples(300)], [samples(300)[:100], samples(300)[100:]]])
def test_remembered_outputs_belong_to_their_samples(given: list[Batch]) -> None:
    sampler = Sampler(given, 16, seed=0)
    sizes: list[int] = []

    def run(batch: Batch) -> Tensor:
        assert isinstance(batch, Tensor)
        sizes.append(len(batch))
        return torch.cat([2 * batch, 3 * batch], 1)

    sampler.remember(run)
    assert max(sizes) == sampler.at_a_time() == 256
    for batch, outputs in islice(sampler, 40):
        assert torch.equal(outputs, torch.cat([2 * batch, 3 * batch], 1))


@pytest.mark.parametrize(("side", "expected"), [(28, 256), (224, 6), (2000, 1)])
def test_few_large_samples_are_evaluated_together(side: int, expected: int) -> None:
    images = torch.empty(1, 3, side, side).expand(300, -1, -1, -1)
    sampler = Sampler([images], 16, seed=0) if side < 100 else Sampler([images[:2], images[:1, :, 1:]], 16, seed=0)
    assert sampler.at_a_time() == expected


def test_nothing_is_remembered_unless_asked() -> None:
    assert next(iter(Sampler([samples(20)], 4, seed=0)))[1] is None


def test_sequences_of_different_lengths_come_in_their_own_batches() -> None:
    sampler = Sampler(RAGGED, 64, seed=0)
    sampler.remember(lambda batch: 10 * batch[:, :1])
    seen = list(islice(sampler, 6))
    for one_pass in (seen[:3], seen[3:]):
        assert sorted(batch.shape[1] for batch, _ in one_pass) == [3, 5, 7]
    for batch, outputs in seen:
        assert torch.equal(outputs, 10 * batch[:, :1])


def test_tuples_and_dicts_keep_their_kind_and_their_rows_together() -> None:
    pairs = Sampler([(samples(20), -samples(20)), (samples(8) + 20, -samples(8) - 20)], 7, seed=0)
    for batch, _ in islice(pairs, 4):
        assert isinstance(batch, tuple)
        assert torch.equal(batch[0], -batch[1])
    mapping = Sampler([{"x": samples(20), "y": -samples(20)}], 7, seed=0)
    for batch, _ in islice(mapping, 4):
        assert torch.equal(batch["x"], -batch["y"])


@pytest.mark.parametrize("sizes", [[20], [7, 7, 6], [1] * 20])
def test_how_samples_are_batched_does_not_matter(sizes: list[int]) -> None:
    whole = samples(20)
    sampler = Sampler([(part, -part) for part in whole.split(sizes)], 6, seed=0)
    expected = Sampler([(whole, -whole)], 6, seed=0)
    for (batch, _), (other, _) in islice(zip(sampler, expected, strict=True), 9):
        assert all(torch.equal(a, b) for a, b in zip(batch, other, strict=True))
    assert torch.equal(sampler.first(9)[0], whole[:9])  # type: ignore[index]
    assert torch.equal(sampler.first(99)[1], -whole)  # type: ignore[index]


def test_first_samples_of_batches_that_cannot_be_joined() -> None:
    assert torch.equal(Sampler(RAGGED, 64, seed=0).first(3), RAGGED[0][:3])  # type: ignore[arg-type]
