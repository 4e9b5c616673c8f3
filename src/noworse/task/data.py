"""Batches: how the samples of ``calib`` and ``verify`` are read, sliced, hashed, and fed to a model.

A batch is a tensor, a tuple or list of tensors, or a mapping from strings to tensors; samples lie along dimension 0 of
every tensor in it. The first element of a tuple is the model's input and the rest is the loss's business (labels); of
a mapping everything but the labels goes to the model as keyword arguments.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.model.device import CPU, seeded

Batch: TypeAlias = Tensor | tuple[Tensor, ...] | list[Tensor] | Mapping[str, Tensor]

LABEL_KEYS = frozenset({"labels", "label", "targets"})
MINIMUM_CALIB, MINIMUM_VERIFY = 16, 30
SHARED_LIMIT = 0.002  # share of verify that may be in calib too: public data sets hold a few duplicates of their own


def inputs(batch: Batch) -> Tensor | dict[str, Tensor]:
    """Return what a model is called with: a tensor, the first of a tuple, or a mapping without its labels."""
    if isinstance(batch, Mapping):
        return {key: value for key, value in batch.items() if key not in LABEL_KEYS}
    return batch if isinstance(batch, Tensor) else batch[0]


def forward(model: nn.Module, batch: Batch) -> Tensor:
    """Return a model's ``output_tensor`` on a batch, of ``model(tensor)`` or ``model(**mapping)``."""
    given = inputs(batch)
    return output_tensor(model(**given) if isinstance(given, dict) else model(given))


def output_tensor(result: Any) -> Tensor:
    """Return a tensor itself, the ``logits`` of a mapping or object, the first of a tuple, the only one of a mapping.

    BadInput for anything else.
    """
    mapping = isinstance(result, Mapping)
    logits = result.get("logits") if mapping else getattr(result, "logits", None)
    for value in (result, logits, *(result if isinstance(result, (tuple, list)) else ())):
        if isinstance(value, Tensor):
            return value
    named = [key for key, value in result.items() if isinstance(value, Tensor)] if mapping else []
    if len(named) == 1:
        only: Tensor = result[named[0]]
        return only
    found = f"{type(result).__name__} of {', '.join(map(str, named))}" if named else type(result).__name__
    expected = "a tensor, a tuple with one in front, logits, or a forward= that returns what is to be compared"
    raise BadInput(f"the model returned {found}: expected {expected}")


def columns(batch: Batch) -> Mapping[Any, Tensor]:
    """Return the tensors of a batch by key, or by number."""
    return batch if isinstance(batch, Mapping) else dict(enumerate([batch] if isinstance(batch, Tensor) else batch))


def leaves(batch: Batch) -> list[Tensor]:
    """Return the tensors of a batch, of a mapping in its own order."""
    return list(columns(batch).values())


def batch_size(batch: Batch) -> int:
    """Return the number of samples in a batch."""
    return len(leaves(batch)[0])


def _rebuilt(like: Batch, values: list[Tensor]) -> Batch:
    """Tensors as a batch of the kind of another."""
    if isinstance(like, Tensor):
        return values[0]
    if isinstance(like, Mapping):
        return dict(zip(like, values, strict=True))
    make: Any = type(like)
    return values if isinstance(like, list) else make(*values) if hasattr(like, "_fields") else tuple(values)


def apply(batch: Batch, function: Callable[[Tensor], Tensor]) -> Batch:
    """Return the batch with every tensor replaced by the function's value of it."""
    return _rebuilt(batch, [function(tensor) for tensor in leaves(batch)])


def select(batch: Batch, rows: Tensor | slice) -> Batch:
    """Return the given samples of a batch, as a batch of the same kind."""
    return apply(batch, lambda tensor: tensor[rows])


