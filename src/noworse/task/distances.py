"""Distances of knowledge distillation: how far a compressed model's outputs are from the original's, per sample.

``"kl"``      KL(original || compressed) of softmax over the last dimension, in nats, averaged over middle dimensions;
            at a temperature T logits are divided by T, and the result times T² has the scale of T = 1;
``"mse"``     squared error divided by the variance of the original's outputs over the calibration data;
``"cosine"``  1 − cosine similarity along the last dimension, averaged over middle dimensions.

Outputs of several parts along their last dimension, as those of a detector, name the kind and width of each:
``"kl:11+mse:4"`` adds the KL of the first 11 columns and the squared error of the other 4.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from noworse.errors import BadInput

KINDS = ("kl", "mse", "cosine")
PART = re.compile(r"({}):([1-9]\d{{0,8}})".format("|".join(KINDS)))


def per_sample(losses: Tensor) -> Tensor:
    """Return the mean over middle dimensions: (B, ...) -> (B,)."""
    return losses.flatten(1).mean(1) if losses.dim() > 1 else losses


def parts(kind: str) -> list[tuple[str, int]]:
    """Return kind and width of each part of a distance like "kl:11+mse:4", nothing for a plain kind; else BadInput."""
    if kind in KINDS:
        return []
    found = [PART.fullmatch(part) for part in kind.split("+")]
    if not all(found):
        raise BadInput(f"{kind!r}: expected one of {', '.join(KINDS)}, or parts with their widths as in 'kl:11+mse:4'")
    return [(match[1], int(match[2])) for match in found if match]


def distance_of(kind: str, original: Tensor, temperature: float = 1.0) -> Distance:
    """Return the distance of a kind, or of parts, scaled by the variances of the original's outputs (N, ..., K)."""
    found = parts(kind)
    if not found:
        return Distance(kind, _variance(original), temperature)
    widths = [width for _, width in found]
    if sum(widths) != original.shape[-1]:
        raise BadInput(f"the parts of distill={kind!r} are {sum(widths)} wide: expected {original.shape[-1]} in all")
    columns = torch.split(original, widths, -1)
    made = [Distance(k, _variance(c), temperature) for (k, _), c in zip(found, columns, strict=True)]
    return PartsDistance(kind, made, widths)


def _variance(original: Tensor) -> float:
    return float(original.double().var(0).mean()) if len(original) > 1 else 1.0


class Distance:
    """The distillation loss of one kind.

    ``scale`` is the variance of the original's outputs (used by "mse" alone), ``temperature`` what logits are divided
    by (by "kl" alone; Hinton et al., Distilling the knowledge in a neural network, 2015).
    """

    def __init__(self, kind: str, scale: float = 1.0, temperature: float = 1.0) -> None:
        if kind not in KINDS:
            raise BadInput(f"unknown distillation {kind!r}: expected one of {', '.join(KINDS)}")
        self.kind = kind
        self.scale = scale if scale > 0 else 1.0
        self.temperature = temperature

    def __call__(self, outputs: Tensor, original: Tensor) -> Tensor:
        """Return per-sample losses (B,) from outputs (B, ..., K) of the compressed and of the original model."""
        if self.kind == "kl":
            log_p, log_q = (F.log_softmax(z / self.temperature, -1) for z in (original, outputs))
            losses = (log_p.exp() * (log_p - log_q)).sum(-1) * self.temperature**2
        elif self.kind == "mse":
            losses = (outputs - original).square().mean(-1) / self.scale
        else:
            losses = 1 - F.cosine_similarity(outputs, original, dim=-1)
        return per_sample(losses)

    def probe(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return a random scalar whose gradient g has E[g gᵀ] = the Gauss-Newton Hessian of the summed loss.

        For "kl" labels are drawn from the model itself, so that g is a sampled score (the Fisher information); for
        the others Gaussian noise is drawn on the outputs. Samples are independent: cross terms vanish on average.
        """
        positions = math.prod(outputs.shape[1:-1])
        if self.kind == "kl":
            log_p = F.log_softmax(outputs / self.temperature, -1).flatten(0, -2)
            labels = torch.multinomial(log_p.detach().exp(), 1, generator=generator)
            return log_p.gather(1, labels).sum() * self.temperature / math.sqrt(positions)
        noise = torch.randn(outputs.shape, generator=generator).to(outputs)
        if self.kind == "mse":
            return (noise * outputs).sum() * math.sqrt(2 / (self.scale * positions * outputs.shape[-1]))
        return (noise * F.normalize(outputs, dim=-1)).sum() / math.sqrt(positions)


class PartsDistance(Distance):
    """The sum of one distillation loss per part of the last dimension, split into ``widths`` columns."""

    def __init__(self, kind: str, distances: Sequence[Distance], widths: Sequence[int]) -> None:
        self.kind, self.scale, self.temperature = kind, 1.0, 1.0
        self.distances, self.widths = list(distances), list(widths)

    def __call__(self, outputs: Tensor, original: Tensor) -> Tensor:
        """Return per-sample losses (B,), as ``Distance`` does."""
        columns = torch.split(outputs, self.widths, -1), torch.split(original, self.widths, -1)
        return torch.stack([d(z, o) for d, z, o in zip(self.distances, *columns, strict=True)]).sum(0)

    def probe(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the sum of the parts' probes, which are drawn independently: their Hessians add up."""
        columns = zip(self.distances, torch.split(outputs, self.widths, -1), strict=True)
        return torch.stack([distance.probe(part, generator) for distance, part in columns]).sum()
