"""Other costs of a proposal, as yardsticks: squared error, curvature as others estimate it, and LLC as published.

    mse       Σ δ²                                 trace     ½ F̄ Σ δ², F̄ the mean of the Fisher diagonal (HAWQ-V2)
    fisher    ½ Σ F δ², F its diagonal             paper     LLC, algorithm 1, at the labels of calib

LLC's cost: a layer's input is shifted by one step where a random number is positive, against the sign of its gradient
sum; |change of loss| / step times the root mean square of the rounding error is one term. The same for its weight is
the other, left out where the loss changes by less than 1e-4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noworse.model.hooks import removing
from noworse.model.quantized import Range
from noworse.propose.bits.proposals import Proposal
from noworse.propose.bits.sites import Site, Values
from noworse.task.distances import Distiller

COSTS = ("loss", "mse", "trace", "fisher")
LEAST_CHANGE = 1e-4  # of the loss that counts, as published

Losses = Callable[[], Tensor]  # per-sample losses (N,) of the model as it is, with their graph


def fisher_diagonals(
    sites: Mapping[str, Site], outputs: Iterable[tuple[Tensor, int]], distiller: Distiller, seed: int
) -> dict[str, Tensor]:
    """F = E[(∂ℓ/∂w)²] of each weight, from sampled probes on ``outputs`` (B, ..., K) with their graph, and B."""
    generator = torch.Generator().manual_seed(seed)
    totals = {key: torch.zeros_like(site.weight) for key, site in sites.items()}
    samples = 0
    for batch_outputs, size in outputs:
        samples += size
        probe = distiller.probe(batch_outputs, generator)
        leaves = [site.weight for site in sites.values()]
        for total, gradient in zip(totals.values(), torch.autograd.grad(probe, leaves, allow_unused=True), strict=True):
            if gradient is not None:
                total += gradient.square()
    return {key: total / samples for key, total in totals.items()}


def simple_costs(
    kind: str, sites: Mapping[str, Site], proposals: Sequence[Proposal], diagonals: Mapping[str, Tensor]
) -> list[float]:
    """The cost "mse", "trace" or "fisher" of each proposal."""
    found = []
    for proposal in proposals:
        if proposal.rounded is None:
            found.append(0.0)
            continue
        square = (proposal.rounded.decode() - sites[proposal.name].weight.detach()).square()
        diagonal = diagonals[proposal.name] if kind != "mse" else torch.ones(())
        diagonal = diagonal.mean() if kind == "trace" else diagonal
        found.append(0.5 * float((diagonal * square).sum(dtype=torch.float64)))
    return found


def gradient_sums(model: nn.Module, layers: Iterable[str], losses: Losses) -> dict[str, float]:
    """Mean over samples of the summed gradient ⟨∂ℓ/∂h, 1⟩ at the input h of each layer."""
    shifts = {name: torch.zeros((), requires_grad=True) for name in layers}
    with removing(_shifted(model.get_submodule(name), shift.add) for name, shift in shifts.items()):
        found = torch.autograd.grad(losses().mean(), list(shifts.values()), allow_unused=True)
    return {name: 0.0 if g is None else float(g) for name, g in zip(shifts, found, strict=True)}


def _shifted(layer: nn.Module, change: Callable[[Tensor], Tensor]) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return (change(args[0]), *args[1:]) if args else None

    return layer.register_forward_pre_hook(hook)


@torch.no_grad()
def paper_cost(
    model: nn.Module, site: Site, proposal: Proposal, values: Range | None, seen: Values | None, losses: Losses
) -> float:
    """P of LLC's algorithm 1 for a weight and the input of its layer at one bit-width."""
    if proposal.rounded is None:
        return 0.0
    generator = torch.Generator().manual_seed(0)
    before = float(losses().mean())

    def probe(like: Tensor, step: float, down: bool) -> Tensor:
        positive = torch.rand(like.shape, generator=generator) < 0.5
        return positive.to(like) * (-step if down else step)

    total = 0.0
    if values is not None and seen is not None:
        down = values.rounding == "down"
        handle = _shifted(model.get_submodule(site.layers[0]), lambda h: h + probe(h, values.scale, down))
        try:
            slope = abs(before - float(losses().mean())) / values.scale
        finally:
            handle.remove()
        total += slope * float((values(seen.sample) - seen.sample).square().mean().sqrt())
    weight, step = site.weight, float(proposal.rounded.steps.values().mean())
    original = weight.detach().clone()
    weight.add_(probe(weight, step, False))
    try:
        change = abs(before - float(losses().mean()))
    finally:
        weight.copy_(original)
    if change < LEAST_CHANGE:
        return total
    return total + change / step * float((proposal.rounded.decode() - original).square().mean().sqrt())
