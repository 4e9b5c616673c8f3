"""A weight matrix in the order of what its parts are worth: one SVD scores every rank.

With row metric R = A Aᵀ and column metric C = B Bᵀ the best approximation of rank r in tr(R δ C δᵀ) cuts off the SVD of
Aᵀ W B = U Σ Vᵀ. In its own coordinates W = Σ_j σ_j a_j b_jᵀ with a_j = A⁻ᵀ u_j and b_j = B⁻ᵀ v_j, and cutting at r
costs, for every r at once,

    second order   ½ Σ_{j>r} σ_j²                       first order   −Σ_{j>r} σ_j a_jᵀ g b_j   (g the mean gradient)

Metrics: none (plain SVD); Fisher information of the rows (FWSVD, Hsu et al. 2022); mean magnitudes of the inputs (ASVD,
Yuan et al. 2023); their second moments (SVD-LLM, Wang et al. 2024); those, centred where a bias can take the mean's
error, together with the second moments of the output's gradients (ours: the Kronecker-factored Gauss-Newton matrix).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from noworse.survey.curvature import Curvature

PLAIN, FISHER, SCALED, WHITENED, KRONECKER = WEIGHTINGS = ("plain", "fisher", "scaled", "whitened", "kronecker")
DAMPING = 0.01  # of the mean of a metric's diagonal: calibration samples are few
ALPHA = 0.5  # exponent of the magnitudes of ASVD


@dataclass(frozen=True)
class Root:
    """A of a metric A Aᵀ: lower triangular (n, n), or the diagonal of a diagonal one (n,), or None for the identity."""

    value: Tensor | None = None

    def apply(self, matrix: Tensor) -> Tensor:
        """Return Aᵀ · matrix."""
        if self.value is None:
            return matrix
        return self.value[:, None] * matrix if self.value.dim() == 1 else self.value.T @ matrix

    def solve(self, matrix: Tensor) -> Tensor:
        """Return A⁻ᵀ · matrix."""
        if self.value is None:
            return matrix
        if self.value.dim() == 1:
            return matrix / self.value[:, None]
        return torch.linalg.solve_triangular(self.value.T, matrix, upper=True)  # type: ignore[no-any-return]


def root(metric: Tensor | None, damping: float = DAMPING) -> Root:
    """Return the root of a metric (n, n), or (n,) where it is diagonal, damped so that it is never singular."""
    if metric is None:
        return Root()
    diagonal = metric if metric.dim() == 1 else metric.diagonal()
    mean = float(diagonal.mean())
    if not mean > 0:
        return Root()
    if metric.dim() == 1:
        return Root((metric + damping * mean).sqrt())
    return Root(torch.linalg.cholesky(metric + damping * mean * identity(metric)))


def identity(like: Tensor, size: int | None = None) -> Tensor:
    """Return the identity of a size, or of as many rows as ``like`` has, of its dtype and on its device."""
    return torch.eye(size or len(like), dtype=like.dtype, device=like.device)


@dataclass(frozen=True)
class Spectrum:
    """W = left · diag(sigma) · right, with ``left`` (M, K), ``sigma`` (K,) descending, ``right`` (K, N), float64."""

    left: Tensor
    sigma: Tensor
    right: Tensor

    @classmethod
    def of(cls, matrix: Tensor, rows: Root, columns: Root) -> Spectrum:
        """Return the spectrum of a matrix (M, N) in the metrics of these roots."""
        weighted = columns.apply(rows.apply(matrix).T).T
        u, sigma, v = torch.linalg.svd(weighted, full_matrices=False)
        return cls(rows.solve(u), sigma, columns.solve(v.T).T)

    def second_order(self) -> Tensor:
        """Return ½ Σ_{j>r} σ_j² for r = 0 ... K, (K + 1,)."""
        return 0.5 * _tails(self.sigma.square())

    def first_order(self, gradient: Tensor) -> Tensor:
        """Return ⟨gradient, W_r − W⟩ for r = 0 ... K, (K + 1,), of a gradient (M, N)."""
        return -_tails(self.sigma * ((gradient.T @ self.left) * self.right.T).sum(0))

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """Return (M, r) and (r, N), of equal columns' and rows' share of σ."""
        scale = self.sigma[:rank].sqrt()
        return self.left[:, :rank] * scale, scale[:, None] * self.right[:rank]


def _tails(terms: Tensor) -> Tensor:
    """Sums of the last K, K − 1, ..., 0 terms."""
    return torch.cat([terms.flip(0).cumsum(0).flip(0), terms.new_zeros(1)])


def metrics(weighting: str, known: Curvature, centred: bool) -> tuple[Tensor | None, Tensor | None]:
    """Return row metric on outputs and column metric on inputs (exchanged for embeddings); None: the identity."""
    diagonal, second = known.inputs.dim() == 1, known.second
    if weighting == KRONECKER:
        centred = centred and not diagonal
        return known.output, second - torch.outer(known.mean, known.mean) if centred else second
    if weighting == WHITENED:
        return None, second
    if weighting == SCALED:
        return None, second if diagonal else known.magnitude.pow(2 * ALPHA)
    if weighting == FISHER:
        return known.output.diagonal(), None
    return None, None
