"""Batches: how the samples of ``calib`` and ``verify`` are read, sliced, hashed, and fed to a model.

A batch is a tensor, a tuple or list of tensors, or a mapping from strings to tensors; samples lie along dimension 0 of
every tensor in it. The first element of a tuple is the model's input and the rest is the loss's business (labels); of
a mapping everything but the labels goes to the model as keyword arguments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from noworse.errors import BadInput

Batch: TypeAlias = Tensor | tuple[Tensor, ...] | list[Tensor] | Mapping[str, Tensor]

LABEL_KEYS = frozenset({"labels", "label", "targets"})
MINIMUM_CALIB, MINIMUM_VERIFY = 16, 30
SHARED_LIMIT = 0.002  # share of verify that may be in calib too: public data sets hold a few duplicates of their own


def inputs(batch: Batch) -> Tensor | dict[str, Tensor]:
    """What the model is called with: the tensor, the first tensor of a tuple, or the mapping without its labels."""
    if isinstance(batch, Mapping):
        return {key: value for key, value in batch.items() if key not in LABEL_KEYS}
    return batch if isinstance(batch, Tensor) else batch[0]


def forward(model: nn.Module, batch: Batch) -> Tensor:
    """The model's output tensor on a batch: ``model(tensor)`` or ``model(**mapping)``, see ``output_tensor``."""
    given = inputs(batch)
    return output_tensor(model(**given) if isinstance(given, dict) else model(given))


