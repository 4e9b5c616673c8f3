import functools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from noworse.errors import BadInput
from noworse.task.distances import DISTANCES, KL, Distance, SquaredError, are_logits, distance_of


def test_kl_against_torch_per_sample_and_over_positions() -> None:
    p, q = torch.randn(4, 7, 5), torch.randn(4, 7, 5)
    expected = F.kl_div(F.log_softmax(q, -1), F.log_softmax(p, -1), reduction="none", log_target=True).sum(-1).mean(1)
    assert torch.allclose(KL()(q, p), expected, atol=1e-6)
    assert torch.allclose(KL()(p, p), torch.zeros(4), atol=1e-6)


@pytest.mark.parametrize("piece", [1, 12, 1 << 18])
def test_derivatives_of_kl_are_right_whatever_its_pieces(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr("noworse.task.distances.PIECE", piece)
    p, q = (torch.randn(3, 5, 4, dtype=torch.float64).transpose(0, 1) for _ in range(2))
    q.requires_grad_()
    expected = F.kl_div(F.log_softmax(q / 2, -1), F.log_softmax(p / 2, -1), reduction="none", log_target=True)
    torch.testing.assert_close(KL(temperature=2.0)(q, p), 4 * expected.sum(-1).mean(1))
    assert torch.autograd.gradcheck(lambda z: KL(temperature=2.0)(z, p), q)
    assert torch.autograd.gradgradcheck(lambda z: KL(temperature=2.0)(z, p), q)


def test_kl_at_a_temperature() -> None:
    """At 3 it is that of a third of the logits, nine times; the hotter, the closer to the error of centred logits."""
    p, q = torch.randn(4, 7, 5, dtype=torch.float64), torch.randn(4, 7, 5, dtype=torch.float64)
    assert torch.allclose(KL(temperature=3.0)(q, p), 9 * KL()(q / 3, p / 3))
    centred = (q - p) - (q - p).mean(-1, keepdim=True)
    hot = KL(temperature=1e4)(q, p)
    assert torch.allclose(hot, centred.square().mean(-1).mean(1) / 2, rtol=1e-3)


@pytest.mark.parametrize("kind", ["mse", "cosine"])
def test_others_are_zero_at_the_original_only(kind: str) -> None:
    p = torch.randn(4, 6)
    losses = DISTANCES[kind](2.0)(p + 0.1 * torch.randn(4, 6), p)
    assert losses.shape == (4,)
    assert (losses > 1e-4).all()
    assert DISTANCES[kind]()(p, p).abs().max() < 1e-6


def test_parts_add_up_each_with_its_own_scale() -> None:
    p, q = torch.randn(40, 7, 6), torch.randn(40, 7, 6)
    found = distance_of("kl:4+mse:2", p)(q, p)
    variance = p[..., 4:].double().var(0).mean().item()
    expected = KL()(q[..., :4], p[..., :4]) + SquaredError(variance)(q[..., 4:], p[..., 4:])
    assert found.shape == (40,)
    assert torch.allclose(found, expected, rtol=1e-5)
    warm = KL(1.0, 2.0)(q[..., :4], p[..., :4]) + SquaredError(variance)(q[..., 4:], p[..., 4:])
    assert torch.allclose(distance_of("kl:4+mse:2", p, 2.0)(q, p), warm, rtol=1e-5)


@pytest.mark.parametrize("kind", ["kl", "mse", "cosine"])
def test_a_plain_kind_takes_its_scale_from_the_outputs(kind: str) -> None:
    p, q = torch.randn(40, 6), torch.randn(40, 6)
    expected = DISTANCES[kind](p.double().var(0).mean().item())(q, p)
    assert torch.allclose(distance_of(kind, p)(q, p), expected)


@pytest.mark.parametrize("kind", ["l1", "kl:0", "kl:3+", "kl:3+l1:2", "kl:-1", "kl:3+mse", "", None, 3, ["kl"]])
def test_parts_that_are_none(kind: str) -> None:
    with pytest.raises(BadInput, match=r"expected one of kl, mse, cosine, or parts"):
        distance_of(kind, torch.randn(4, 5))


def test_parts_of_another_width() -> None:
    with pytest.raises(BadInput, match=r"'kl:3\+mse:4' are 7 wide: expected 5"):
        distance_of("kl:3+mse:4", torch.randn(4, 5))


@pytest.mark.parametrize("kind", ["kl", "kl:1+mse:3"])
def test_one_class_alone_has_no_divergence(kind: str) -> None:
    outputs = torch.randn(5, 1 if kind == "kl" else 4)
    with pytest.raises(BadInput, match=r'compares one class alone: expected distill="mse"'):
        distance_of(kind, outputs)


def test_probabilities_are_no_logits() -> None:
    logits = torch.randn(9, 2, 5)
    with pytest.raises(BadInput, match=r"softmax of probabilities: expected logits, or a forward= that returns logar"):
        distance_of("kl", logits.softmax(-1))
    expected = distance_of("kl", logits)(logits.roll(1, 0), logits)
    again = distance_of("kl", logits.log_softmax(-1))(logits.roll(1, 0).log_softmax(-1), logits.log_softmax(-1))
    assert torch.allclose(again, expected, atol=1e-6)
    distance_of("mse", logits.softmax(-1))


class Hellinger(Distance):
    """Half the squared distance between square roots of probabilities: all that it says is what is squared."""

    logits = True

    def features(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(-1).sqrt()


def _total(distance: Distance, original: Tensor, outputs: Tensor) -> Tensor:
    return distance(outputs, original).sum()


@pytest.mark.parametrize("kind", ["kl", "mse", "cosine", "kl:2+mse:3", "hellinger"])
def test_vectors_of_changes_and_probes_have_the_curvature_of_the_distance(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against second derivatives by autograd, for samples of one position and of several."""
    monkeypatch.setitem(DISTANCES, "hellinger", Hellinger)
    torch.manual_seed(0)
    for shape in ((3, 5), (3, 2, 5)):
        z, dz = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
        distance = distance_of(kind, z)
        with torch.no_grad():  # as it is called
            u = distance.curved(z, dz)
        leaf, generator = z.clone().requires_grad_(), torch.Generator().manual_seed(0)
        draws = [torch.autograd.grad(distance.probe(leaf, generator), leaf)[0] for _ in range(1000)]
        slopes = torch.stack([(gradient * dz).flatten(1).sum(1) for gradient in draws])
        for row in range(3):
            one = z[row : row + 1]
            total = functools.partial(_total, distance, one)
            move = dz[row].flatten()
            hessian = torch.autograd.functional.hessian(total, one).reshape(len(move), -1)
            expected = float(move @ hessian @ move)
            assert float(u[row] @ u[row]) == pytest.approx(expected, rel=1e-3)
            assert float(slopes[:, row].square().mean()) == pytest.approx(expected, rel=0.25)


def test_a_class_that_joins_the_table_is_known_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DISTANCES, "hellinger", Hellinger)
    p, q = torch.randn(40, 3), torch.randn(40, 3)
    expected = 1 - (p.softmax(-1) * q.softmax(-1)).sqrt().sum(-1)  # the affinity's complement
    assert torch.allclose(distance_of("hellinger", p)(q, p), expected, atol=1e-6)
    kinds = {"kl": True, "hellinger": True, "mse": False, "cosine": False, "kl:2+mse:1": False}
    assert {kind: are_logits(kind) for kind in kinds} == kinds
    parts = distance_of("hellinger:2", p[:, :2])(q[:, :2], p[:, :2]) + distance_of("mse", p[:, 2:])(q[:, 2:], p[:, 2:])
    assert torch.allclose(distance_of("hellinger:2+mse:1", p)(q, p), parts)
    with pytest.raises(BadInput, match="'l1': expected one of kl, mse, cosine, hellinger, or parts"):
        distance_of("l1", p)
