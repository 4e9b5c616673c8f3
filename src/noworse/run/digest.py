"""What a compression was given, as digests: to tell whether two processes, or two runs, were given the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from noworse.task.data import Batch, leaves


def content(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor's elements, without a copy where they lie in memory as they are."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def digest(tensors: Iterable[tuple[str, Tensor]], text: str = "") -> str:
    """Return one digest of a text and of tensors: their names, shapes, dtypes and elements, in their order."""
    state = hashlib.blake2b(text.encode(), digest_size=16)
    for name, tensor in tensors:
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        state.update(content(tensor))
    return state.hexdigest()


def of_module(module: nn.Module) -> str:
    """Return the digest of every entry of a module's state that is a tensor."""
    return digest((name, value) for name, value in module.state_dict().items() if isinstance(value, Tensor))


def of_batches(batches: Iterable[Batch]) -> str:
    """Return the digest of the tensors of all batches, in their order."""
    return digest((str(index), tensor) for index, batch in enumerate(batches) for tensor in leaves(batch))