def output_tensor(result: Any) -> Tensor:
    """The tensor itself, the ``logits`` of a mapping or object, else the first tensor in it; BadInput if none."""
    if isinstance(result, Tensor):
        return result
    logits = result.get("logits") if isinstance(result, Mapping) else getattr(result, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    values: Iterable[Any] = ()
    if isinstance(result, Mapping):
        values = result.values()
    elif isinstance(result, (tuple, list)):
        values = result
    for value in values:
        if isinstance(value, Tensor):
            return value
    raise BadInput(f"the model returned {type(result).__name__}: expected a tensor, a tuple or a mapping holding one")


def leaves(batch: Batch) -> list[Tensor]:
    """The tensors of a batch, mappings in their own order."""
    if isinstance(batch, Tensor):
        return [batch]
    return list(batch.values()) if isinstance(batch, Mapping) else list(batch)


def batch_size(batch: Batch) -> int:
    """Number of samples in a batch."""
    return len(leaves(batch)[0])


def apply(batch: Batch, function: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with every tensor replaced by the function's value of it."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {key: function(value) for key, value in batch.items()}
    return _rebuild(batch, [function(value) for value in batch])


def _rebuild(like: tuple[Tensor, ...] | list[Tensor], values: list[Tensor]) -> Batch:
    if isinstance(like, list):
        return values
    make: Any = type(like)
    batch: Batch = make(*values) if hasattr(like, "_fields") else tuple(values)
    return batch


def select(batch: Batch, rows: Tensor | slice) -> Batch:
    """The given samples of a batch, as a batch of the same kind."""
    return apply(batch, lambda tensor: tensor[rows])


def copied(batch: Batch) -> Batch:
    """Return the batch with a copy of every tensor, for whoever may write into it."""
    return apply(batch, torch.clone)


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """The batch with every tensor on the given device."""
    return apply(batch, lambda tensor: tensor.to(device))


def concatenate(batches: Sequence[Batch]) -> Batch:
    """One batch with the samples of all; BadInput where their tensors disagree in kind or trailing dimensions."""
    if not batches:
        raise BadInput("no batches to concatenate: expected at least one")
    first = batches[0]
    for index, batch in enumerate(batches):
        _check_like(batch, first, f"batch {index}")
    try:
        columns = [torch.cat(column) for column in zip(*map(leaves, batches), strict=True)]
    except RuntimeError as error:
        raise BadInput(f"batches of different shapes cannot become one batch: {error}") from error
    if isinstance(first, Tensor):
        return columns[0]
    return dict(zip(first, columns, strict=True)) if isinstance(first, Mapping) else _rebuild(first, columns)


def joinable(batches: Sequence[Batch]) -> bool:
    """Whether the batches can become one: tensors of the same kind and the same trailing dimensions in all of them."""

    def trailing(batch: Batch) -> list[tuple[Any, ...]]:
        shapes = [tuple(tensor.shape[1:]) for tensor in leaves(batch)]
        return list(zip(_structure(batch), shapes, strict=True))

    return bool(batches) and all(
        type(batch) is type(batches[0]) and trailing(batch) == trailing(batches[0]) for batch in batches
    )


def to_float32(batch: Batch, channels_last: bool = True) -> Batch:
    """Return the batch with every floating-point tensor in float32, images with channels last where that is asked for.

    Its tensors are nowhere the caller's own: a forward may write into what it is given. CPUs prefer images in that
    layout; a model whose forward calls ``view`` may not take it (task/layout.py).
    """

    def convert(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor.clone()
        layout = torch.channels_last if channels_last and tensor.ndim == 4 else torch.preserve_format
        found = tensor.to(torch.float32, memory_format=layout)
        return found.clone() if found is tensor else found

    return apply(batch, convert)


def split(batches: Sequence[Batch], share: float, seed: int) -> tuple[list[Batch], list[Batch]]:
    """The batches in two random parts, the second with about ``share`` of the samples; none is left empty.

    Samples are drawn one by one where the batches are joinable, otherwise whole batches are. BadInput where there is
    only one to draw.
    """
    joined = joinable(batches)
    largest = max(map(batch_size, batches), default=1)
    whole = concatenate(batches) if joined else None
    count = len(batches) if whole is None else batch_size(whole)
    if count < 2:
        raise BadInput(f"{count} sample or batch cannot be split in two: expected at least two")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    second = min(max(round(share * count), 1), count - 1)
    parts = []
    for rows in (order[second:], order[:second]):
        if whole is None:
            parts.append([batches[int(index)] for index in rows])
        else:
            parts.append([select(whole, piece) for piece in torch.split(rows, largest)])
    return parts[0], parts[1]


def _check(batch: Any, where: str) -> None:
    """BadInput unless ``batch`` is one: tensors only, at least one sample, the same number of samples in each."""
    if not isinstance(batch, (Tensor, tuple, list, Mapping)):
        raise BadInput(f"{where} is {type(batch).__name__}: expected a tensor, a tuple of tensors or a dict of tensors")
    if isinstance(batch, Mapping):
        named = {f"[{key!r}]": value for key, value in batch.items()}
    else:
        named = {"": batch} if isinstance(batch, Tensor) else {f"[{i}]": value for i, value in enumerate(batch)}
    if not named:
        raise BadInput(f"{where} is an empty {type(batch).__name__}: expected at least one tensor")
    for key, value in named.items():
        if not isinstance(value, Tensor):
            raise BadInput(f"{where}{key} is {type(value).__name__}: expected a tensor")
        if value.ndim == 0:
            raise BadInput(f"{where}{key} is a 0-dimensional tensor: expected samples along dimension 0")
    sizes = {key: len(value) for key, value in named.items()}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{size} in {key}" for key, size in sizes.items())
        raise BadInput(f"the tensors of {where} disagree on the number of samples: {found}")
    if 0 in sizes.values():
        raise BadInput(f"{where} holds no samples: expected at least one")


def _structure(batch: Batch) -> list[tuple[Any, torch.dtype, int]]:
    keys = list(batch) if isinstance(batch, Mapping) else range(len(leaves(batch)))
    return [(key, tensor.dtype, tensor.ndim) for key, tensor in zip(keys, leaves(batch), strict=True)]


def _check_like(batch: Batch, first: Batch, where: str) -> None:
    if isinstance(batch, Tensor) != isinstance(first, Tensor) or _structure(batch) != _structure(first):
        found, expected = (
            ", ".join(f"{key}: {dtype} with {ndim} dims" for key, dtype, ndim in _structure(each))
            for each in (batch, first)
        )
        raise BadInput(f"{where} differs from batch 0 (is it a batch?): found {found}; expected {expected}")


def checked(data: Iterable[Batch], what: str) -> Iterator[Batch]:
    """The batches of ``data``, each checked as it passes; BadInput names ``what`` ("calib", "verify") and the batch."""
    if isinstance(data, (Tensor, Mapping, str)) or not isinstance(data, Iterable):
        # a tensor is iterable, but over its samples: taking them for batches would go wrong silently
        raise BadInput(f"{what} is one {type(data).__name__}: expected an iterable of batches, such as a DataLoader")
    first: Batch | None = None
    for index, batch in enumerate(data):
        where = f"{what} batch {index}"
        _check(batch, where)
        first = batch if first is None else first
        _check_like(batch, first, where)
        yield batch


def require(samples: int, what: str, minimum: int) -> None:
    """BadInput unless there are at least ``minimum`` samples."""
    if samples < minimum:
        found = f"holds {samples} sample{'s' * (samples != 1)}" if samples else "is empty"
        raise BadInput(f"{what} {found}: expected at least {minimum} samples")


def materialise(data: Iterable[Batch], what: str, minimum: int) -> list[Batch]:
    """All batches in a list; BadInput when they are no batches, or hold fewer than ``minimum`` samples."""
    batches = list(checked(data, what))
    require(sum(map(batch_size, batches)), what, minimum)
    return batches


def disjoint(calib: Iterable[Batch], verify: Iterable[Batch]) -> tuple[list[Batch], list[Batch]]:
    """What chooses and what judges, as lists; BadInput where either is too small, or they share samples."""
    choosing = materialise(calib, "calib", MINIMUM_CALIB)
    judging = materialise(verify, "verify", MINIMUM_VERIFY)
    shared = shared_samples(choosing, judging)
    if shared > SHARED_LIMIT * sum(map(batch_size, judging)):
        raise BadInput(f"{shared} samples of verify are in calib too: expected held-out data")
    return choosing, judging


def first_samples(batches: Iterable[Batch], count: int, at_a_time: int) -> Iterator[Batch]:
    """The first ``count`` samples of ``batches`` or a few more, at most ``at_a_time`` together."""
    seen = 0
    for batch in batches:
        for rows in torch.split(torch.arange(batch_size(batch)), at_a_time):
            if seen >= count:
                return
            yield select(batch, rows)
            seen += len(rows)


def shared_samples(calib: Iterable[Batch], verify: Iterable[Batch]) -> int:
    """Number of ``verify`` samples whose inputs (not labels) are byte for byte those of a ``calib`` sample.

    Sequences of integers are compared without their trailing zeros, so that padding to the longest sequence of a batch
    does not hide a shared text.
    """
    known = {digest for batch in calib for digest in _digests(batch)}
    return sum(digest in known for batch in verify for digest in _digests(batch))


def _digests(batch: Batch) -> Iterator[bytes]:
    given = inputs(batch)
    columns = list(given.items()) if isinstance(given, dict) else [("", given)]
    prepared = []
    for key, tensor in sorted(columns, key=lambda item: item[0]):
        sequence = tensor.ndim == 2 and not tensor.is_floating_point() and not tensor.is_complex()
        shape = () if sequence else tensor.shape[1:]
        flat = tensor.detach().cpu().flatten(1) if tensor.ndim > 1 else tensor.detach().cpu().unsqueeze(1)
        rows = flat.contiguous().view(torch.uint8).numpy()  # (B, bytes)
        prepared.append((f"{key} {tensor.dtype} {tuple(shape)}\n".encode(), rows, sequence))
    for index in range(batch_size(batch)):
        state = hashlib.blake2b(digest_size=16)
        for head, rows, sequence in prepared:
            data = rows[index].tobytes()
            state.update(head + (data.rstrip(b"\0") if sequence else data) + b"\n")
        yield state.digest()
