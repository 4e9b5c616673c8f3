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

from noworse.datafree.outliers import LARGEST_CODE
from noworse.propose.grids.grid import GridSet
from noworse.propose.grids.transform import decode, magnitude

COARSEST = 2.5  # largest step at the start from nearest rounding, in units of the tensor's root mean square
LARGEST_STEP = 8.0  # the same before weights are moved: what a tensor of mostly zeros loses, few others make up for
UNUSED, HARD = 0.5, 1 / 16  # the same, fixed, for tensors that calib never reaches, or that have no gradient
BISECTIONS = 18
TINY = 1e-300  # a scale below all that steps are limited to, as its inverse is above
REACHABLE = 0.85  # of n·log2 n bits, which the empirical entropy of n codes cannot exceed
DAMPING = 0.01  # of the mean input energy, added to each unless told otherwise: calibration samples are few
BLOCK = 64  # columns whose corrections are applied to the rest at once
AT_ONCE = 1024  # blocks of a layer that are rounded together
FACTORED = 1 << 20  # elements of moments that are factored together
ATTEMPTS, SLACK = 8, 0.003  # at a start, and how far from its bits that may stay, as a logarithm


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
    grids: GridSet, sensitivity: Mapping[str, float], bits: float, scratch: Tensor, coarsest: float = COARSEST
) -> float:
    """Set equal-slope steps at which codes of tuned tensors take about ``bits`` bits; return the multiplier λ of that.

    λ is in loss units per (bit per weight): the slope of loss against rate is ln 2 · F·s²/12 per bit. Where so many
    bits are given to so few weights that each could have a code of its own, steps stay at 85 % of the most entropy.
    """
    bits = min(bits, REACHABLE * sum(spec.tuned * n * math.log2(n) for n, spec in zip(grids.sizes, grids.specs)))
    low, high = _scales(grids, sensitivity, coarsest)
    for _ in range(BISECTIONS):
        scale = 0.5 * (low + high)
        grids.log_step.copy_(equal_slope_steps(grids, sensitivity, math.exp(scale), coarsest).log())
        grids.quantise(scratch)
        low, high = (scale, high) if float(grids.bits[grids.tuned].sum()) > bits else (low, scale)
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
    codes = magnitude(weights.abs() / step - zone).clamp_(max=most)
    return torch.copysign(decode(codes, zone) * step, weights)


def signed_codes(weights: Tensor, step: float, zone: float) -> Tensor:
    """Return the code of each weight, int32."""
    return torch.copysign(magnitude(weights.abs() / step - zone), weights).int()


def _compensate(rows: Tensor, factor: Tensor, round_: Callable[[Tensor], Tensor], gone: Tensor | None = None) -> None:
    """Move weights (G, R, I) to where they stand when they are rounded, for the factors U (G, I, I) of their groups.

    Those that are ``gone`` (G, R, I) become zero, whatever others move them by.
    """
    size = rows.shape[2]
    for start in range(0, size, BLOCK):
        end = min(start + BLOCK, size)
        errors = torch.zeros_like(rows[:, :, start:end])
        for j in range(start, end):
            column = rows[:, :, j]
            rounded = round_(column) if gone is None else round_(column).masked_fill_(gone[:, :, j], 0)
            error = (column - rounded) / factor[:, None, j, j]
            rows[:, :, j + 1 : end] -= error[:, :, None] * factor[:, None, j, j + 1 : end]
            errors[:, :, j - start] = error
        rows[:, :, end:] -= errors @ factor[:, start:end, end:]


class Layer:
    """How one layer's weights of ``shape`` (O, ...) are rounded, from moments X (G·B, I/B, I/B) of its inputs.

    The rows of a group are cut into B blocks of columns, which know nothing of each other. ``damping`` is a share of
    the mean input energy, added to each.
    """

    def __init__(self, shape: Sequence[int], moments: Tensor, damping: float = DAMPING) -> None:
        self.shape = tuple(shape)
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
        rows, absent = self._rows(weights), None if gone is None else self._rows(gone)
        moved = torch.empty_like(rows)
        for start in range(0, len(rows), AT_ONCE):  # a few blocks in float64 at a time
            part = slice(start, start + AT_ONCE)
            order = self.order[part, None]
            used = rows[part] * self.used[part, None]  # idle inputs mean nothing
            found = torch.take_along_dim(used, order, 2).double()
            factor = found.new_zeros(len(found), size, size)
            factor[:, _triangle(size)] = self._upper[part].double()
            out = None if absent is None else torch.take_along_dim(absent[part], order, 2)
            _compensate(found, factor, round_, out)
            moved[part] = torch.take_along_dim(found, order.argsort(2), 2)
        joined = moved.reshape(count // self.blocks, self.blocks, -1, size).transpose(1, 2)
        return joined.reshape(self.shape).float()

    def _rows(self, weights: Tensor) -> Tensor:
        """Weights (O, ...) as blocks of columns of groups of rows, (G·B, O/G, I/B)."""
        count, size = self.order.shape
        split = weights.reshape(count // self.blocks, -1, self.blocks, size)
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


@torch.no_grad()
def start_compensated(
    grids: GridSet,
    sensitivity: Mapping[str, float],
    layers: Mapping[str, Layer],
    bits: float,
    scratch: Tensor,
    cost: Callable[[], float],
    originals: tuple[Tensor, ...],
) -> tuple[float, float]:
    """Set steps as ``start_at`` does, and move the weights of all ``layers`` to where rounding compensates itself.

    ``originals`` is the state of the grids (``GridSet.state``) to start from, ``cost()`` tells the bits of the codes as
    they are written. Moved weights take more of them: it is tried again with larger steps until codes take about
    ``bits`` bits. Return the multiplier λ, and the bits they take.
    """
    slopes = {name: f * (layers[name].curvature() if name in layers else 1.0) for name, f in sensitivity.items()}
    asked = bits
    for _ in range(ATTEMPTS):
        grids.restore(originals)
        multiplier = start_at(grids, slopes, asked, scratch, LARGEST_STEP)
        settings = zip(grids.specs, grids.steps().tolist(), grids.zones().tolist(), strict=True)
        for k, (spec, step, zone) in enumerate(settings):
            if spec.name in layers:
                weights = spec.unflatten(grids.weights(k))
                gone = spec.outliers.mask(spec.shape) if len(spec.outliers.places) else None
                grids.set_weights(k, layers[spec.name].compensated(weights, step, zone, gone=gone))
        grids.quantise(scratch)
        found = cost()
        if abs(math.log(found / bits)) <= SLACK:
            break
        asked *= bits / found
    return multiplier, found
