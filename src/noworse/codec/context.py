"""Context coding: integers to bytes with probabilities that are learned on the way, decision by decision.

A table of frequencies says how often each code occurs in a tensor. A context model asks more: how often does it occur
*here*, in a row of large weights, in a column whose other weights were pruned, beside a positive neighbour in the same
kernel? Nothing about that is stored: encoder and decoder both learn from what has been coded so far. There is no table
to pay for, and no choice of streams: all tensors of a model, tiny ones too, share one model that learns from each.
The price is time: rANS (rans.py) decodes much faster.

The method, which the compressors of the PAQ family made known (Mahoney 2005), has four steps.

1. *Decisions.* A code becomes a few yes/no questions. With n the number of bits of its magnitude: is n = 0? 1? 2? ...;
   then the bits behind the leading one; then the sign. Whatever the step size, few questions are asked.
2. *Contexts.* Each question has several counters, each chosen by another view of the surroundings: the magnitudes next
   to the code, the running means of its row, column, channel and kernel position, and products of these. A counter
   is a probability that moves by 1/(n + 3/2) of the error at its n-th use: fast at first, slowly in the end.
3. *Mixing.* Logistic regression makes one probability of all: p = squash(sum of w_i stretch(p_i)), where
   stretch(p) = ln(p / (1 - p)) and squash is its inverse, with weights w_i learned by gradient descent on the code
   length. Some logarithms of running means, and the neighbours' signed values, are inputs as they are.
   A curve per question, learned as well, corrects what is systematically wrong with the result; the two are averaged.
4. *Binary arithmetic coding* (Rissanen 1976) spends -log2 p bits on the answer, to within 1/65536 of probability.

A weight matrix is rows (output channels) times columns. Kernels are seen as rows x channels x taps, taps being the
positions in the kernel: neighbouring taps of trained kernels tend to agree in size and sign. A matrix that follows a
convolution, or is the first of all, may look at an image: where its columns are a square times the rows of the matrix
before it (1 for the first), that square is its kernel.

All arithmetic is on integers and every rounding is specified (docs/context.md), so that every platform decodes alike.

Byte layout
-----------
A stream of m codes, those of its tensors one after the other, has ceil(m / BLOCK) blocks of bytes, each of BLOCK =
262,144 codes but the last. What was learned passes from block to block, the arithmetic coder starts anew: a block is
its number between 0 and 1 in base 256, without zeros at the end. Missing bytes are zeros, so that any bytes decode to
something; what follows the last byte needed is refused. Streams need a checksum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from noworse.codec import _native
from noworse.codec.rans import BLOCK
from noworse.errors import BadInput, CorruptFile

Shape = tuple[int, ...]


def encode(codes: NDArray[np.int32], shapes: Sequence[Shape]) -> tuple[bytes, ...]:
    """Blocks of codes (n,) int32 in [-2**30, 2**30], those of tensors with these shapes in order; BadInput else."""
    if codes.ndim != 1 or codes.dtype != np.int32:
        raise BadInput(f"codes are {codes.dtype} of shape {codes.shape}, expected int32 and one dimension")
    if (total := sum(map(math.prod, shapes))) != len(codes):
        raise BadInput(f"{len(codes)} codes for tensors of {total} elements")
    try:
        return tuple(_native.encode_context(np.ascontiguousarray(codes), _numbers(shapes)))
    except ValueError as error:
        raise BadInput(str(error)) from error


def decode(blocks: Sequence[bytes | memoryview], shapes: Sequence[Shape]) -> NDArray[np.int32]:
    """Codes (n,) int32 of tensors with these shapes, one after the other; CorruptFile where blocks do not fit them."""
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
    """Rows, columns, taps per channel and taps per line of each tensor that has elements."""
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
