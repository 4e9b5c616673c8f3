from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.judge.replay import remembering
from noworse.judge.verify import verify_module
from noworse.task.task import Task


class Counted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 5)
        self.norm = nn.BatchNorm1d(5)
        self.calls: list[int] = []

    def forward(self, x: Tensor, scale: float = 1.0, mask: Tensor | None = None) -> Tensor:
        self.calls.append(len(x))
        result: Tensor = self.norm(self.linear(x)) * scale
        return result if mask is None else result * mask


@pytest.fixture
def net() -> Counted:
    torch.manual_seed(0)
    return Counted().eval()


@torch.no_grad()
def test_same_call_costs_one_pass_and_gives_the_same_result(net: Counted) -> None:
    twin, x = remembering(net), torch.randn(4, 6)
    first = twin(x)
    assert twin(x) is first
    torch.testing.assert_close(first, net(x), rtol=0, atol=0)
    assert len(net.calls) == 2  # the twin's, and the model's own
    assert isinstance(twin, Counted)
    assert type(twin).__name__ == "Counted"
    assert type(net) is Counted


def changed_input(twin: Counted, x: Tensor) -> Tensor:
    return twin(x.add_(1))


def changed_weight(twin: Counted, x: Tensor) -> Tensor:
    twin.linear.weight.data = twin.linear.weight + 1
    return twin(x)


def changed_buffer(twin: Counted, x: Tensor) -> Tensor:
    assert twin.norm.running_mean is not None
    twin.norm.running_mean += 1
    return twin(x)


def other_weights(twin: Counted, x: Tensor) -> Tensor:
    result: Tensor = torch.func.functional_call(twin, {"linear.bias": torch.ones(5)}, (x,))
    return result


def training(twin: Counted, x: Tensor) -> Tensor:
    twin.norm.train()
    return twin(x)


def mixed(twin: Counted, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return twin(x)


CHANGES: list[Any] = [
    changed_input, changed_weight, changed_buffer, other_weights, training, mixed,
    lambda twin, x: twin(x, 2.0), lambda twin, x: twin(x, scale=2.0), lambda twin, x: twin(x, mask=torch.zeros(5)),
    lambda twin, x: twin(x.clone() + 1), lambda twin, x: twin(x[:2]),
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_another_call_is_no_replay(net: Counted, change: Any) -> None:
    twin, x = remembering(net), torch.randn(4, 6)
    before = twin(x).clone()
    found = change(twin, x)
    assert len(net.calls) == 2
    assert found.shape != before.shape or not torch.equal(found, before)


@torch.no_grad()
def test_results_that_the_caller_changed_are_made_again(net: Counted) -> None:
    twin, x = remembering(net), torch.randn(4, 6)
    expected = twin(x).clone()
    twin(x).mul_(2)
    torch.testing.assert_close(twin(x), expected, rtol=0, atol=0)
    assert len(net.calls) == 2
    twin(x)
    assert len(net.calls) == 2


def test_gradients_are_never_replayed(net: Counted) -> None:
    twin, x = remembering(net), torch.randn(4, 6)
    for _ in range(2):
        assert twin(x).requires_grad
    assert len(net.calls) == 2


@torch.no_grad()
def test_memory_is_bounded_and_arguments_are_not_kept_alive(net: Counted) -> None:
    twin, inputs = remembering(net, 200), [torch.randn(4, 6) for _ in range(4)]  # 80 bytes of results each
    for x in (*inputs, *inputs):
        twin(x)
    assert len(net.calls) == 6  # two of the four were kept
    net.calls.clear()
    del inputs[0], x
    twin(inputs[2])  # takes the place of what went
    twin(inputs[2])
    assert len(net.calls) == 1


class Structured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = torch.zeros(0).tolist()

    def forward(self, **columns: Any) -> Any:
        self.calls.append(1)
        return OrderedDict(logits=columns["x"] + 1, hidden=(columns["x"],))


@torch.no_grad()
def test_mappings_are_remembered_and_unknown_arguments_are_not() -> None:
    net, x = Structured(), torch.ones(3, 2)
    twin = remembering(net)
    assert twin(x=x, n=1) is twin(x=x, n=1)
    assert len(net.calls) == 1
    twin(x=x, more=[x])
    twin(x=x, more=[x])
    assert len(net.calls) == 3


def test_twins_and_scripts_stay_as_they_are(net: Counted) -> None:
    twin = remembering(net)
    assert remembering(twin) is twin
    script = torch.jit.script(nn.Linear(2, 2))
    assert remembering(script) is script


def accuracy(model: nn.Module, batches: Any) -> float:
    with torch.no_grad():
        return sum(float((model(x).argmax(1) == y).sum()) for x, y in batches)


def loss(model: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def test_judging_passes_each_model_over_the_data_once(net: Counted) -> None:
    candidate = copy.deepcopy(net)
    with torch.no_grad():
        candidate.linear.weight += 0.1
    batches = [(torch.randn(20, 6), torch.randint(0, 5, (20,))) for _ in range(3)]
    task = Task(net, loss, (), batches, metric=accuracy)
    verdict = verify_module(candidate, task, batches)
    assert net.calls == candidate.calls == [20] * 3
    assert verdict.metric_original == accuracy(net, batches)
    assert verdict.metric_compressed == accuracy(candidate, batches)
    known = task.remembering()
    first = verify_module(candidate, known, batches)
    net.calls.clear()
    assert verify_module(candidate, known, batches) == first == verdict
    assert not net.calls


class Neighbours(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("graph", torch.eye(4).to_sparse())
        self.calls = 0

    def forward(self, x: Tensor, sparse: bool = False) -> Tensor:
        self.calls += 1
        found: Tensor = torch.sparse.mm(self.get_buffer("graph"), x)
        return found.to_sparse() if sparse else found


@torch.no_grad()
def test_sparse_tensors_are_never_remembered() -> None:
    twin, x = remembering(Neighbours()), torch.randn(4, 6)
    for _ in range(2):
        torch.testing.assert_close(twin(x), x)
    assert twin.calls == 2
    dense = remembering(nn.Linear(6, 5))
    assert dense(x.to_sparse()).shape == (4, 5)


class Thinned(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu().to_sparse()


@torch.no_grad()
def test_sparse_results_are_made_again() -> None:
    twin, x = remembering(Thinned(6, 5)), torch.randn(4, 6)
    first = twin(x)
    assert twin(x) is not first
    torch.testing.assert_close(twin(x).to_dense(), first.to_dense())
