from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.papers.llc.ranks import mean_gradient, mean_loss, search
from noworse.propose.ranks.build import find_sites
from tests.tiny import mlp

X = torch.randn(200, 20, generator=torch.Generator().manual_seed(0))


def losses(model: nn.Module) -> Iterator[Tensor]:
    """Cross-entropy at labels that the first few inputs tell, in two batches of unequal size."""
    return (F.cross_entropy(model(x), x[:, :4].argmax(1), reduction="none") for x in X.split(150))


def test_gradients_are_means_over_all_samples() -> None:
    model = mlp()
    model.requires_grad_(True)
    (expected,) = torch.autograd.grad(torch.cat(list(losses(model))).mean(), [model.get_parameter("0.weight")])
    found = mean_gradient(model, model.get_submodule("0"), losses)
    torch.testing.assert_close(found, expected.double(), rtol=1e-4, atol=1e-6)


def test_the_smallest_rank_is_taken_that_lowers_the_loss_and_whose_first_order_is_negative() -> None:
    """Against a search by hand: truncations by torch's own SVD, each tried in the whole net."""
    model = mlp()
    found, chosen = search(model, find_sites(model).layers, losses)
    assert chosen
    assert mean_loss(found, losses) <= mean_loss(model, losses)
    name = next(iter(chosen))
    layer = model.get_submodule(name)
    weight: Tensor = layer.weight.detach().double()  # type: ignore[union-attr, operator]
    gradient = mean_gradient(model, layer, losses)
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    limit = mean_loss(model, losses)
    for rank in range(1, chosen[name].ranks[0] + 1):
        cut = (u[:, :rank] * s[:rank]) @ v[:rank]
        trial = mlp()
        with torch.no_grad():
            trial.get_parameter(f"{name}.weight").copy_(cut)
        taken = float((gradient * (cut - weight)).sum()) < 0 and mean_loss(trial, losses) <= limit
        assert taken == (rank == chosen[name].ranks[0])
