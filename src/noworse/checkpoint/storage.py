"""Tensors of numpy and torch as stored elements, and as the representation that keeps them bit for bit."""

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.checkpoint.lattice import on_groups
from noworse.codec import _native
from noworse.errors import BadInput
from noworse.representation import DTYPES, Codebook, Constant, Raw, Representation, find_dtype

GLANCE = 64  # elements that tell most tensors from constant ones
STREAM_BYTES = 24  # checksum, lengths, and what an estimate of the table misses


def lossless(stored: NDArray[Any], dtype: str) -> Representation:
    """Return C-contiguous stored elements bit for bit: as one value, as a few, on others' grid, or uncopied.

    Which of these is the smallest is estimated from entropies.
    """
    raw = Raw(stored.reshape(-1).view(np.uint8).data, stored.shape, dtype)
    if not stored.size:
        return raw
    if (constant := _constant(stored, dtype)) is not None:
        return constant
    ways = [way for way in (_codebook(stored, raw), on_groups(stored, dtype)) if way is not None]
    return min((*ways, raw), key=_estimated) if ways else raw


def import_torch() -> Any:
    """Return the module torch; BadInput where it is not installed."""
    try:
        import torch
    except ImportError as error:
        raise BadInput(
            "torch is not installed: pip install noworse[torch], or read the file with framework='np'"
        ) from error
    return torch


def usable_device(device: Any) -> Any:
    """Return a device of torch by its name, number or self; BadInput for one that is unknown or not there."""
    torch = import_torch()
    try:
        place = torch.empty(0, device=torch.device(device)).device  # with its number
    except (RuntimeError, TypeError, AssertionError) as error:  # assertions: of a torch built without the device
        raise BadInput(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
    return place


def dtype_name(tensor: Any) -> str:
    """Return the name of a tensor's dtype as in ``noworse.representation.DTYPES``."""
    return tensor.dtype.name if isinstance(tensor, np.ndarray) else str(tensor.dtype).removeprefix("torch.")


def key(name: str, tensor: Any) -> tuple[Any, ...]:
    """Return a key that tensors share which are the same memory, seen alike; BadInput where one cannot be stored."""
    if isinstance(tensor, np.ndarray):
        if tensor.dtype.name not in DTYPES:
            raise BadInput(f"tensor {name!r} has dtype {tensor.dtype.name}, expected one of {', '.join(DTYPES)}")
        return tensor.__array_interface__["data"][0], tensor.shape, tensor.strides, tensor.dtype.str, tensor.dtype.name
    torch = import_torch()
    if not isinstance(tensor, torch.Tensor):
        raise BadInput(f"tensor {name!r} is a {type(tensor).__name__}, expected a tensor of torch or an array of numpy")
    if torch.nn.parameter.is_lazy(tensor):
        raise BadInput(f"tensor {name!r} of a lazy module has no shape yet: expected one that was called once")
    if tensor.layout != torch.strided or tensor.device.type == "meta" or dtype_name(tensor) not in DTYPES:
        found = f"{dtype_name(tensor)}, {tensor.layout}, on {tensor.device}"
        raise BadInput(f"tensor {name!r} is {found}; expected a dense tensor of {', '.join(DTYPES)}")
    views = tensor.is_conj(), tensor.is_neg()
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), dtype_name(tensor), str(tensor.device), views


def storage(tensor: Any) -> NDArray[Any]:
    """Return elements as they are stored, C-contiguous, bit for bit; the memory may be the tensor's own.

    bfloat16 and float8 (in numpy: of the package ml_dtypes) are only looked at as bits.
    """
    dtype = find_dtype(dtype_name(tensor))
    if isinstance(tensor, np.ndarray):
        whole = np.ascontiguousarray(tensor).reshape(tensor.shape)
        return whole.astype(dtype.storage, copy=False) if dtype.native else whole.view(dtype.storage)
    if tensor.numel() == 0:
        return np.zeros(tuple(tensor.shape), dtype.storage)
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    flat = plain.as_strided((plain.numel(),), (1,))  # reshape would keep the stride 0 of an expanded single element
    data: NDArray[Any] = flat.view(import_torch().uint8).numpy()
    return data.view(dtype.storage).reshape(tuple(tensor.shape))


def as_tensor(stored: NDArray[Any], dtype: str) -> Any:
    """Return stored elements as a tensor of torch, which shares their memory; ``dtype`` is one that torch has."""
    torch = import_torch()
    plain = stored.view(f"i{stored.itemsize}") if stored.dtype.kind == "u" else stored  # torch 2.2 has no uint16
    return torch.from_numpy(plain).view(getattr(torch, dtype))


def _constant(stored: NDArray[Any], dtype: str) -> Constant | None:
    words = stored.reshape(-1).view(f"u{min(8, stored.itemsize)}").reshape(stored.size, -1)
    if not all(bool((part == words[0]).all()) for part in (words[:GLANCE], words)):
        return None
    return Constant(words[0].tobytes(), stored.shape, dtype)


def _codebook(stored: NDArray[Any], raw: Raw) -> Codebook | None:
    if raw.dtype not in Codebook.dtypes:
        return None
    try:
        book = Codebook.from_values(stored, raw.dtype)
    except BadInput:  # too many values
        return None
    return book


def _estimated(item: Representation) -> int:
    """About the bytes that a tensor takes in a file."""
    header, _ = item.pack([item.fields])
    streams = sum(min(s.nbytes, int(_native.estimated_bytes(s))) + STREAM_BYTES for s in item.symbols())
    parts = (part for part in item.others if isinstance(part, Representation))
    return len(zlib.compress(header)) + streams + sum(map(_estimated, parts))
