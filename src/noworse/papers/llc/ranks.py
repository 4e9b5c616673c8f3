"""LLC's decomposition as published: linear layers, plain SVD, the sign of the first-order term, early stop.

Layer by layer, with the gradient of the mean loss taken anew after each: of the ranks below break-even whose
first-order term ⟨G, W_r − W⟩ is negative the smallest is taken whose true loss on the calibration data is not above
the original's.

Source: Compression for Better (LLC, 2024), Eq. 10 and Algorithm 2. Its constraint on the norm of the error is left out:
the published bound excludes every truncation below break-even.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from noworse.model.device import double, wide
from noworse.model.factorised import FLAT
from noworse.model.tensors import twin
from noworse.propose.ranks.build import put
from noworse.propose.ranks.candidates import Analysis
from noworse.propose.ranks.factoring import Found, Losses, RankStrategy
from noworse.propose.ranks.spectrum import PLAIN
from noworse.survey.curvature import Decomposable, fresh


def mean_gradient(module: nn.Module, layer: nn.Module, losses: Losses) -> Tensor:
    """Return the gradient of the mean loss in the layer's weight, in its shape, float64."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    weight.requires_grad_(True)
    total, samples = torch.zeros_like(weight, dtype=torch.float64, device=wide(weight.device)), 0
    for batch in losses(module):
        (gradient,) = torch.autograd.grad(batch.sum(), [weight], allow_unused=True)
        samples += len(batch)
        if gradient is not None:
            total += double(gradient)
    weight.requires_grad_(False)
    return total / samples


@torch.no_grad()
def mean_loss(module: nn.Module, losses: Losses) -> float:
    """Return the mean loss over all samples."""
    return float(torch.cat([double(batch) for batch in losses(module)]).mean())


def search(original: nn.Module, layers: Mapping[str, Decomposable], losses: Losses) -> Found:
    """Return the decomposed copy of ``original`` and the rank of each layer that became factors."""
    module, chosen = twin(original), {}
    limit = mean_loss(original, losses)
    for name, layer in layers.items():
        if not isinstance(layer, nn.Linear):
            continue
        analysis = Analysis(layer, fresh(layer), PLAIN)
        gradient = mean_gradient(module, module.get_submodule(name), losses)
        first = analysis.spectrum(FLAT).first_order(gradient)
        for candidate in analysis.candidates():
            if first[min(candidate.ranks[0], len(first) - 1)] >= 0:
                continue
            trial = twin(module)
            put(trial, name, analysis, candidate)
            if mean_loss(trial, losses) <= limit:
                module, chosen[name] = trial, candidate
                break
    return module, chosen


STRATEGY = RankStrategy(PLAIN, search=search)
