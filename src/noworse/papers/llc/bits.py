"""LLC's search for bits: weights and inputs of a layer share their bits, and the slope of the loss prices them.

A layer's input is shifted by one step where a random number is positive, against the sign of its gradient sum;
|change of loss| / step times the root mean square of the rounding error is one term of the cost. The same for its
weight is the other, left out where the loss changes by less than 1e-4. Costs of layers are added.

Values are clipped where ACIQ does it for Laplace's distribution. A quantiser of b bits on [−α, α] errs by the tail that
it clips and by α²/(3·4ᵇ), a twelfth of its squared step; for a mean |x| of 1 the least sum is where α eᵅ = 3·4ᵇ.
One-sided values (those behind a ReLU) have twice as many levels for the same step: α of b bits is that of b + 1.

Source: Compression for Better (LLC, 2024), Eq. 7 and 9, Algorithm 1; Banner et al., ACIQ (NeurIPS 2019).
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from scipy.special import lambertw
from torch import Tensor, nn

from noworse.model.device import home, seeded
from noworse.model.quantized import Range
from noworse.propose.bits.priced import Priced
from noworse.propose.bits.proposals import Proposal, propose
from noworse.propose.bits.rounding import Rounded
from noworse.propose.bits.sites import Site, Values
from noworse.propose.bits.strategy import BitStrategy, Clip, Costs
from noworse.survey.capture import feeding

LEAST_CHANGE = 1e-4  # of the loss that counts, as published

Losses = Callable[[], Tensor]  # per-sample losses (N,) of the model as it is, with their graph


def laplace(bits: int, one_sided: bool = False) -> float:
    """Return the best α in mean absolute deviations of a Laplace distribution."""
    return float(lambertw(3 * 4.0 ** (bits + one_sided)).real)


def aciq_range(flat: Tensor, bits: int, low: float, high: float) -> tuple[float, float]:
    """Return the range of activations (n,) within their extremes ``low`` ≤ 0 ≤ ``high``."""
    one_sided = low == 0 or high == 0
    center = 0.0 if one_sided else float(flat.mean())
    # half of a symmetric distribution became 0: its mean magnitude is half of what it was
    reach = laplace(bits, one_sided) * (1 + one_sided) * float((flat - center).abs().mean())
    return max(low, min(center - reach, 0.0)), min(high, max(center + reach, 0.0))


def aciq_reach(rows: Tensor, bits: int) -> Tensor:
    """Return the largest magnitudes (R,) that codes of weights (R, I) stand for, no more than there are."""
    return torch.minimum(rows.abs().amax(1), laplace(bits) * rows.abs().mean(1))


class Published(BitStrategy):
    """The strategy of LLC; calib needs its labels."""

    levels = (2, 4, 8, 16)
    settles = False

    def propose(self, net: Priced) -> list[list[Proposal]]:
        """Return every weight with one step in ACIQ's range, rounded to nearest."""
        return [propose(site, self.levels, None, aciq_reach, False) for site in net.survey.sites]

    def costs(self, net: Priced, proposals: Sequence[Proposal], cost: str) -> Costs:
        """Return P of every proposal; layers add up."""
        found = []
        for proposal in proposals:
            site = net.sites[proposal.name]
            layer = next(iter(site.layers), "")  # recurrent layers have none whose inputs can be rounded
            values, inputs = net.ranges(proposal).get(layer), net.survey.inputs.get(layer)
            found.append(slope_cost(net.teacher, site, proposal, values, inputs, net.losses))
        return found, None

    def directions(self, net: Priced) -> dict[str, str]:
        """Return "up" where the sum of the gradients at a layer's input is negative, "down" elsewhere (Eq. 7)."""
        sums = gradient_sums(net.teacher, net.survey.inputs, net.losses)
        return {name: "up" if total < 0 else "down" for name, total in sums.items()}

    def input_bits(self, asked: int | None, proposal: Proposal | None) -> int | None:
        """Return the bits of the weight, where inputs are rounded at all; outputs are not."""
        return None if asked is None or proposal is None or proposal.written is None else round(proposal.width)

    def clip(self, net: Priced, bits: int) -> Clip:
        """Return ACIQ's range."""
        return aciq_range


def gradient_sums(model: nn.Module, layers: Iterable[str], losses: Losses) -> dict[str, float]:
    """Return the mean over samples of the summed gradient ⟨∂ℓ/∂h, 1⟩ at the input h of each layer (Eq. 7)."""
    device = home(model)
    shifts = {name: torch.zeros((), requires_grad=True, device=device) for name in layers}
    with feeding({name: model.get_submodule(name) for name in shifts}, lambda name, h: shifts[name] + h):
        found = torch.autograd.grad(losses().mean(), list(shifts.values()), allow_unused=True)
    return {name: 0.0 if g is None else float(g) for name, g in zip(shifts, found, strict=True)}


@torch.no_grad()
def slope_cost(
    model: nn.Module, site: Site, proposal: Proposal, values: Range | None, inputs: Values | None, losses: Losses
) -> float:
    """Return P of Algorithm 1 for a weight and the input of its layer at one bit-width."""
    if not isinstance(proposal.written, Rounded):
        return 0.0
    generator = seeded(home(model), 0)
    before = float(losses().mean())

    def probe(like: Tensor, step: float) -> Tensor:
        return (torch.rand(like.shape, generator=generator, device=like.device) < 0.5).to(like) * step

    total = 0.0
    if values is not None and inputs is not None:
        step, layer = values.scale, site.layers[0]
        signed = -step if values.rounding == "down" else step
        with feeding({layer: model.get_submodule(layer)}, lambda name, h: h + probe(h, signed)):
            slope = abs(before - float(losses().mean())) / step
        total += slope * _rms(values(inputs.sample) - inputs.sample)
    weight, step = site.weight, float(proposal.written.steps.values().mean())
    original = weight.detach().clone()
    weight.add_(probe(weight, step))
    try:
        change = abs(before - float(losses().mean()))
    finally:
        weight.copy_(original)
    if change < LEAST_CHANGE:
        return total
    return total + change / step * _rms(proposal.decode().to(original) - original)


def _rms(error: Tensor) -> float:
    return float(error.square().mean().sqrt())


STRATEGY = Published()
