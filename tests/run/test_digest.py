"""Digests differ with any name, shape, dtype or element, and with nothing else."""

from __future__ import annotations

import torch

from noworse.run.digest import content, digest, of_batches, of_module
from tests.tiny import mlp


def test_everything_of_a_tensor_counts() -> None:
    x = torch.arange(6.0).view(2, 3)
    others = [("y", x), ("x", x.view(3, 2)), ("x", x.int()), ("x", -x)]
    digests = {digest([("x", x)]), digest([("x", x)], "text"), *(digest([other]) for other in others)}
    assert len(digests) == 6
    assert digest([("x", x.t().contiguous().t())]) == digest([("x", x)])


def test_contents_are_the_elements_in_their_order() -> None:
    x = torch.arange(6, dtype=torch.int16).view(2, 3)
    assert bytes(content(x.t())) == x.t().contiguous().numpy().tobytes()
    assert len(content(torch.zeros(0, 4))) == 0
    assert len(content(torch.zeros(3, dtype=torch.bfloat16))) == 6


def test_of_models_and_of_batches() -> None:
    assert of_module(mlp()) == of_module(mlp())
    changed = mlp()
    with torch.no_grad():
        changed[0].bias[0] += 1e-6  # type: ignore[index, operator]
    assert of_module(changed) != of_module(mlp())
    first, second = torch.zeros(2), torch.ones(2)
    assert of_batches([first, second]) == of_batches([first.clone(), second]) != of_batches([second, first])