def copied(batch: Batch, device: torch.device | None = None) -> Batch:
    """Return the batch with a copy of every tensor, on a ``device``, for whoever may write into it."""
    return apply(batch, lambda tensor: tensor.to(device or tensor.device, copy=True))


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Return one batch with the samples of all; BadInput where their tensors differ in kind or trailing dimensions."""
    if not batches:
        raise BadInput("no batches to concatenate: expected at least one")
    for index, batch in enumerate(batches):
        _check_like(batch, batches[0], f"batch {index}")
    try:
        columns = zip(*map(leaves, batches), strict=True)
        return _rebuilt(batches[0], [torch.cat([t.to(column[0].device) for t in column]) for column in columns])
    except RuntimeError as error:
        raise BadInput(f"batches of different shapes cannot become one batch: {error}") from error


def joinable(batches: Sequence[Batch]) -> bool:
    """Return whether the batches can become one: tensors of one kind and of the same trailing dimensions in all."""
    forms = [(type(b), _structure(b), [tensor.shape[1:] for tensor in leaves(b)]) for b in batches]
    return bool(forms) and all(form == forms[0] for form in forms)


def to_float32(batch: Batch, channels_last: bool = True, device: torch.device | None = None) -> Batch:
    """Return the batch, on a ``device``, with every floating-point tensor in float32.

    Images have channels last where that is asked for.
    Its tensors are nowhere the caller's own: a forward may write into what it is given.
    """

    def convert(tensor: Tensor) -> Tensor:
        place = device or tensor.device
        if not tensor.is_floating_point():
            return tensor.to(place, copy=True)
        layout = torch.channels_last if channels_last and tensor.ndim == 4 else torch.preserve_format
        return tensor.to(place, torch.float32, memory_format=layout, copy=True)

    return apply(batch, convert)


def split(batches: Sequence[Batch], share: float, seed: int) -> tuple[list[Batch], list[Batch]]:
    """Return the batches in two random parts, the second with about ``share`` of the samples; none is left empty.

    Samples are drawn one by one where the batches are joinable, otherwise whole batches are. BadInput where there is
    only one to draw.
    """
    whole = concatenate(batches) if joinable(batches) else None
    count = len(batches) if whole is None else batch_size(whole)
    if count < 2:
        raise BadInput(f"{count} sample or batch cannot be split in two: expected at least two")
    order = torch.randperm(count, generator=seeded(CPU, seed), device="cpu")
    second = min(max(round(share * count), 1), count - 1)
    parts = order[second:], order[:second]
    if whole is None:
        first, rest = ([batches[int(index)] for index in rows] for rows in parts)
    else:
        largest = max(map(batch_size, batches))
        first, rest = ([select(whole, piece) for piece in torch.split(rows, largest)] for rows in parts)
    return first, rest


def check(batch: Any, where: str) -> None:
    """Raise BadInput unless ``batch`` is one: tensors only, at least one sample, the same number of samples in each."""
    if not isinstance(batch, (Tensor, tuple, list, Mapping)):
        raise BadInput(f"{where} is {type(batch).__name__}: expected a tensor, a tuple of tensors or a dict of tensors")
    found = columns(batch)
    if not found:
        raise BadInput(f"{where} is an empty {type(batch).__name__}: expected at least one tensor")
    for key, value in found.items():
        place = where if isinstance(batch, Tensor) else f"{where}[{key!r}]"
        if not isinstance(value, Tensor):
            raise BadInput(f"{place} is {type(value).__name__}: expected a tensor")
        if value.ndim == 0:
            raise BadInput(f"{place} is a 0-dimensional tensor: expected samples along dimension 0")
    sizes = {len(value) for value in found.values()}
    if len(sizes) > 1:
        each = ", ".join(f"{len(value)} in [{key!r}]" for key, value in found.items())
        raise BadInput(f"the tensors of {where} disagree on the number of samples: {each}")
    if 0 in sizes:
        raise BadInput(f"{where} holds no samples: expected at least one")


def _structure(batch: Batch) -> list[tuple[Any, torch.dtype, int]]:
    return [(key, tensor.dtype, tensor.ndim) for key, tensor in columns(batch).items()]


def _check_like(batch: Batch, first: Batch, where: str) -> None:
    if isinstance(batch, Tensor) != isinstance(first, Tensor) or _structure(batch) != _structure(first):
        found, expected = (
            ", ".join(f"{key}: {dtype} with {ndim} dims" for key, dtype, ndim in _structure(each))
            for each in (batch, first)
        )
        raise BadInput(f"{where} differs from batch 0 (is it a batch?): found {found}; expected {expected}")


def checked(data: Iterable[Batch], what: str) -> Iterator[Batch]:
    """Yield the batches of ``data``, checked as they pass; BadInput names ``what``, such as "calib", and the batch."""
    if isinstance(data, (Tensor, Mapping, str)) or not isinstance(data, Iterable):
        # a tensor is iterable, but over its samples: taking them for batches would go wrong silently
        raise BadInput(f"{what} is one {type(data).__name__}: expected an iterable of batches, such as a DataLoader")
    first: Batch | None = None
    for index, batch in enumerate(data):
        where = f"{what} batch {index}"
        check(batch, where)
        first = batch if first is None else first
        _check_like(batch, first, where)
        yield batch


def require(samples: int, what: str, minimum: int) -> None:
    """Raise BadInput unless there are at least ``minimum`` samples."""
    if samples < minimum:
        found = f"holds {samples} sample{'s' * (samples != 1)}" if samples else "is empty"
        raise BadInput(f"{what} {found}: expected at least {minimum} samples")


def materialise(data: Iterable[Batch], what: str, minimum: int) -> list[Batch]:
    """Return all batches in a list; BadInput where they are none, or hold fewer than ``minimum`` samples."""
    batches = list(checked(data, what))
    require(sum(map(batch_size, batches)), what, minimum)
    return batches


def disjoint(calib: Iterable[Batch], verify: Iterable[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Return the batches of both as lists; BadInput where either holds too few samples, or they share some."""
    choosing = materialise(calib, "calib", MINIMUM_CALIB)
    judging = materialise(verify, "verify", MINIMUM_VERIFY)
    shared = shared_samples(choosing, judging)
    if shared > SHARED_LIMIT * sum(map(batch_size, judging)):
        raise BadInput(f"{shared} samples of verify are in calib too: expected held-out data")
    return choosing, judging


