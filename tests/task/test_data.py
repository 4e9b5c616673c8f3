from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from noworse.errors import BadInput
from noworse.task import data

Pair = namedtuple("Pair", "x y")


def batch_of(kind: str, count: int, start: int = 0) -> Any:
    x = torch.arange(start, start + count * 3, dtype=torch.float32).reshape(count, 3)
    y = torch.arange(start, start + count)
    kinds = {"tensor": x, "tuple": (x, y), "list": [x, y], "named": Pair(x, y), "dict": {"x": x, "labels": y}}
    return kinds[kind]


KINDS = ["tensor", "tuple", "list", "named", "dict"]


class Doubler(nn.Module):
    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(2 * x)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_leave_the_labels_out(kind: str) -> None:
    batch = batch_of(kind, 4)
    given_inputs = data.inputs(batch)
    if kind == "dict":
        assert isinstance(given_inputs, dict)
        assert list(given_inputs) == ["x"]
        given_inputs = given_inputs["x"]
    assert torch.equal(given_inputs, batch_of("tensor", 4))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: y,
        lambda y: (y, y + 1),
        lambda y: [y],
        lambda y: {"loss": y.sum(), "logits": y},
        lambda y: {"hidden": "no tensor", "only": y},
        lambda y: SimpleNamespace(logits=y),
    ],
)
def test_forward_finds_the_output(kind: str, wrap: Any) -> None:
    output = data.forward(Doubler(wrap), batch_of(kind, 4))
    assert torch.equal(output, 2 * batch_of("tensor", 4))


@pytest.mark.parametrize("result", [None, "text", (), {"a": 1}, SimpleNamespace(value=1)])
def test_forward_without_a_tensor(result: Any) -> None:
    with pytest.raises(BadInput, match=f"model returned {type(result).__name__}"):
        data.forward(Doubler(lambda y: result), batch_of("tensor", 2))


def test_of_several_tensors_by_name_none_is_taken_for_the_logits() -> None:
    with pytest.raises(BadInput, match=r"returned dict of hidden, pred: expected .*logits, or a forward="):
        data.forward(Doubler(lambda y: {"hidden": y, "pred": y}), batch_of("tensor", 2))


@pytest.mark.parametrize("kind", KINDS)
def test_select_concatenate_and_size(kind: str) -> None:
    parts = [batch_of(kind, 2), batch_of(kind, 3, start=6)]
    whole = data.concatenate(parts)
    assert type(whole) is type(parts[0])
    assert data.batch_size(whole) == 5
    rows = torch.tensor([4, 0])
    picked = data.select(whole, rows)
    assert type(picked) is type(parts[0])
    for leaf, source in zip(data.leaves(picked), data.leaves(whole), strict=True):
        assert torch.equal(leaf, source[rows])
    assert torch.equal(data.leaves(data.select(whole, slice(2, 5)))[0], data.leaves(parts[1])[0])


@pytest.mark.parametrize(
    "batches",
    [
        [],
        [torch.zeros(2, 3), torch.zeros(2, 4)],
        [torch.zeros(2, 3), (torch.zeros(2, 3),)],
        [{"a": torch.zeros(2)}, {"b": torch.zeros(2)}],
        [torch.zeros(2), torch.zeros(2, dtype=torch.int64)],
    ],
)
def test_batches_that_cannot_be_joined(batches: list[Any]) -> None:
    assert not data.joinable(batches)
    with pytest.raises(BadInput):
        data.concatenate(batches)


def test_to_float32_keeps_the_kind() -> None:
    batch = {"x": torch.zeros(2, 3, dtype=torch.float64), "labels": torch.zeros(2, dtype=torch.int64)}
    moved = data.apply(batch, lambda tensor: tensor.to("meta"))
    assert {tensor.device.type for tensor in data.leaves(moved)} == {"meta"}
    assert [tensor.dtype for tensor in data.leaves(data.to_float32(batch))] == [torch.float32, torch.int64]


@given(st.integers(2, 60), st.integers(1, 20), st.floats(0, 1), st.integers(0, 5))
def test_split_keeps_every_sample_once(count: int, size: int, share: float, seed: int) -> None:
    batches: list[data.Batch] = list(torch.arange(count).split(size))
    first, second = data.split(batches, share, seed)
    joined = [torch.cat([tensor for batch in part for tensor in data.leaves(batch)]) for part in (first, second)]
    assert sorted(torch.cat(joined).tolist()) == list(range(count))
    assert 1 <= len(joined[1]) <= count - 1
    assert abs(len(joined[1]) - share * count) <= 1
    assert all(data.batch_size(batch) <= size for batch in first + second)
    again = data.split(batches, share, seed)
    assert all(torch.equal(a, b) for a, b in zip(first, again[0], strict=True))  # type: ignore[arg-type]


def test_split_of_sequences_of_different_lengths_moves_whole_batches() -> None:
    batches: list[data.Batch] = [torch.full((4, length), length) for length in range(1, 11)]
    first, second = data.split(batches, 0.3, 0)
    assert len(second) == 3
    assert sorted(int(data.leaves(batch)[0][0, 0]) for batch in first + second) == list(range(1, 11))
    with pytest.raises(BadInput, match="cannot be split"):
        data.split([torch.zeros(1, 3)], 0.5, 0)


