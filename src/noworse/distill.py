"""Knowledge distillation: how far a compressed model's outputs are from the original's, per sample.

``"kl"``      KL(original || compressed) of softmax over the last dimension, in nats, averaged over middle dimensions;
``"mse"``     squared error divided by the variance of the original's outputs over the calibration data;
``"cosine"``  1 − cosine similarity along the last dimension, averaged over middle dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from noworse.errors import BadInput

KINDS = ("kl", "mse", "cosine")


def per_sample(losses: Tensor) -> Tensor:
    """Mean over middle dimensions: (B, ...) -> (B,)."""
    return losses.flatten(1).mean(1) if losses.dim() > 1 else losses


class Distiller:
    """The distillation loss of one kind; ``scale`` is the variance of the original's outputs (used by "mse" alone)."""

    def __init__(self, kind: str, scale: float = 1.0) -> None:
        if kind not in KINDS:
            raise BadInput(f"unknown distillation {kind!r}: expected one of {', '.join(KINDS)}")
        self.kind = kind
        self.scale = scale if scale > 0 else 1.0

    def __call__(self, outputs: Tensor, original: Tensor) -> Tensor:
        """Per-sample loss (B,) from outputs (B, ..., K) of the compressed and of the original model."""
        if self.kind == "kl":
            log_p = F.log_softmax(original, -1)
            losses = (log_p.exp() * (log_p - F.log_softmax(outputs, -1))).sum(-1)
        elif self.kind == "mse":
            losses = (outputs - original).square().mean(-1) / self.scale
        else:
            losses = 1 - F.cosine_similarity(outputs, original, dim=-1)
        return per_sample(losses)

    def probe(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """A random scalar whose gradient g has E[g gᵀ] = the Gauss-Newton Hessian of the summed loss at the original.

        For "kl" labels are drawn from the model itself, so that g is a sampled score (the Fisher information); for
        the others Gaussian noise is drawn on the outputs. Samples are independent: cross terms vanish on average.
        """
        positions = math.prod(outputs.shape[1:-1])
        if self.kind == "kl":
            log_p = F.log_softmax(outputs, -1).flatten(0, -2)
            labels = torch.multinomial(log_p.detach().exp(), 1, generator=generator)
            return log_p.gather(1, labels).sum() / math.sqrt(positions)
        noise = torch.randn(outputs.shape, generator=generator).to(outputs)
        if self.kind == "mse":
            return (noise * outputs).sum() * math.sqrt(2 / (self.scale * positions * outputs.shape[-1]))
        return (noise * F.normalize(outputs, dim=-1)).sum() / math.sqrt(positions)
