from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from noworse.errors import BadInput
from noworse.jobs.quantize import HELD_BACK
from noworse.model.quantized import activation_ranges
from noworse.model.tensors import twin
from noworse.propose.bits.priced import Priced
from noworse.propose.bits.proposals import FULL, Proposal
from noworse.propose.bits.strategy import BitStrategy
from noworse.representation import Codebook
from noworse.survey.subject import Subject
from tests.tiny import mlp, task


@pytest.fixture(scope="module")
def net() -> Priced:
    job = task(mlp())
    return Priced(Subject(job, list(job.calib), HELD_BACK), 8)


def test_allocations_keep_to_their_bits_and_grow(net: Priced) -> None:
    chosen = net.asked(4)
    assert sum(p.bits for p in chosen) <= 4 * net.count
    numbers = [row.index(p) for row, p in zip(net.proposals, chosen, strict=True)]
    sizes = [net.choices.size(n) for n in [numbers, *net.larger(numbers, 0.05)]]
    assert all(b >= 1.05 * a for a, b in pairwise(sizes))


def test_what_is_built_has_the_chosen_weights_and_ranges(net: Priced) -> None:
    chosen = net.asked({"0": 4})
    assert [(row.weights, row.activations) for row in net.table(chosen)] == [(4, 8), (32, 8)]
    module = net.build(chosen)
    assert chosen[0].representation is not None
    assert np.array_equal(module.get_parameter("0.weight").detach().numpy(), chosen[0].representation.decode())
    assert torch.equal(module.get_parameter("2.weight"), net.teacher.get_parameter("2.weight"))
    assert set(activation_ranges(module)) == {"0", "2"}


@torch.no_grad()
def test_biases_move_only_where_that_loses_less(net: Priced, monkeypatch: pytest.MonkeyPatch) -> None:
    shifted, before = twin(net.teacher), dict(net.teacher.named_parameters())
    shifted.get_parameter("0.bias").add_(0.5)
    for name, bias in net._corrected(shifted).named_parameters():
        torch.testing.assert_close(bias, before[name], rtol=1e-4, atol=1e-5)
    batch, original, means = net._means
    wrong = {name: [mean + 3 for mean in each] for name, each in means.items()}
    monkeypatch.setitem(vars(net), "_means", (batch, original, wrong))
    kept = net._corrected(twin(net.teacher))
    assert all(torch.equal(parameter, before[name]) for name, parameter in kept.named_parameters())


def test_fisher_diagonals_are_kept_and_of_the_weights_shape(net: Priced) -> None:
    assert {name: f.shape for name, f in net.diagonals.items()} == {k: s.weight.shape for k, s in net.sites.items()}
    assert not any(p.requires_grad for p in net.teacher.parameters())


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        ({"1": 4}, "bits names 1: expected layers among 0, 2"),
        ({"0": 5}, "bits of '0' are 5: expected one of 2, 3, 4, 6, 8, 16, 32"),
        (0, "bits is 0: expected a positive number"),
        ("4", "bits is '4': expected a positive number"),
    ],
)
def test_bad_bits(net: Priced, bits: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        net.asked(bits)


class Signs(BitStrategy):
    """The first weight at two values, in a dtype and rows of one's own, or as it is; the second as it is alone."""

    def __init__(self, dtype: Any = np.float32, rows: slice = slice(None)) -> None:
        self.dtype, self.rows = dtype, rows

    def propose(self, net: Priced) -> list[list[Proposal]]:
        rows = [[Proposal(site.key, None, FULL * site.weight.numel())] for site in net.survey.sites]
        weight = net.survey.sites[0].weight.detach().numpy()[self.rows]
        values = (np.sign(weight) * abs(weight).mean()).astype(self.dtype)
        book = Codebook.from_values(values, str(values.dtype))
        return [[Proposal("0.weight", book, weight.size), *rows[0]], *rows[1:]]


def test_a_proposal_may_be_any_representation() -> None:
    """A codebook goes through costs, allocation and the file as codes on a grid do."""
    job = task(mlp())
    net = Priced(Subject(job, list(job.calib), HELD_BACK), 8, preset=f"{__name__}:SIGNS")
    first, second = net.asked((1 * 20 * 64 + FULL * 4 * 64) / net.count)
    assert (first.width, first.rounding, second.width, second.rounding) == (1, "codebook", FULL, "none")
    module = net.build([first, second])
    expected = net.sites["0.weight"].weight.detach()
    assert torch.equal(module.get_parameter("0.weight"), expected.sign() * float(expected.abs().mean()))
    assert net.choices.costs[0][0] > 0 == net.choices.costs[0][1]


@pytest.mark.parametrize(
    ("name", "message"),
    [("HALF", r"'0.weight' was proposed as float16 \(64, 20\): expected float32"), ("SHORT", r"float32 \(8, 20\): ex")],
)
def test_proposals_that_do_not_fit(name: str, message: str) -> None:
    job = task(mlp())
    with pytest.raises(BadInput, match=message):
        _ = Priced(Subject(job, list(job.calib), HELD_BACK), 8, preset=f"{__name__}:{name}").proposals


SIGNS, HALF, SHORT = Signs(), Signs(np.float16), Signs(rows=slice(8))
