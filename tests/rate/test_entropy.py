import math

import pytest
import torch

from noworse.rate.entropy import entropy_bits


def test_known_entropies() -> None:
    assert entropy_bits(torch.tensor([4, 4, 4, 4])).item() == pytest.approx(16 * 2)
    assert entropy_bits(torch.tensor([7, 0])).item() == 0
    assert entropy_bits(torch.tensor([1.0, 3.0])).item() == pytest.approx(2 + 3 * math.log2(4 / 3))


def test_rows_are_independent() -> None:
    counts = torch.randint(0, 50, (3, 8))
    rows = torch.stack([entropy_bits(row) for row in counts])
    assert torch.allclose(entropy_bits(counts), rows)
