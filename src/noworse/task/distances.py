"""Distances of knowledge distillation: how far a compressed model's outputs are from the original's, per sample.

``"kl"``      KL(original || compressed) of softmax over the last dimension, in nats, averaged over middle dimensions;
            at a temperature T logits are divided by T, and the result times T² has the scale of T = 1;
``"mse"``     squared error divided by the variance of the original's outputs over the calibration data;
``"cosine"``  1 − cosine similarity along the last dimension, averaged over middle dimensions.

Outputs of several parts along their last dimension, as those of a detector, name the kind and width of each:
``"kl:11+mse:4"`` adds the KL of the first 11 columns and the squared error of the other 4. A class that is added to
``DISTANCES`` can be named like these (docs/extending.md).
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from noworse.errors import BadInput
from noworse.model.device import double

PIECE = 1 << 18  # logits that the divergence works on at a time
CERTAIN = 1e-4  # how near to 1 sums of probabilities are, in half precision too
PART = re.compile(r"([^:+]+):([1-9]\d{0,8})")


def per_sample(losses: Tensor) -> Tensor:
    """Return the mean over middle dimensions: (B, ...) -> (B,)."""
    return losses.flatten(1).mean(1) if losses.dim() > 1 else losses


def positions(outputs: Tensor) -> int:
    """Return the number of positions of one sample, over all middle dimensions of outputs (B, ..., K)."""
    return math.prod(outputs.shape[1:-1])


class Distance:
    """Half the squared distance of ``features`` of two models' outputs, in which it is enough to say what these are.

    ``scale`` is the variance of the original's outputs (used by "mse" alone), ``temperature`` what logits are divided
    by (by "kl" alone; Hinton et al., Distilling the knowledge in a neural network, 2015). A distance that is no such
    square overrides the other methods.
    """

    logits: ClassVar[bool] = False  # whether outputs are logits, of which the judge compares predictions and KL, too

    def __init__(self, scale: float = 1.0, temperature: float = 1.0) -> None:
        self.scale = scale if scale > 0 else 1.0
        self.temperature = temperature

    def features(self, outputs: Tensor) -> Tensor:
        """Return φ(z) (B, ...) of outputs z (B, ..., K), differentiable: the distance is ½‖φ(z) − φ(z')‖²."""
        raise NotImplementedError

    def __call__(self, outputs: Tensor, original: Tensor) -> Tensor:
        """Return per-sample losses (B,) from outputs (B, ..., K) of the compressed and of the original model."""
        return 0.5 * (self.features(outputs) - self.features(original)).flatten(1).square().sum(1)

    def probe(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return a random scalar whose gradient g has E[g gᵀ] = the Gauss-Newton Hessian of the summed loss.

        Gaussian noise is drawn on the features; samples are independent, so that cross terms vanish on average.
        """
        features = self.features(outputs)
        noise = torch.randn(features.shape, generator=generator, device=generator.device)
        return (noise.to(features) * features).sum()

    def curved(self, outputs: Tensor, change: Tensor) -> Tensor:
        """Return u (B, n) with uᵀu = dzᵀ A dz for each sample, for outputs z and their changes dz (B, ..., K).

        A is the Hessian of the loss in z, where nothing has changed yet.
        """
        moved: Any = torch.func.jvp(self.features, (outputs,), (change,))
        return moved[1].flatten(1)  # type: ignore[no-any-return]


class KL(Distance):
    """KL(original || compressed) of softmax, times the temperature squared."""

    logits = True

    def __call__(self, outputs: Tensor, original: Tensor) -> Tensor:
        """Return the divergence in nats, its mean over positions: (B,)."""
        rows: Any = Divergence.apply(outputs, original.detach(), self.temperature)  # type: ignore[no-untyped-call]
        return per_sample(rows * self.temperature**2)

    def probe(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the log-likelihood of labels drawn from the model itself: its gradient is a score, as in Fisher's."""
        log_p = F.log_softmax(outputs / self.temperature, -1).flatten(0, -2)
        labels = torch.multinomial(log_p.detach().exp(), 1, generator=generator)
        return log_p.gather(1, labels).sum() * self.temperature / math.sqrt(positions(outputs))

    def curved(self, outputs: Tensor, change: Tensor) -> Tensor:
        """Return √p (dz − ⟨p, dz⟩): see ``Distance.curved``."""
        p = (outputs / self.temperature).softmax(-1)
        u = p.sqrt() * (change - (p * change).sum(-1, keepdim=True))
        return torch.div(u.flatten(1), positions(outputs) ** 0.5)


class Divergence(torch.autograd.Function):
    """KL(original || outputs) of softmax at a temperature, of logits (..., K): a function of torch that returns (...).

    It works on pieces, and again for the gradient, so that nothing of the logits' size is kept: those of a language
    model are larger than all that its layers keep. Its gradient can be differentiated, too.
    """

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, original: Tensor, temperature: float) -> Tensor:
        """Return the divergences in nats."""
        ctx.save_for_backward(outputs, original)
        ctx.temperature = temperature
        found = []
        for z, o in _pieces(outputs, original):
            log_p, log_q = (F.log_softmax(each / temperature, -1) for each in (o, z))
            found.append((log_p.exp() * (log_p - log_q)).sum(-1))
        return torch.cat(found).view(outputs.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *above: Any) -> tuple[Tensor | None, ...]:
        """Return the gradient in the outputs: the difference of the probabilities, divided by the temperature."""
        outputs, original = ctx.saved_tensors
        scaled = above[0][..., None] / ctx.temperature
        if torch.is_grad_enabled():  # which is asked for a second derivative
            gradient = ((outputs / ctx.temperature).softmax(-1) - (original / ctx.temperature).softmax(-1)) * scaled
            return gradient, None, None
        gradient = torch.empty_like(outputs, memory_format=torch.contiguous_format)
        for into, z, o, factor in _pieces(gradient, outputs, original, scaled):
            torch.sub((z / ctx.temperature).softmax(-1), (o / ctx.temperature).softmax(-1), out=into).mul_(factor)
        return gradient, None, None


def _pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Rows of tensors (..., K), a few at a time; of contiguous ones views."""
    flat = [tensor.reshape(-1, tensor.shape[-1]) for tensor in tensors]
    return zip(*(torch.split(rows, max(1, PIECE // tensors[0].shape[-1])) for rows in flat), strict=True)


class SquaredError(Distance):
    """The mean squared error, divided by ``scale``."""

    def features(self, outputs: Tensor) -> Tensor:
        """Return the outputs, scaled."""
        return outputs * math.sqrt(2 / (self.scale * positions(outputs) * outputs.shape[-1]))

    def __call__(self, outputs: Tensor, original: Tensor) -> Tensor:
        """Return the mean squared error of each sample, divided by ``scale``: (B,)."""
        return per_sample((outputs - original).square().mean(-1) / self.scale)


class CosineDistance(Distance):
    """1 − cosine similarity: half the squared distance of vectors of length 1."""

    def features(self, outputs: Tensor) -> Tensor:
        """Return the outputs of each position at length 1, divided by √positions."""
        return F.normalize(outputs, dim=-1) / math.sqrt(positions(outputs))

    def __call__(self, outputs: Tensor, original: Tensor) -> Tensor:
        """Return 1 − cosine, its mean over positions: (B,)."""
        return per_sample(1 - F.cosine_similarity(outputs, original, dim=-1))


class Parts(Distance):
    """The sum of one distance per part of the last dimension, split into ``widths`` columns."""

    def __init__(self, distances: Sequence[Distance], widths: Sequence[int]) -> None:
        super().__init__()
        self.distances, self.widths = list(distances), list(widths)

    def __call__(self, outputs: Tensor, original: Tensor) -> Tensor:
        """Return per-sample losses (B,), as ``Distance`` does."""
        columns = torch.split(outputs, self.widths, -1), torch.split(original, self.widths, -1)
        return torch.stack([d(z, o) for d, z, o in zip(self.distances, *columns, strict=True)]).sum(0)

    def probe(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the sum of the parts' probes, which are drawn independently: their Hessians add up."""
        columns = zip(self.distances, torch.split(outputs, self.widths, -1), strict=True)
        return torch.stack([distance.probe(part, generator) for distance, part in columns]).sum()

    def curved(self, outputs: Tensor, change: Tensor) -> Tensor:
        """Return the parts' vectors, one behind the other."""
        columns = torch.split(outputs, self.widths, -1), torch.split(change, self.widths, -1)
        return torch.cat([d.curved(z, dz) for d, z, dz in zip(self.distances, *columns, strict=True)], 1)


DISTANCES: dict[str, type[Distance]] = {"kl": KL, "mse": SquaredError, "cosine": CosineDistance}


def parts(kind: str) -> list[tuple[str, int]]:
    """Return kind and width of each part of a distance like "kl:11+mse:4", nothing for a plain kind; else BadInput."""
    if isinstance(kind, str) and kind in DISTANCES:
        return []
    found = [PART.fullmatch(part) for part in str(kind).split("+")]
    if not all(match and match[1] in DISTANCES for match in found):
        known = ", ".join(DISTANCES)
        raise BadInput(f"{kind!r}: expected one of {known}, or parts with their widths as in 'kl:11+mse:4'")
    return [(match[1], int(match[2])) for match in found if match]


def are_logits(kind: str) -> bool:
    """Return whether outputs that are compared by a distance of this kind are logits along the last dimension."""
    return kind in DISTANCES and DISTANCES[kind].logits


def distance_of(kind: str, original: Tensor, temperature: float = 1.0) -> Distance:
    """Return the distance of a kind, or of parts, scaled by the variances of the original's outputs (N, ..., K)."""
    found = parts(kind)
    if are_logits(kind):
        _require_logits(kind, original)
    if not found:
        return DISTANCES[kind](_variance(original), temperature)
    widths = [width for _, width in found]
    if sum(widths) != original.shape[-1]:
        raise BadInput(f"the parts of distill={kind!r} are {sum(widths)} wide: expected {original.shape[-1]} in all")
    columns = torch.split(original, widths, -1)
    return Parts([distance_of(k, c, temperature) for (k, _), c in zip(found, columns, strict=True)], widths)


def _require_logits(kind: str, outputs: Tensor) -> None:
    """BadInput for outputs (N, ..., K) of one class, or that are probabilities already."""
    if outputs.shape[-1] == 1:
        what = f"distill={kind!r} of outputs {tuple(outputs.shape)} compares one class alone"
        raise BadInput(f'{what}: expected distill="mse", or logits of two classes or more')
    if bool((outputs >= 0).all()) and bool(((outputs.sum(-1) - 1).abs() < CERTAIN).all()):
        what = f"distill={kind!r} of outputs that sum to 1 would take the softmax of probabilities"
        raise BadInput(f"{what}: expected logits, or a forward= that returns logarithms of the probabilities")


def _variance(original: Tensor) -> float:
    return float(double(original).var(0).mean()) if len(original) > 1 else 1.0
