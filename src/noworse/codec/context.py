"""Context coding: integers to bytes with probabilities that are learned on the way, as docs/context.md says.

Nothing but the codes is stored: encoder and decoder learn alike from what has been coded so far. The codes of a
stream's tensors follow one another, in ceil(n / BLOCK) blocks of bytes. Any bytes decode to something: streams need a
checksum.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from noworse.codec import _native
from noworse.codec.rans import BLOCK
from noworse.errors import BadInput, CorruptFile

Shape = tuple[int, ...]


def encode(codes: NDArray[np.int32], shapes: Sequence[Shape]) -> tuple[bytes, ...]:
    """Return blocks of codes (n,) int32 in [-2**30, 2**30] of tensors with these shapes, in order; BadInput else."""
    if codes.ndim != 1 or codes.dtype != np.int32:
        raise BadInput(f"codes are {codes.dtype} of shape {codes.shape}, expected int32 and one dimension")
    if (total := sum(map(math.prod, shapes))) != len(codes):
        raise BadInput(f"{len(codes)} codes for tensors of {total} elements")
    try:
        return tuple(_native.encode_context(np.ascontiguousarray(codes), _numbers(shapes)))
    except ValueError as error:
        raise BadInput(str(error)) from error


def decode(blocks: Sequence[bytes | memoryview], shapes: Sequence[Shape]) -> NDArray[np.int32]:
    """Return codes (n,) int32 of tensors with these shapes, in order; CorruptFile where blocks do not fit them."""
    count = sum(map(math.prod, shapes))
    if len(blocks) != -(-count // BLOCK):
        raise CorruptFile(f"a stream of {count} symbols has {len(blocks)} blocks, expected {-(-count // BLOCK)}")
    out = np.empty(count, np.int32)
    try:
        _native.decode_context(tuple(map(bytes, blocks)), out, _numbers(shapes))
    except ValueError as error:
        raise CorruptFile(f"a context-coded stream is damaged: {error}") from error
    return out


def geometries(shapes: Sequence[Shape]) -> Iterator[tuple[int, int, int, int]]:
    """Yield rows, columns, taps per channel and taps per line of each tensor that has elements."""
    before = 1  # rows of the matrix before
    for shape in shapes:
        size = math.prod(shape)
        if size == 0:
            continue
        first = next((i for i, extent in enumerate(shape) if extent > 1), len(shape))
        shape = shape[first:]
        if len(shape) < 2:
            yield 1, size, 1, 1
            continue
        rows, columns, taps, width = shape[0], size // shape[0], math.prod(shape[2:]), 1
        if len(shape) > 2:
            width = shape[-1]
        elif columns % before == 0 and math.isqrt(columns // before) ** 2 == columns // before:
            taps = columns // before
            width = math.isqrt(taps)
        yield rows, columns, taps, width
        before = rows


def _numbers(shapes: Sequence[Shape]) -> NDArray[np.uint64]:
    return np.array(list(geometries(shapes)), np.uint64).reshape(-1)
