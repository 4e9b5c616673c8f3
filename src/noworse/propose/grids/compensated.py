"""Where tuning starts: steps of equal slope, and rounding that makes up for its own error, column after column.

The latter is optimal brain surgeon; the formulas are in docs/method.md, with X = E[x xᵀ] of a layer's inputs and
UᵀU = X⁻¹. Columns of large input energy go first, while there are many left to make up for them. Weights as they stood
when their turn came are where tuning starts: rounding each of them to its nearest grid point gives the codes.

Source: Hassibi and Stork, Optimal brain surgeon (1993); Frantar et al., GPTQ (ICLR 2023), the order of columns.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from noworse.datafree.outliers import LARGEST_CODE
from noworse.model.device import wide
from noworse.propose.grids.grid import GridSet
from noworse.propose.grids.transform import magnitude

COARSEST = 2.5  # largest step at the start from nearest rounding, in units of the tensor's root mean square
LARGEST_STEP = 8.0  # the same before weights are moved: what a tensor of mostly zeros loses, few others make up for
UNUSED, HARD = 0.5, 1 / 16  # the same, fixed, for tensors that calib never reaches, or that have no gradient
BISECTIONS = 18
TINY = 1e-300  # a scale below all that steps are limited to, as its inverse is above
REACHABLE = 0.85  # of n·log2 n bits, which the empirical entropy of n codes cannot exceed
DAMPING = 0.01  # of the mean input energy, added to each unless told otherwise: calibration samples are few
BLOCK = 32  # columns that are rounded one by one before others are corrected
AT_ONCE = 1 << 20  # weights in float64 at a time
FACTORED = 1 << 20  # elements of moments that are factored together
Meter = Callable[[], Tensor]


def equal_slope_steps(
    grids: GridSet, sensitivity: Mapping[str, float], scale: float, coarsest: float = COARSEST
) -> Tensor:
    """Return steps s = scale/√F (K,), between what the file can hold and ``coarsest`` root mean squares of the tensor.

    At high rates the loss ½·F·n·s²/12 then falls by the same amount per bit in every tensor. Limits on the bits of a
    tensor (tune/control.py) come last.
    """
    steps = []
    for k, spec in enumerate(grids.specs):
        most = (coarsest if spec.tuned else HARD if spec.hard else UNUSED) * grids.rms[k]
        wanted = scale / math.sqrt(sensitivity[spec.name]) if spec.tuned else most
        steps.append(min(max(wanted, grids.largest[k] / LARGEST_CODE), most))
    return torch.tensor(steps, device="cpu").clamp(grids.finest, grids.coarsest)


@torch.no_grad()
def start_at(
    grids: GridSet, sensitivity: Mapping[str, float], bits: float, meter: Meter, coarsest: float = COARSEST
) -> float:
    """Set equal-slope steps at which codes of tuned tensors take about ``bits`` bits; return the multiplier λ of that.

    ``meter`` (``GridSet.meter``) tells what codes take at the steps of the moment.
    λ is in loss units per (bit per weight): the slope of loss against rate is ln 2 · F·s²/12 per bit. Where so many
    bits are given to so few weights that each could have a code of its own, steps stay at 85 % of the most entropy.
    """
    bits = min(bits, REACHABLE * sum(spec.tuned * n * math.log2(n) for n, spec in zip(grids.sizes, grids.specs)))
    low, high = _scales(grids, sensitivity, coarsest)
    for _ in range(BISECTIONS):
        scale = 0.5 * (low + high)
        grids.log_step.copy_(equal_slope_steps(grids, sensitivity, math.exp(scale), coarsest).log())
        low, high = (scale, high) if float(meter()[grids.tuned].sum()) > bits else (low, scale)
    grids.rebase()
    parts = zip(grids.sizes, grids.specs, grids.steps(), strict=True)
    return math.log(2) * sum(n * (sensitivity[spec.name] * float(s) ** 2) for n, spec, s in parts) / 12


def _scales(grids: GridSet, sensitivity: Mapping[str, float], coarsest: float) -> tuple[float, float]:
    """ln of the scales at which all tuned tensors have their finest and their coarsest step, however far apart."""
    roots = [math.sqrt(sensitivity[spec.name]) if spec.tuned else math.nan for spec in grids.specs]
    ends = [
        [float(s) * root for s, root in zip(equal_slope_steps(grids, sensitivity, scale, coarsest), roots) if root > 0]
        for scale in (TINY, 1 / TINY)
    ]
    return math.log(min(ends[0])), math.log(max(ends[1]))


def nearest(weights: Tensor, step: float, zone: float, most: float = math.inf) -> Tensor:
    """Return ŵ on the grid of step s with zero bin ±``zone``·s and codes up to ±``most``, of weights of any shape."""
    codes = weights.abs().div_(step).sub_(zone).floor_().add_(1)
    if most < math.inf:
        codes.clamp_(max=most)
    values = F.threshold(codes.add_(zone - 0.5), zone, 0.0, inplace=True)  # all else is beyond the zone
    return values.mul_(step).copysign_(weights)


def signed_codes(weights: Tensor, step: float, zone: float) -> Tensor:
    """Return the code of each weight, int32."""
    return torch.copysign(magnitude(weights.abs() / step - zone), weights).int()


def _compensate(
    columns: Tensor, errors: Tensor, factor: Tensor, round_: Callable[[Tensor], Tensor], gone: Tensor | None = None
) -> None:
    """Move weights (G, I, R) to where they stand when they are rounded, for the factors U (G, I, I) of their groups.

    Errors divided by U_jj are left in ``errors`` (G, I, R). Weights that are ``gone`` (G, I, R) become zero, whatever
    others move them by. One half after the other: most of the work is products of large matrices.
    """
    size = columns.shape[1]
    if size > BLOCK:
        half = -(-size // (2 * BLOCK)) * BLOCK
        parts = slice(0, half), slice(half, size)
        for part in parts:
            out = None if gone is None else gone[:, part]
            _compensate(columns[:, part], errors[:, part], factor[:, part, part], round_, out)
            if part is parts[0]:
                columns[:, half:].baddbmm_(factor[:, :half, half:].transpose(1, 2), errors[:, :half], alpha=-1)
        return
    pivots = factor.diagonal(dim1=1, dim2=2).unsqueeze(2).unbind(1)
    for j, (column, error, pivot) in enumerate(zip(columns.unbind(1), errors.unbind(1), pivots, strict=True)):
        rounded = round_(column) if gone is None else round_(column).masked_fill_(gone[:, j], 0)
        torch.sub(column, rounded, out=error).div_(pivot)
        if j + 1 < size:
            columns[:, j + 1 :].baddbmm_(factor[:, j, j + 1 :, None], error.unsqueeze(1), alpha=-1)


class Layer:
    """How one layer's weights of ``shape`` (O, ...) are rounded, from moments X (G·B, I/B, I/B) of its inputs.

    The rows of a group are cut into B blocks of columns, which know nothing of each other. ``damping`` is a share of
    the mean input energy, added to each.
    """

    def __init__(self, shape: Sequence[int], moments: Tensor, damping: float = DAMPING) -> None:
        self.shape, moments = tuple(shape), moments.to(wide(moments.device))
        self.blocks = math.prod(self.shape[1:]) // moments.shape[1]
        energy = moments.diagonal(dim1=1, dim2=2)  # (G·B, I/B)
        self.used, self.energy = energy > 0, float(energy.mean())
        groups, size = len(moments) // self.blocks, moments.shape[1]
        ranked = energy.reshape(groups, self.blocks, -1).sum(0).argsort(descending=True, stable=True)
        self.order = ranked.repeat(groups, 1)  # (G·B, I/B)
        self._upper = moments.new_empty(len(moments), size * (size + 1) // 2)  # of U, what is not zero
        at_once = max(1, FACTORED // size**2)  # few, since they are float64
        for start in range(0, len(moments), at_once):
            part, order = slice(start, start + at_once), self.order[start : start + at_once]
            rows = torch.take_along_dim(moments[part], order[:, :, None], 1)
            factor = _factor(torch.take_along_dim(rows, order[:, None], 2).double(), damping)
            self._upper[part] = factor[:, _triangle(size)].to(moments.dtype)

    def curvature(self) -> float:
        """Return the geometric mean of 1/U_jj² as a share of the mean input energy: what is left of an error.

        Equal slopes of loss against rate need it: a step s costs ½ F·s²/12 per weight times this share.
        """
        size = self.order.shape[1]
        diagonal = self._upper[:, torch.eye(size, dtype=torch.bool, device="cpu")[_triangle(size)]]
        pivots = diagonal[torch.take_along_dim(self.used, self.order, 1)]
        return float(pivots.double().log().mean().mul(-2).exp()) / self.energy if len(pivots) else 1.0

    def compensated(
        self, weights: Tensor, step: float, zone: float, most: float = math.inf, gone: Tensor | None = None
    ) -> Tensor:
        """Return the weights as they stand when they are rounded, in their own shape, with codes up to ±``most``.

        Of those that are ``gone`` (of the same shape), outliers, the rest on a grid is zero.
        """
        round_ = functools.partial(nearest, step=step, zone=zone, most=most)
        count, size = self.order.shape
        rows, absent = self._rows(weights), None if gone is None else self._rows(gone)  # where there is float64
        moved = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
        height = max(1, AT_ONCE // size)  # rows in float64 at a time, of one block or of several
        together = max(1, min(height // rows.shape[1], FACTORED // size**2))
        for first in range(0, count, together):
            part = slice(first, first + together)
            order = self.order[part, :, None]
            back = order.argsort(1)
            factor = self._factor(part)
            for top in range(0, rows.shape[1], height):
                here = slice(top, top + height)
                columns = rows[part, here].transpose(1, 2) * self.used[part, :, None]  # idle inputs mean nothing
                found = torch.take_along_dim(columns, order, 1).double()
                out = None if absent is None else torch.take_along_dim(absent[part, here].transpose(1, 2), order, 1)
                _compensate(found, torch.empty_like(found), factor, round_, out)
                moved[part, here] = torch.take_along_dim(found, back, 1).transpose(1, 2).float()
        joined = moved.reshape(count // self.blocks, self.blocks, -1, size).transpose(1, 2)
        return joined.reshape(self.shape)

    def _factor(self, part: slice) -> Tensor:
        """U (G, I, I) of some blocks, in float64."""
        size = self.order.shape[1]
        factor = torch.zeros(len(self._upper[part]), size, size, dtype=torch.float64, device=self._upper.device)
        for j, row in enumerate(torch.split(self._upper[part], list(range(size, 0, -1)), 1)):
            factor[:, j, j:] = row
        return factor

    def _rows(self, weights: Tensor) -> Tensor:
        """Weights (O, ...) as blocks of columns of groups of rows, (G·B, O/G, I/B)."""
        count, size = self.order.shape
        split = weights.to(self.order.device).reshape(count // self.blocks, -1, self.blocks, size)
        return split.transpose(1, 2).flatten(0, 1)


def _triangle(size: int) -> Tensor:
    """Where an upper triangular matrix is not zero, (I, I)."""
    return torch.ones(size, size, dtype=torch.bool, device="cpu").triu_()


def _factor(moments: Tensor, damping: float) -> Tensor:
    """U (G, I, I), upper triangular with UᵀU = X⁻¹, of damped X, which is overwritten."""
    diagonal = moments.diagonal(dim1=1, dim2=2)
    mean = diagonal.mean(1, keepdim=True)
    diagonal += torch.where(mean > 0, damping * mean, 1.0)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor
