import pytest
import torch
from torch.nn import functional as F

from noworse.errors import BadInput
from noworse.task.distances import Distance, distance_of


def test_kl_against_torch_per_sample_and_over_positions() -> None:
    p, q = torch.randn(4, 7, 5), torch.randn(4, 7, 5)
    expected = F.kl_div(F.log_softmax(q, -1), F.log_softmax(p, -1), reduction="none", log_target=True).sum(-1).mean(1)
    assert torch.allclose(Distance("kl")(q, p), expected, atol=1e-6)
    assert torch.allclose(Distance("kl")(p, p), torch.zeros(4), atol=1e-6)


def test_kl_at_a_temperature() -> None:
    """At 3 it is that of a third of the logits, nine times; the hotter, the closer to the error of centred logits."""
    p, q = torch.randn(4, 7, 5, dtype=torch.float64), torch.randn(4, 7, 5, dtype=torch.float64)
    assert torch.allclose(Distance("kl", temperature=3.0)(q, p), 9 * Distance("kl")(q / 3, p / 3))
    centred = (q - p) - (q - p).mean(-1, keepdim=True)
    hot = Distance("kl", temperature=1e4)(q, p)
    assert torch.allclose(hot, centred.square().mean(-1).mean(1) / 2, rtol=1e-3)


@pytest.mark.parametrize("kind", ["mse", "cosine"])
def test_others_are_zero_at_the_original_only(kind: str) -> None:
    p = torch.randn(4, 6)
    losses = Distance(kind, 2.0)(p + 0.1 * torch.randn(4, 6), p)
    assert losses.shape == (4,)
    assert (losses > 1e-4).all()
    assert Distance(kind)(p, p).abs().max() < 1e-6


def test_unknown_kind() -> None:
    with pytest.raises(BadInput, match=r"'l1'.*kl, mse, cosine"):
        Distance("l1")


def test_parts_add_up_each_with_its_own_scale() -> None:
    p, q = torch.randn(40, 7, 6), torch.randn(40, 7, 6)
    found = distance_of("kl:4+mse:2", p)(q, p)
    variance = p[..., 4:].double().var(0).mean().item()
    expected = Distance("kl")(q[..., :4], p[..., :4]) + Distance("mse", variance)(q[..., 4:], p[..., 4:])
    assert found.shape == (40,)
    assert torch.allclose(found, expected, rtol=1e-5)
    warm = Distance("kl", 1.0, 2.0)(q[..., :4], p[..., :4]) + Distance("mse", variance)(q[..., 4:], p[..., 4:])
    assert torch.allclose(distance_of("kl:4+mse:2", p, 2.0)(q, p), warm, rtol=1e-5)


@pytest.mark.parametrize("kind", ["kl", "mse", "cosine"])
def test_a_plain_kind_takes_its_scale_from_the_outputs(kind: str) -> None:
    p, q = torch.randn(40, 6), torch.randn(40, 6)
    expected = Distance(kind, p.double().var(0).mean().item())(q, p)
    assert torch.allclose(distance_of(kind, p)(q, p), expected)


@pytest.mark.parametrize("kind", ["l1", "kl:0", "kl:3+", "kl:3+l1:2", "kl:-1", "kl:3+mse", ""])
def test_parts_that_are_none(kind: str) -> None:
    with pytest.raises(BadInput, match=r"expected one of kl, mse, cosine, or parts"):
        distance_of(kind, torch.randn(4, 5))


def test_parts_of_another_width() -> None:
    with pytest.raises(BadInput, match=r"'kl:3\+mse:4' are 7 wide: expected 5"):
        distance_of("kl:3+mse:4", torch.randn(4, 5))
