"""Tensors of numpy and torch as stored elements, and as the representation that keeps them bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.errors import BadInput
from noworse.representation import DTYPES, Constant, Raw, find_dtype

GLANCE = 64  # elements that tell most tensors from constant ones


def lossless(stored: NDArray[Any], dtype: str) -> Constant | Raw:
    """C-contiguous stored elements bit for bit: as one value where all agree, else as they are, without a copy."""
    return _constant(stored, dtype) or Raw(stored.reshape(-1).view(np.uint8).data, stored.shape, dtype)


def import_torch() -> Any:
    """The module torch; BadInput where it is not installed."""
    try:
        import torch
    except ImportError as error:
        raise BadInput(
            "torch is not installed: pip install noworse[torch], or read the file with framework='numpy'"
        ) from error
    return torch


def dtype_name(tensor: Any) -> str:
    """The name of a tensor's dtype as in ``noworse.representation.DTYPES``."""
    return tensor.dtype.name if isinstance(tensor, np.ndarray) else str(tensor.dtype).removeprefix("torch.")


def numpy_key(name: str, array: NDArray[Any]) -> tuple[Any, ...]:
    """What arrays agree in that are the same memory seen the same way; BadInput where it cannot be stored."""
    if array.dtype.name not in DTYPES:
        raise BadInput(f"tensor {name!r} has dtype {array.dtype.name}, expected one of {', '.join(DTYPES)}")
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str, array.dtype.name


def torch_key(name: str, tensor: Any) -> tuple[Any, ...]:
    """The same for torch."""
    torch = import_torch()
    if not isinstance(tensor, torch.Tensor):
        raise BadInput(f"tensor {name!r} is a {type(tensor).__name__}, expected a tensor of torch or an array of numpy")
    if tensor.layout != torch.strided or tensor.device.type == "meta" or dtype_name(tensor) not in DTYPES:
        found = f"{dtype_name(tensor)}, {tensor.layout}, on {tensor.device}"
        raise BadInput(f"tensor {name!r} is {found}; expected a dense tensor of {', '.join(DTYPES)}")
    views = tensor.is_conj(), tensor.is_neg()
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), dtype_name(tensor), str(tensor.device), views


def numpy_storage(array: NDArray[Any]) -> NDArray[Any]:
    """Elements as they are stored; bfloat16 and float8 (of the package ml_dtypes) are only looked at as bits."""
    dtype = find_dtype(array.dtype.name)
    whole = np.ascontiguousarray(array).reshape(array.shape)
    return whole.astype(dtype.storage, copy=False) if dtype.native else whole.view(dtype.storage)


def torch_storage(tensor: Any) -> NDArray[Any]:
    """The same for torch; the memory may be the tensor's own."""
    if tensor.numel() == 0:
        return np.zeros(tuple(tensor.shape), find_dtype(dtype_name(tensor)).storage)
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    flat = plain.as_strided((plain.numel(),), (1,))  # reshape would keep the stride 0 of an expanded single element
    data: NDArray[Any] = flat.view(import_torch().uint8).numpy()
    return data.view(find_dtype(dtype_name(tensor)).storage).reshape(tuple(tensor.shape))


def _constant(stored: NDArray[Any], dtype: str) -> Constant | None:
    if not stored.size:
        return None
    words = stored.reshape(-1).view(f"u{min(8, stored.itemsize)}").reshape(stored.size, -1)
    if not all(bool((part == words[0]).all()) for part in (words[:GLANCE], words)):
        return None
    return Constant(words[0].tobytes(), stored.shape, dtype)
