import math

import pytest
import torch

from noworse.rate.entropy import code_bits, segment_entropy


def test_known_entropies() -> None:
    counts = torch.tensor([4, 4, 4, 4, 7, 0, 1, 3])
    owner = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    found = segment_entropy(counts, owner)
    assert found.tolist() == pytest.approx([16 * 2, 0, 2 + 3 * math.log2(4 / 3)])


def test_against_torch_distributions() -> None:
    counts = torch.randint(1, 50, (3, 8))
    owner = torch.arange(3).repeat_interleave(8)
    expected = torch.distributions.Categorical(counts.double()).entropy() / math.log(2) * counts.sum(1)
    assert torch.allclose(segment_entropy(counts.flatten(), owner), expected)


def test_bits_of_codes() -> None:
    assert code_bits(torch.tensor([[-3, 0, 0], [0, 5, 5]])) == pytest.approx(3 * 1 + 2 * math.log2(3) + math.log2(6))
    assert code_bits(torch.full((4, 2), -7, dtype=torch.int32)) == 0
