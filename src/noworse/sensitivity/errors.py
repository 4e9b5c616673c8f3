"""Errors that compression makes: rounding to a grid and truncation to a rank, as functions of the tensor."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from noworse.model.quantized import WAYS


def weight_rounding(bits: int, rounding: str = "nearest") -> Callable[[Tensor], Tensor]:
    """Return the error of weights (O, ...) on 2^bits − 1 symmetric levels up to each row's largest, as a function."""
    top = 2 ** (bits - 1) - 1

    def error(weights: Tensor) -> Tensor:
        rows = weights.reshape(len(weights) if weights.ndim > 1 else 1, -1)
        step = rows.abs().amax(1, keepdim=True) / top
        step = torch.where(step > 0, step, 1.0)
        levels = WAYS[rounding](rows / step).clamp(-top, top)
        return (levels * step - rows).reshape(weights.shape)

    return error


def input_rounding(bits: int, rounding: str = "nearest") -> Callable[[Tensor], Tensor]:
    """Return the error of activations on 2^bits levels between their extremes, zero being one, as a function."""

    def error(inputs: Tensor) -> Tensor:
        low, high = inputs.amin().clamp_max(0), inputs.amax().clamp_min(0)
        step = (high - low) / (2**bits - 1)
        step = torch.where(step > 0, step, 1.0)
        bottom = torch.round(low / step)
        levels = WAYS[rounding](inputs / step).clamp(bottom, bottom + 2**bits - 1)
        return levels * step - inputs

    return error


def truncation(share: float) -> Callable[[Tensor], Tensor]:
    """Return the error of the nearest weights of ``share`` of the rank where factors save nothing, as a function."""

    def error(weights: Tensor) -> Tensor:
        matrix = weights.reshape(len(weights), -1)
        rank = max(1, int(share * matrix.numel() / sum(matrix.shape)))
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        return -((left[:, rank:] * values[rank:]) @ right[rank:]).reshape(weights.shape)  # type: ignore[no-any-return]

    return error
