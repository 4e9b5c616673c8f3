import pytest
import torch
from torch.nn import functional as F

from noworse.distill import Distiller
from noworse.errors import BadInput


def test_kl_against_torch_per_sample_and_over_positions() -> None:
    p, q = torch.randn(4, 7, 5), torch.randn(4, 7, 5)
    expected = F.kl_div(F.log_softmax(q, -1), F.log_softmax(p, -1), reduction="none", log_target=True).sum(-1).mean(1)
    assert torch.allclose(Distiller("kl")(q, p), expected, atol=1e-6)
    assert torch.allclose(Distiller("kl")(p, p), torch.zeros(4), atol=1e-6)


@pytest.mark.parametrize("kind", ["mse", "cosine"])
def test_others_are_zero_at_the_original_only(kind: str) -> None:
    p = torch.randn(4, 6)
    losses = Distiller(kind, 2.0)(p + 0.1 * torch.randn(4, 6), p)
    assert losses.shape == (4,)
    assert (losses > 1e-4).all()
    assert Distiller(kind)(p, p).abs().max() < 1e-6


def test_unknown_kind() -> None:
    with pytest.raises(BadInput, match=r"'l1'.*kl, mse, cosine"):
        Distiller("l1")
