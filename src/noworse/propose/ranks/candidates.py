"""What a layer could be replaced with: ranks below break-even, with parameters, operations, and predicted loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from noworse.model.factorised import FLAT, SPATIAL, TUCKER, dense, shaped
from noworse.propose.ranks.spectrum import KRONECKER, PLAIN, Spectrum, metrics, root
from noworse.survey.kronecker import Curvature, Decomposable

MOST = 48  # ranks of a layer that are offered
PAIRS = 12  # of ranks of a Tucker-2 decomposition


@dataclass(frozen=True)
class Candidate:
    """One replacement: the ``way`` of taking the weight apart, its ranks, parameters and predicted loss in nats."""

    way: str
    ranks: tuple[int, ...]
    parameters: int  # of the weight
    work: float  # multiplications, as a share of those of the dense layer
    loss: float


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
        """What is approximated, float64."""
        return (self.layer.weight if self.target is None else self.target).detach().double()

    @property
    def centred(self) -> bool:
        """Whether a bias takes the error of the mean input."""
        return self.weighting == KRONECKER and getattr(self.layer, "bias", None) is not None

    def metrics(self) -> tuple[Tensor | None, Tensor | None]:
        """Row metric on outputs and column metric on inputs; with ``spread`` outputs are told apart less."""
        rows, columns = metrics(self.weighting, self.known, self.centred)
        if rows is not None and self.spread:
            rows = rows + self.spread * rows.diagonal().mean() * torch.eye(len(rows), dtype=rows.dtype)
        return rows, columns

    def spectrum(self, way: str) -> Spectrum:
        """The spectrum of the weight seen as a matrix, computed once."""
        if way not in self.spectra:
            rows, columns = self.metrics()
            if isinstance(self.layer, nn.Embedding):
                rows, columns = columns, rows
            if way == SPATIAL:
                rows, columns = _spatial_metrics(self.weight.shape, rows, columns)
            self.spectra[way] = Spectrum.of(as_matrix(self.weight, way), root(rows), root(columns))
        return self.spectra[way]

    def factors(self, candidate: Candidate) -> list[Tensor]:
        """The factors in the shapes of ``model/factorised.py``, the one nearest to the output first."""
        if candidate.way == TUCKER:
            return self._tucker(*candidate.ranks)
        return shaped(candidate.way, self.weight.shape, *self.spectrum(candidate.way).factors(candidate.ranks[0]))

    def bias(self, factors: Sequence[Tensor], way: str) -> Tensor | None:
        """The layer's bias with the error at the mean input added, where the weighting leaves it to the bias."""
        if not self.centred:
            return None
        layer: Any = self.layer
        mean = self.known.mean if self.mean is None else self.mean
        outputs = layer.bias.detach().double() + layer.weight.detach().double().flatten(1) @ mean
        moved: Tensor = outputs - dense(way, factors).flatten(1) @ self.known.mean
        return moved

    def candidates(self) -> list[Candidate]:
        """Everything below break-even in parameters, by parameters; none where the layer is too small."""
        found = list(self._matrices(FLAT))
        if len(self.weight.shape) == 4 and self.weight[0, 0].numel() > 1 and self.weighting != PLAIN:
            found += [c for way in self.ways[1:] for c in self._matrices(way)] + list(self._tuckers())
        return sorted(found, key=lambda c: c.parameters)

    @property
    def ways(self) -> tuple[str, ...]:
        """How the weight can be seen as a matrix."""
        shape = self.weight.shape
        return (FLAT, SPATIAL) if len(shape) == 4 and 1 not in shape[2:] else (FLAT,)

    def most_rank(self, way: str) -> int:
        """The largest rank below break-even."""
        m, n = as_matrix(self.layer.weight, way).shape
        return int((m * n - 1) // (m + n))

    def candidate(self, way: str, rank: int) -> Candidate:
        """The product of one rank."""
        tails = self.spectrum(way).second_order()
        m, n = as_matrix(self.weight, way).shape
        loss = float(tails[min(rank, len(tails) - 1)])
        found = Candidate(way, (rank,), rank * (m + n), rank * (m + n) / (m * n), loss)
        return replace(found, loss=self._exact(found)) if way == SPATIAL else found

    def lost(self, value: Tensor) -> float:
        """½ tr(R δ C δᵀ) in nats, with δ the error of ``value`` (O, ...) in place of the weight."""
        rows, columns = self.metrics()
        error = (value - self.weight).flatten(1)
        right = error if columns is None else error @ _full(columns)
        left = error if rows is None else _full(rows) @ error
        return 0.5 * float((left * right).sum())

    def _matrices(self, way: str) -> Iterator[Candidate]:
        return (self.candidate(way, rank) for rank in thinned(self.most_rank(way)))

    def _tuckers(self) -> Iterator[Candidate]:
        o, c, h, w = self.weight.shape
        for step in range(1, PAIRS):
            ranks = (math.ceil(o * step / PAIRS), math.ceil(c * step / PAIRS))
            count = o * ranks[0] + ranks[0] * ranks[1] * h * w + c * ranks[1]
            if count < o * c * h * w and min(ranks) > 0:
                draft = Candidate(TUCKER, ranks, count, count / (o * c * h * w), 0.0)
                yield Candidate(TUCKER, ranks, count, draft.work, self._exact(draft))

    def _exact(self, candidate: Candidate) -> float:
        """The loss of one candidate, before damping."""
        return self.lost(dense(candidate.way, self.factors(candidate)))

    def _tucker(self, out: int, into: int) -> list[Tensor]:
        """Tucker-2 by whitened higher-order SVD: output channels from the flat split, input channels from their own."""
        weight = self.weight
        o, c, h, w = weight.shape
        basis = torch.linalg.qr(self.spectrum(FLAT).left[:, :out])[0]
        if "channels" not in self.spectra:
            rows, columns = self.metrics()
            mode = weight.permute(1, 0, 2, 3).reshape(c, -1)
            inner = None if columns is None else _channels(_full(columns), c)
            weighted = root(rows).apply(weight.flatten(1)).reshape(o, c, h, w).permute(1, 0, 2, 3).reshape(mode.shape)
            self.spectra["channels"] = Spectrum.of(weighted, root(inner), root(None))
        second = torch.linalg.qr(self.spectra["channels"].left[:, :into])[0]  # (C, R2)
        core = torch.einsum("ocyx,op,cq->pqyx", weight, basis, second)
        return [basis[:, :, None, None], core, second.T[:, :, None, None]]


def as_matrix(weight: Tensor, way: str) -> Tensor:
    """A weight as the matrix whose rank is cut: rows are outputs, or outputs and horizontal places."""
    if way == SPATIAL:
        o, c, h, w = weight.shape
        return weight.permute(0, 3, 1, 2).reshape(o * w, c * h)
    return weight.flatten(1)


def thinned(most: int) -> list[int]:
    """Ranks from 1 to ``most``: all of them, or about ``MOST`` in geometric steps."""
    if most <= MOST:
        return list(range(1, most + 1))
    return sorted({round(most ** (k / (MOST - 1))) for k in range(MOST)})


def _full(metric: Tensor) -> Tensor:
    return metric.diag() if metric.dim() == 1 else metric


def _spatial_metrics(shape: Sequence[int], rows: Tensor | None, columns: Tensor | None) -> tuple[Tensor | None, ...]:
    """Metrics over (o, x) and (c, y), taking that of the patches for a product of one over x and one over (c, y)."""
    o, c, h, w = shape
    if columns is None:
        return (None if rows is None else torch.kron(_full(rows), torch.eye(w, dtype=rows.dtype))), None
    patch = _full(columns).reshape(c * h, w, c * h, w)
    along = torch.einsum("ixiz->xz", patch)
    across = torch.einsum("ixjx->ij", patch)
    along = along / along.diagonal().mean().clamp(min=1e-30)
    outer = torch.eye(o, dtype=patch.dtype) if rows is None else _full(rows)
    return torch.kron(outer, along), across / w


def _channels(metric: Tensor, channels: int) -> Tensor:
    """A metric of patches (C·k, C·k) summed over the places within them: (C, C)."""
    places = len(metric) // channels
    return torch.einsum("ipjp->ij", metric.reshape(channels, places, channels, places))