def test_materialise_reads_iterators_and_loaders() -> None:
    assert len(data.materialise((batch_of("tuple", 2) for _ in range(3)), "calib", 6)) == 3
    loader = DataLoader(TensorDataset(torch.zeros(10, 3), torch.zeros(10)), batch_size=4)
    assert sum(map(data.batch_size, data.materialise(loader, "calib", 10))) == 10


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "calib is empty: expected at least 16"),
        ([torch.zeros(1, 2)], "calib holds 1 sample: expected at least 16"),
        ([torch.zeros(15, 2)], "calib holds 15 samples: expected at least 16"),
        (torch.zeros(100, 2), "calib is one Tensor"),
        ({"x": torch.zeros(100, 2)}, "calib is one dict"),
        (TensorDataset(torch.zeros(100, 2)), "calib is one TensorDataset"),
        (None, "calib is one NoneType"),
        ([torch.zeros(20, 2), "text"], "calib batch 1 is str"),
        ([(torch.zeros(20, 2), [1, 2])], r"calib batch 0\[1\] is list"),
        ([{"x": torch.zeros(20), "id": "a"}], r"calib batch 0\['id'\] is str"),
        ([(torch.zeros(20, 2), torch.tensor(3))], r"calib batch 0\[1\] is a 0-dimensional"),
        ([()], "calib batch 0 is an empty tuple"),
        ([torch.zeros(20, 2), torch.zeros(0, 2)], "calib batch 1 holds no samples"),
        ([(torch.zeros(20, 2), torch.zeros(19))], r"disagree .*: 20 in \[0\], 19 in \[1\]"),
        ((torch.zeros(20, 2), torch.zeros(20, dtype=torch.int64)), "calib batch 1 differs from batch 0"),
    ],
)
def test_what_is_no_data_is_named(batches: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        data.materialise(batches, "calib", 16)


@given(st.integers(1, 30), st.integers(0, 30), st.sampled_from(KINDS), st.integers(1, 7))
def test_shared_samples_are_counted(own: int, shared: int, kind: str, size: int) -> None:
    """Verify holds ``own`` new samples and ``shared`` ones of calib, with labels that differ."""
    whole = batch_of(kind, 30 + own)
    calib = [data.select(whole, slice(start, min(start + size, 30))) for start in range(0, 30, size)]
    rows = torch.cat([torch.arange(30 - shared, 30), torch.arange(30, 30 + own)])
    verify = data.select(whole, rows)
    if kind == "tuple":
        verify = (data.leaves(verify)[0], torch.zeros(len(rows)))
    assert data.shared_samples(calib, [verify]) == shared


def test_padding_does_not_hide_a_shared_text() -> None:
    short, long = torch.tensor([[5, 6, 0], [5, 6, 7]]), torch.tensor([[5, 6, 0, 0, 0], [5, 6, 7, 8, 0]])
    masks = [(tokens > 0).long() for tokens in (short, long)]
    calib, verify = ({"input_ids": t, "attention_mask": m} for t, m in zip((short, long), masks, strict=True))
    assert data.shared_samples([calib], [verify]) == 1
    assert data.shared_samples([short.float()], [long.float()]) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.float64, torch.uint8])
def test_samples_of_any_type_are_compared_bit_for_bit(dtype: torch.dtype) -> None:
    values = torch.arange(24).reshape(6, 2, 2) % 5 % 2
    batch = values.to(dtype)
    assert data.shared_samples([batch], [batch.clone()]) == 6
    assert data.shared_samples([batch], [1 - values[:1].to(torch.int32)]) == 0
    assert data.shared_samples([batch.transpose(1, 2).contiguous().transpose(1, 2)], [batch]) == 6


def test_minus_zero_is_not_zero_but_the_same_bits_are_shared() -> None:
    assert data.shared_samples([torch.tensor([[0.0]])], [torch.tensor([[-0.0]])]) == 0
    assert data.shared_samples([torch.zeros(3)], [torch.zeros(5)]) == 5


def test_what_judges_shares_nothing_with_what_chooses() -> None:
    calib, verify = data.disjoint([batch_of("tuple", 20)], [batch_of("tuple", 30, start=100)])
    assert (data.batch_size(calib[0]), data.batch_size(verify[0])) == (20, 30)
    with pytest.raises(BadInput, match="10 samples of verify are in calib too"):
        data.disjoint([batch_of("tuple", 20)], [batch_of("tuple", 40, start=10 * 3)])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 40), st.integers(1, 5))
def test_first_samples_come_in_order_and_few_at_a_time(sizes: list[int], count: int, most: int) -> None:
    batches = list(torch.arange(sum(sizes)).split(sizes))
    found = list(data.first_samples(batches, count, most))
    assert all(1 <= len(part) <= most for part in found)
    torch.testing.assert_close(torch.cat(found), torch.arange(sum(map(len, found))))
    assert min(count, sum(sizes)) <= sum(map(len, found)) < count + most