def first_samples(batches: Iterable[Batch], count: int, at_a_time: int) -> Iterator[Batch]:
    """Yield the first ``count`` samples of ``batches`` or a few more, at most ``at_a_time`` together."""
    seen = 0
    for batch in batches:
        for rows in torch.split(torch.arange(batch_size(batch), device="cpu"), at_a_time):
            if seen >= count:
                return
            yield select(batch, rows)
            seen += len(rows)


def shared_samples(calib: Iterable[Batch], verify: Iterable[Batch]) -> int:
    """Return how many samples of ``verify`` have inputs (not labels) that are byte for byte those of one of ``calib``.

    Sequences of integers are compared without their trailing zeros, so that padding to the longest sequence of a batch
    does not hide a shared text.
    """
    known = {digest for batch in calib for digest in _digests(batch)}
    return sum(digest in known for batch in verify for digest in _digests(batch))


def _digests(batch: Batch) -> Iterator[bytes]:
    given = inputs(batch)
    prepared = []
    for key, tensor in sorted(given.items() if isinstance(given, dict) else [("", given)]):
        sequence = tensor.ndim == 2 and not tensor.is_floating_point() and not tensor.is_complex()
        flat = tensor.detach().cpu().reshape(len(tensor), tensor[0].numel())
        head = f"{key} {tensor.dtype} {() if sequence else tuple(tensor.shape[1:])}\n".encode()
        prepared.append((head, flat.contiguous().view(torch.uint8).numpy(), sequence))  # (B, bytes)
    for index in range(batch_size(batch)):
        state = hashlib.blake2b(digest_size=16)
        for head, rows, sequence in prepared:
            data = rows[index].tobytes()
            state.update(head + (data.rstrip(b"\0") if sequence else data) + b"\n")
        yield state.digest()
