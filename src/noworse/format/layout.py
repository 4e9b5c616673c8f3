"""Which symbols of which streams belong to which tensor: everything that follows from the entries of an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from noworse.codec import BLOCK
from noworse.errors import CorruptFile
from noworse.format.index import OWN, RAW, Entry


@dataclass(slots=True)
class Use:
    """One stream: whether it holds bytes (or codes), and the numbers of the tensors in it, in order."""

    is_bytes: bool
    shared: bool
    count: int = 0  # symbols
    tensors: list[int] = field(default_factory=list)

    @property
    def blocks(self) -> int:
        """Number of blocks, each of ``BLOCK`` symbols except the last."""
        return -(-self.count // BLOCK)


class Span(NamedTuple):
    """Where a tensor's elements lie: ``start`` counts symbols in its first stream and in the planes that follow."""

    first: int
    start: int


@dataclass(frozen=True)
class Layout:
    """The streams in file order and the span of every tensor."""

    uses: list[Use]
    spans: list[Span]


def lay_out(entries: Sequence[Entry], most: int) -> Layout:
    """Number the streams: own ones in file order, then shared ones.

    CorruptFile where sharing makes no sense, or for more than ``most`` streams or blocks.
    """
    own: list[Use] = []
    shared: dict[int, Use] = {}
    placed: list[tuple[bool, int, int]] = []  # shared, number among its like, start
    for number, entry in enumerate(entries):
        if len(own) + len(shared) > most:
            raise CorruptFile(f"more than {most} streams, for whose checksums or description there is no room")
        width, is_bytes = entry.signature.streams, entry.signature.kind == RAW
        if entry.stream == OWN:
            placed.append((False, len(own), 0))
            own += [Use(is_bytes, False, entry.signature.size, [number]) for _ in range(width)]
            continue
        planes = [shared.setdefault(entry.stream - 1 + i, Use(is_bytes, True)) for i in range(width)]
        if any(plane.is_bytes != is_bytes or plane.count != planes[0].count for plane in planes):
            raise CorruptFile(f"tensor {entry.name!r} shares a stream with tensors of another kind")
        placed.append((True, entry.stream - 1, planes[0].count))
        for plane in planes:
            plane.count += entry.signature.size
            plane.tensors.append(number)
    if shared and max(shared) != len(shared) - 1:
        raise CorruptFile(f"a tensor uses shared stream {max(shared)}, expected numbers up to {len(shared) - 1}")
    blocks = sum(use.blocks for use in [*own, *shared.values()])
    if blocks > most:
        raise CorruptFile(f"{blocks} blocks in {len(own) + len(shared)} streams, expected at most {most}")
    uses = own + [shared[number] for number in range(len(shared))]
    return Layout(uses, [Span(first + len(own) * is_shared, start) for is_shared, first, start in placed])
