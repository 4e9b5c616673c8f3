"""Random weights that look trained, and images to feed them, for nets whose checkpoints cannot be had."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNEL_SPREAD, TAIL = 0.5, 0.4  # deviations of ln(scale) over output channels and over single weights
GRAIN = 8  # pixels of the coarse noise that images are made of


def images(count: int, side: int, seed: int) -> Tensor:
    """Smooth and fine noise of varying contrast, about zero mean and unit variance, (count, 3, side, side)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, side // GRAIN, side // GRAIN, generator=generator)
    fine = torch.randn(count, 3, side, side, generator=generator)
    smooth = F.interpolate(coarse, size=(side, side), mode="bilinear")
    contrast = torch.randn(count, 3, 1, 1, generator=generator).mul_(0.5).exp_()
    return (smooth + 0.3 * fine) * contrast + torch.randn(count, 3, 1, 1, generator=generator)


@torch.no_grad()
def randomise(model: nn.Module, seed: int, batches: list[Tensor]) -> nn.Module:
    """Give ``model`` random weights in place and batch norms that know ``batches``; returns it in eval mode.

    Weights have He's variance (linear layers half of it) and heavy tails: a scale for every output channel and one for
    every weight, both log-normal. Norms are near the identity, parameters of no layer (embeddings) of deviation 0.02.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        parameters = dict(module.named_parameters(recurse=False))
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            _heavy_tailed(module, generator)
        elif isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            parameters["weight"].normal_(1.0, 0.2, generator=generator)
            parameters["bias"].normal_(0.0, 0.1, generator=generator)
        else:
            for parameter in parameters.values():
                parameter.normal_(0.0, 0.02, generator=generator)
    return _calibrate(model, batches)


def _heavy_tailed(layer: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    weight = layer.weight
    gain = 2.0 if isinstance(layer, nn.Conv2d) else 1.0
    channels = torch.randn(len(weight), generator=generator).mul_(CHANNEL_SPREAD)
    tails = torch.randn(weight.shape, generator=generator).mul_(TAIL).add_(channels.view(-1, *[1] * (weight.dim() - 1)))
    tails.sub_(CHANNEL_SPREAD**2 + TAIL**2)  # so that the mean square of exp(tails) is 1
    deviation = math.sqrt(gain / weight[0].numel())
    weight.normal_(0.0, deviation, generator=generator).mul_(tails.exp_())
    if layer.bias is not None:
        layer.bias.normal_(0.0, 0.02, generator=generator)


def _calibrate(model: nn.Module, batches: list[Tensor]) -> nn.Module:
    """Set the statistics of all batch norms to those of the batches."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    if norms:
        model.train()
        for batch in batches:
            model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()
