"""Which symbols of which streams belong to which tensor: everything that follows from the entries of an index."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from noworse.codec import BLOCK
from noworse.errors import CorruptFile
from noworse.format.index import CLASSES, SHARED, Entry
from noworse.representation import BYTES, CODES, Signature


@dataclass(slots=True)
class Use:
    """One stream: what it holds (bytes, or scales, or else codes), and the numbers of the tensors in it, in order.

    ``width`` is the number of streams that its tensors lie in.
    """

    is_bytes: bool
    shared: bool
    width: int = 1
    scales: bool = False  # of the rows or columns of the codes in one of the next two streams
    count: int = 0  # symbols
    tensors: list[int] = field(default_factory=list)

    @property
    def blocks(self) -> int:
        """Number of blocks, each of ``BLOCK`` symbols except the last."""
        return -(-self.count // BLOCK)


class Span(NamedTuple):
    """Where a tensor's elements lie: ``start`` counts symbols in its first stream and in the planes that follow.

    With ``classes`` the two streams before the first one hold the scales of its rows and columns.
    """

    first: int
    start: int
    classes: bool = False


def lay_out(entries: Sequence[Entry], most: int) -> tuple[list[Use], list[Span]]:
    """Return the streams in file order, own ones before shared ones, and the span of every tensor.

    CorruptFile where sharing makes no sense, or for more than ``most`` streams or blocks.
    """
    own: list[Use] = []
    shared: dict[int, Use] = {}
    placed: list[tuple[bool, Span]] = []  # whether shared; the first stream's number is that among its like
    for number, entry in enumerate(entries):
        if len(own) + len(shared) > most:
            raise CorruptFile(f"more than {most} streams, for whose checksums or description there is no room")
        width, is_bytes = entry.signature.streams, entry.signature.kind.holds == BYTES
        if entry.stream < SHARED:
            classes = entry.stream == CLASSES
            own += _scales(entry.name, entry.signature, number) if classes else []
            placed.append((False, Span(len(own), 0, classes)))
            own += [Use(is_bytes, False, width, count=entry.signature.size, tensors=[number]) for _ in range(width)]
            continue
        first = entry.stream - SHARED
        planes = [shared.setdefault(first + i, Use(is_bytes, True, width)) for i in range(width)]
        if any((p.is_bytes, p.width, p.count) != (is_bytes, width, planes[0].count) for p in planes):
            raise CorruptFile(f"tensor {entry.name!r} shares a stream with tensors of another kind")
        placed.append((True, Span(first, planes[0].count)))
        for plane in planes:
            plane.count += entry.signature.size
            plane.tensors.append(number)
    if shared and max(shared) != len(shared) - 1:
        raise CorruptFile(f"a tensor uses shared stream {max(shared)}, expected numbers up to {len(shared) - 1}")
    blocks = sum(use.blocks for use in [*own, *shared.values()])
    if blocks > most:
        raise CorruptFile(f"{blocks} blocks in {len(own) + len(shared)} streams, expected at most {most}")
    uses = own + [shared[number] for number in range(len(shared))]
    spans = [span._replace(first=span.first + len(own)) if is_shared else span for is_shared, span in placed]
    return uses, spans


def _scales(name: str, signature: Signature, number: int) -> list[Use]:
    """The streams of scales before the codes of a tensor: one symbol per row, one per column."""
    if signature.kind.holds != CODES or not signature.columns:
        raise CorruptFile(f"tensor {name!r} of shape {signature.shape} has classes, expected codes of a matrix")
    counts = signature.shape[0], signature.columns
    return [Use(False, False, scales=True, count=count, tensors=[number]) for count in counts]
