"""What a compression was given, as digests: to tell whether two processes, or two runs, were given the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from noworse.task.data import Batch, leaves


def _digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    state = hashlib.blake2b(digest_size=16)
    for name, tensor in tensors:
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        state.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return state.hexdigest()


def of_module(module: nn.Module) -> str:
    """Digest of every entry of a module's state that is a tensor: names, shapes, dtypes and elements."""
    return _digest((name, value) for name, value in module.state_dict().items() if isinstance(value, Tensor))


def of_batches(batches: Iterable[Batch]) -> str:
    """Digest of the tensors of all batches, in their order."""
    return _digest((str(index), tensor) for index, batch in enumerate(batches) for tensor in leaves(batch))
