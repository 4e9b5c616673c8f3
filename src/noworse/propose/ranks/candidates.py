"""What a layer could be replaced with: ranks below break-even, with parameters and predicted loss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from noworse.model.device import double
from noworse.model.factorised import FLAT, SPATIAL, TUCKER, product, shaped
from noworse.propose.ranks.spectrum import KRONECKER, PLAIN, Spectrum, identity, metrics, root
from noworse.survey.curvature import Curvature, Decomposable

MOST = 48  # ranks of a layer that are offered
PAIRS = 12  # of ranks of a Tucker-2 decomposition


@dataclass(frozen=True)
class Candidate:
    """One replacement: the ``way`` of taking the weight apart, its ranks, parameters and predicted loss in nats."""

    way: str
    ranks: tuple[int, ...]
    parameters: int = 0  # of the weight
    loss: float = 0.0


@dataclass
class Analysis:
    """One layer's weight, its curvature, and all that it could be replaced with."""

    layer: Decomposable
    known: Curvature
    weighting: str
    spread: float = 0.0  # of the mean second moment of outputs' gradients is added to that of each; Kronecker alone
    spectra: dict[str, Spectrum] = field(default_factory=dict)
    target: Tensor | None = None  # (O, ...) in place of the weight: what the factors approximate
    mean: Tensor | None = None  # of the inputs that the layer was trained on, where they differ from the known ones

    @property
    def weight(self) -> Tensor:
        """The weight that factors are to approximate, float64."""
        return double((self.layer.weight if self.target is None else self.target).detach())

    @property
    def centred(self) -> bool:
        """Whether a bias takes the error of the mean input."""
        return self.weighting == KRONECKER and getattr(self.layer, "bias", None) is not None

    @property
    def ways(self) -> tuple[str, ...]:
        """How the weight can be seen as a matrix."""
        shape = self.weight.shape
        return (FLAT, SPATIAL) if len(shape) == 4 and 1 not in shape[2:] else (FLAT,)

    def metrics(self) -> tuple[Tensor | None, Tensor | None]:
        """Return the row metric on outputs and the column metric on inputs; with ``spread`` outputs differ less."""
        rows, columns = metrics(self.weighting, self.known, self.centred)
        if rows is not None and self.spread:
            rows = rows + self.spread * rows.diagonal().mean() * identity(rows)
        return rows, columns

    def spectrum(self, way: str) -> Spectrum:
        """Return the spectrum of the weight seen as a matrix, computed once."""
        if way not in self.spectra:
            rows, columns = self.metrics()
            if isinstance(self.layer, nn.Embedding):
                rows, columns = columns, rows
            if way == SPATIAL:
                rows, columns = _spatial_metrics(self.weight.shape, rows, columns)
            self.spectra[way] = Spectrum.of(as_matrix(self.weight, way), root(rows), root(columns))
        return self.spectra[way]

    def factors(self, candidate: Candidate) -> list[Tensor]:
        """Return the factors in the shapes of ``model/factorised.py``, the one nearest to the output first."""
        if candidate.way == TUCKER:
            return self._tucker(*candidate.ranks)
        return shaped(candidate.way, self.weight.shape, *self.spectrum(candidate.way).factors(candidate.ranks[0]))

    def bias(self, factors: Sequence[Tensor], way: str) -> Tensor | None:
        """Return the bias with the error at the mean input added, None where the weighting does not leave it that."""
        if not self.centred:
            return None
        layer: Any = self.layer
        mean = self.known.mean if self.mean is None else self.mean
        outputs = double(layer.bias.detach()) + double(layer.weight.detach()).flatten(1) @ mean
        moved: Tensor = outputs - product(way, factors).flatten(1) @ self.known.mean
        return moved

    def candidates(self) -> list[Candidate]:
        """Return all below break-even in parameters, by parameters; none where the layer is too small."""
        shape, spatial = self.weight.shape, self.weight.dim() == 4 and self.weight[0, 0].numel() > 1
        wide = spatial and self.weighting != PLAIN
        ways = self.ways if wide else (FLAT,)
        offers: list[tuple[str, tuple[int, ...]]]
        offers = [(way, (rank,)) for way in ways for rank in thinned(self.most_rank(way))]
        steps = range(1, PAIRS) if wide else ()
        pairs = [(TUCKER, tuple(math.ceil(size * step / PAIRS) for size in shape[:2])) for step in steps]
        offers += [(way, ranks) for way, ranks in pairs if self._count(way, ranks) < self.weight.numel()]
        return sorted((self.candidate(way, *ranks) for way, ranks in offers), key=lambda c: c.parameters)

    def most_rank(self, way: str) -> int:
        """Return the largest rank below break-even."""
        m, n = as_matrix(self.layer.weight, way).shape
        return int((m * n - 1) // (m + n))

    def candidate(self, way: str, *ranks: int) -> Candidate:
        """Return the product of these ranks, with its predicted loss (before damping unless it is flat)."""
        found = Candidate(way, ranks, self._count(way, ranks))
        if way == FLAT:
            tails = self.spectrum(way).second_order()
            return replace(found, loss=float(tails[min(ranks[0], len(tails) - 1)]))
        return replace(found, loss=self.lost(product(way, self.factors(found))))

    def lost(self, value: Tensor) -> float:
        """Return ½ tr(R δ C δᵀ) in nats, with δ the error of ``value`` (O, ...) in place of the weight."""
        rows, columns = self.metrics()
        error = (value - self.weight).flatten(1)
        right = error if columns is None else error @ _full(columns)
        left = error if rows is None else _full(rows) @ error
        return 0.5 * float((left * right).sum())

    def _count(self, way: str, ranks: Sequence[int]) -> int:
        if way == TUCKER:
            o, c, h, w = self.weight.shape
            return o * ranks[0] + ranks[0] * ranks[1] * h * w + c * ranks[1]
        return ranks[0] * sum(as_matrix(self.weight, way).shape)

    def _tucker(self, out: int, into: int) -> list[Tensor]:
        """Tucker-2 by whitened higher-order SVD: output channels from the flat split, input channels from their own."""
        weight = self.weight
        _, c, h, w = weight.shape
        basis = torch.linalg.qr(self.spectrum(FLAT).left[:, :out])[0]
        if "channels" not in self.spectra:
            rows, columns = self.metrics()
            inner = columns
            if columns is not None:  # summed over the places of a patch
                inner = torch.einsum("ipjp->ij", _full(columns).reshape(c, h * w, c, h * w))
            weighted = root(rows).apply(weight.flatten(1)).reshape(weight.shape).permute(1, 0, 2, 3).reshape(c, -1)
            self.spectra["channels"] = Spectrum.of(weighted, root(inner), root(None))
        second = torch.linalg.qr(self.spectra["channels"].left[:, :into])[0]  # (C, R2)
        core = torch.einsum("ocyx,op,cq->pqyx", weight, basis, second)
        return [basis[:, :, None, None], core, second.T[:, :, None, None]]


def as_matrix(weight: Tensor, way: str) -> Tensor:
    """Return a weight as the matrix whose rank is cut: rows are outputs, or outputs and horizontal places."""
    if way == SPATIAL:
        o, c, h, w = weight.shape
        return weight.permute(0, 3, 1, 2).reshape(o * w, c * h)
    return weight.flatten(1)


def thinned(most: int) -> list[int]:
    """Return ranks from 1 to ``most``: all of them, or about ``MOST`` in geometric steps."""
    if most <= MOST:
        return list(range(1, most + 1))
    return sorted({round(most ** (k / (MOST - 1))) for k in range(MOST)})


def _full(metric: Tensor) -> Tensor:
    return metric.diag() if metric.dim() == 1 else metric


def _spatial_metrics(shape: Sequence[int], rows: Tensor | None, columns: Tensor | None) -> tuple[Tensor | None, ...]:
    """Metrics over (o, x) and (c, y), taking that of the patches for a product of one over x and one over (c, y)."""
    o, c, h, w = shape
    if columns is None:
        return (None if rows is None else torch.kron(_full(rows), identity(rows, w))), None
    patch = _full(columns).reshape(c * h, w, c * h, w)
    along = torch.einsum("ixiz->xz", patch)
    across = torch.einsum("ixjx->ij", patch)
    along = along / along.diagonal().mean().clamp(min=1e-30)
    outer = identity(patch, o) if rows is None else _full(rows)
    return torch.kron(outer, along), across / w
